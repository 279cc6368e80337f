"""Our certificates: usable, in time, for our names, and trusted by the programs that check them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta

from mta import assembly, config
from mta.net.certcheck import load
from mta.net.certificates import Certificate, CertificateError, CertificateFiles, covers, read_file
from mta.net.tls import ServerTls, client_context
from mta.startup.claims import Site
from mta.startup.probe import Seen, handshake
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World

SOON = timedelta(days=7)
"""Before its end a certificate should have been renewed: the usual programs do it a month before."""


def listener_tls(
    site: Site, protocols: Collection[str] = ("smtp", "submission")
) -> Iterator[tuple[config.Listener, ServerTls | CertificateError]]:
    """What each listener with TLS of these protocols serves, or why it cannot."""
    for listener in site.settings.listener:
        if listener.tls == "none" or listener.protocol not in protocols:
            continue
        try:
            yield (
                listener,
                ServerTls(
                    assembly.certificates(site.settings, listener),
                    assembly.tls_settings(site.settings, listener),
                ),
            )
        except CertificateError as error:
            yield listener, error


async def certificates(site: Site, world: World) -> list[Result]:
    """Each certificate by itself, then whether one covers our name."""
    settings = site.settings
    if not settings.certificates:
        return [no_certificate(site.hostname)]
    now = datetime.fromtimestamp(world.now(), UTC)
    results: list[Result] = []
    loaded: list[Certificate] = []
    for name, one in settings.certificates.items():
        files = CertificateFiles(name, one.chain, one.key, one.names)
        try:
            certificate = load(files, now, read_file)
        except CertificateError as error:
            results.append(judge_unusable(name, one.chain, str(error)))
        else:
            loaded.append(certificate)
            results.append(judge_certificate(certificate, one.chain, now))
    if loaded:
        results.append(judge_names(site.hostname, loaded))
    return results


def no_certificate(hostname: str) -> Result:
    """Nothing to serve."""
    return wrong(
        hostname, "[certificates.NAME]", "there is none, so mail comes in clear",
        f'get one for {hostname}, then: [certificates.main] chain = "fullchain.pem" key = "privkey.pem"',
    )  # fmt: skip


def judge_unusable(name: str, chain: str, reason: str) -> Result:
    """A certificate that cannot be served."""
    return wrong(
        f"certificates.{name}", chain, reason, f"renew it, or mend the files in [certificates.{name}]"
    )


def judge_certificate(certificate: Certificate, chain: str, now: datetime) -> Result:
    """One that can be served: whether it is about to end."""
    subject, end = f"certificates.{certificate.name}", f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"
    found = f"for {', '.join(certificate.names)}; ends on {end}"
    if certificate.not_after - now < SOON:
        return unknown(subject, chain, f"{found}, and has not been renewed", "renew it", settled=True)
    return ok(subject, chain, found)


def judge_names(hostname: str, loaded: list[Certificate]) -> Result:
    """Whether one of the certificates covers our name."""
    asked = "names of the certificates"
    if any(covers(certificate.names, hostname) for certificate in loaded):
        return ok(hostname, asked, "covered")
    names = ", ".join(dict.fromkeys(name for certificate in loaded for name in certificate.names))
    return wrong(hostname, asked, f"{names}: not {hostname}", f"get a certificate for {hostname}")


async def chain(site: Site, world: World) -> list[Result]:
    """What a client that verifies says to the certificate that it is served for our name."""
    results: list[Result] = []
    authorities = site.settings.checks.tls_ca
    try:
        context = client_context("verify", ca_file=authorities or None)
    except CertificateError as error:
        return [
            wrong("checks.tls_ca", authorities, str(error), "[checks] tls_ca: a file with authorities (PEM)")
        ]
    for listener, tls in listener_tls(site):
        if isinstance(tls, CertificateError):
            results.append(unknown(listener.name, "handshake in memory", str(tls), settled=True))
            continue
        results.append(judge_chain(listener.name, site.hostname, handshake(tls, context, site.hostname)))
    return results or [unknown(site.hostname, "handshake in memory", "no listener has TLS", settled=True)]


def judge_chain(listener: str, hostname: str, seen: Seen) -> Result:
    """Whether the certificate is trusted."""
    asked = f"handshake in memory for {hostname}"
    if not seen.error:
        return ok(listener, asked, "trusted")
    return wrong(
        listener, asked, seen.error,
        "a certificate of a public authority, with its intermediate certificates in `chain`;"
        ' for a private authority: [checks] tls_ca = "FILE"',
    )  # fmt: skip
