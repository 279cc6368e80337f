"""TLSA: the records of each port match the certificate that is served there (RFC 6698, 7671, 7672)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mta.delivery.security.der import public_key_info
from mta.delivery.security.requirement import Tlsa
from mta.delivery.security.tlsa import DANE_EE, matches, read_tlsa, usable
from mta.net.certificates import Certificate, CertificateError, covers
from mta.net.resolver.base import Answer, Status
from mta.net.tls import ServerTls
from mta.startup.answers import line, name_of, unusable
from mta.startup.certificates import listener_tls
from mta.startup.claims import Site
from mta.startup.mx import exchanges
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World

Ders = Sequence[bytes]
"""A chain of certificates, the server's own first."""


async def tlsa(site: Site, world: World) -> list[Result]:
    """Each port and each of our names."""
    looks = []
    results: list[Result] = []
    names = await our_names(site, world)
    for listener, tls in listener_tls(site):
        if isinstance(tls, CertificateError):
            results.append(unknown(listener.name, "TLSA", str(tls), settled=True))
            continue
        ports = {service.port for service in site.services if service.listener == listener.name}
        looks += [(port, name, tls) for port in sorted(ports) for name in names]
    answers = await asyncio.gather(*(world.ask(tlsa_name(port, name), "TLSA") for port, name, _ in looks))
    for (port, name, tls), answer in zip(looks, answers, strict=True):
        results.append(judge_tlsa(tlsa_name(port, name), ders(tls.certificate_for(name)), answer))
    return results or [wrong(site.hostname, "TLSA", "no listener has TLS", "[certificates.NAME]")]


async def our_names(site: Site, world: World) -> list[str]:
    """Our host name, and other names in MX records of our domains that a certificate of ours covers."""
    names = [site.hostname]
    covered = [tls for _, tls in listener_tls(site) if isinstance(tls, ServerTls)]
    for answer in await asyncio.gather(*(world.ask(domain, "MX") for domain in site.domains)):
        for host in exchanges(answer):
            if any(covers(tls.names, host) for tls in covered):
                names.append(host)
    return list(dict.fromkeys(map(name_of, names)))


def tlsa_name(port: int, host: str) -> str:
    """Where the records of a port are."""
    return f"_{port}._tcp.{host}"


def ders(certificate: Certificate) -> list[bytes]:
    """The chain of a certificate as it is sent."""
    return [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(certificate.pem)]


def is_for(record: Tlsa, chain: Ders) -> bool:
    """Whether a record is for this chain: usage 3 for the server's certificate, 2 for one above it."""
    return any(matches(record, der) for der in (chain[:1] if record.usage == DANE_EE else chain[1:]))


def tlsa_value(der: bytes) -> str:
    """The record that RFC 7672 section 3.1.1 recommends: DANE-EE, key, SHA-256."""
    return f"3 1 1 {sha256(public_key_info(der)).hexdigest()}"


def judge_tlsa(name: str, chain: Ders, answer: Answer) -> Result:
    """Whether what is published at `name` lets a sender believe the certificate."""
    asked = f"TLSA {name}"
    found = unusable(name, asked, answer)
    if found is not None:
        return found
    mend = line(name, "TLSA", tlsa_value(chain[0]))
    records = read_tlsa(answer.records)
    if not records:
        return wrong(name, asked, "no TLSA record", mend)
    good = [record for record in usable(records) if is_for(record, chain)]
    texts = ", ".join(
        f"{one.usage} {one.selector} {one.matching} {one.data.hex()[:16]}..." for one in records
    )
    if not good:
        # Those of the certificate before, as long as a resolver has them: we are believed after that only.
        return wrong(name, asked, f"{texts}: none matches the certificate", mend, passing=answer.ttl)
    if answer.status is not Status.SECURE:
        return wrong(
            name, asked, "the records are not signed, so that nobody may use them", f"sign the zone of {name}"
        )
    if len(good) < len(records):
        return ok(name, asked, f"{texts}: {len(good)} of {len(records)} match (as in a rollover)")
    return ok(name, asked, texts)
