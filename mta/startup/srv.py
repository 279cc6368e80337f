"""SRV: mail programs find submission and IMAP, or learn that there is none (RFC 6186, RFC 8314 section 5.1),
and ManageSieve (RFC 5804 section 1.8), which may be without.

A target "." says that the service is deliberately absent. Any other target must have a signed address and a
certificate that is trusted for its name.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from dns.rdtypes.IN.SRV import SRV

from mta.net.certificates import CertificateError, covers
from mta.net.resolver.base import Answer, Status
from mta.net.tls import ServerTls, client_context
from mta.startup.answers import line, name_of, unusable, values
from mta.startup.certificates import listener_tls
from mta.startup.claims import Role, Site, public_ports
from mta.startup.probe import Opening, Seen, probe
from mta.startup.result import Outcome, Result, ok, unknown, wrong
from mta.startup.world import World

ABSENT = "0 0 0 ."


@dataclass(slots=True, frozen=True)
class Kind:
    """One of the services that mail programs look for."""

    label: str
    port: int
    role: Role | None
    """What it is here; None: another server's."""
    opening: Opening
    optional: bool = False
    """No record is no mistake: programs look at the domain itself then."""


KINDS = (
    Kind("_submission._tcp", 587, "submission", "smtp"),
    Kind("_submissions._tcp", 465, "submissions", "implicit"),
    Kind("_imap._tcp", 143, None, "imap"),
    Kind("_imaps._tcp", 993, None, "implicit"),
    Kind("_sieve._tcp", 4190, "sieve", "sieve", optional=True),
)


async def srv(site: Site, world: World) -> list[Result]:
    """Each service of each domain."""
    served = {listener.name: tls for listener, tls in listener_tls(site)}
    looks = [_look(site, world, served, domain, kind) for domain in site.domains for kind in KINDS]
    return [result for result in await asyncio.gather(*looks) if result is not None]


async def _look(
    site: Site, world: World, served: dict[str, ServerTls | CertificateError], domain: str, kind: Kind
) -> Result | None:
    name = f"{kind.label}.{domain}"
    answer = await world.ask(name, "SRV")
    if kind.optional and answer.usable and not answer.records:
        return None
    result = judge_records(site, domain, kind, answer)
    if result is not None:
        return result
    findings = []
    for record in answer.records:
        assert isinstance(record, SRV)
        host, port = name_of(record.target.to_text()), record.port
        a, aaaa = await world.addresses(host)
        seen = await _certificate(site, world, served, kind, host, port, [*values(a), *values(aaaa)])
        findings.append(judge_target(name, host, port, a, aaaa, seen))
    bad = [finding for finding in findings if finding.outcome is not Outcome.OK]
    return bad[0] if bad else findings[0]


def proposal(site: Site, domain: str, kind: Kind) -> str:
    """The line to publish for a service."""
    name = f"{kind.label}.{domain}"
    if kind.role is None:
        return (
            line(name, "SRV", f"0 1 {kind.port} {site.hostname}.")
            + f" or, without it: {line(name, 'SRV', ABSENT)}"
        )
    ports = site.ports.get(kind.role, ())
    return line(name, "SRV", f"0 1 {ports[0]} {site.hostname}." if ports else ABSENT)


def judge_records(site: Site, domain: str, kind: Kind, answer: Answer) -> Result | None:
    """What can be said without a look at the targets; None: look at them."""
    name = f"{kind.label}.{domain}"
    asked = f"SRV {name}"
    found = unusable(domain, asked, answer)
    if found is not None:
        return found
    mend = proposal(site, domain, kind)
    records = [record for record in answer.records if isinstance(record, SRV)]
    if not records:
        return wrong(domain, asked, "no SRV record", mend)
    text = ", ".join(values(answer))
    if any(record.target.to_text() == "." for record in records):
        if len(records) > 1:
            return wrong(domain, asked, f"{text}: the target . stands alone or not at all (RFC 6186)", mend)
        if kind.role in ("submissions", "sieve") and site.ports.get(kind.role):
            return wrong(domain, asked, f"{text}: but we offer it", mend)
        return ok(domain, asked, f"{text}: deliberately absent")
    ports = site.ports.get(kind.role, ()) if kind.role is not None else None
    for record in records:
        ours = name_of(record.target.to_text()) == site.hostname
        if ours and ports is not None and record.port not in ports:
            return wrong(domain, asked, f"{text}: no listener for {kind.role} has port {record.port}", mend)
    return None


async def _certificate(
    site: Site,
    world: World,
    served: dict[str, ServerTls | CertificateError],
    kind: Kind,
    host: str,
    port: int,
    addresses: list[str],
) -> Seen:
    """What a mail program sees at a target; our own ports are judged by the certificates themselves."""
    if host == site.hostname and kind.role is not None:
        if kind.role == "sieve":
            return _of_managesieve(site, host, port)
        for service in site.services:
            tls = served.get(service.listener)
            if service.role == kind.role and service.port == port and isinstance(tls, ServerTls):
                return _served(tls, host)
        return Seen(error="no certificate")
    try:
        context = client_context("verify", ca_file=site.settings.checks.tls_ca or None)
    except CertificateError as error:
        return Seen(error=str(error), reached=False)
    seen = Seen(error="no address", reached=False)
    for address in addresses:
        seen = await probe(address, port, kind.opening, host, context, world.seconds)
        if seen.reached:
            break
    return seen


def _of_managesieve(site: Site, host: str, port: int) -> Seen:
    """What our own listener of ManageSieve shows."""
    for listener, tls in listener_tls(site, ("managesieve",)):
        if port in public_ports(listener).values():
            if not isinstance(tls, ServerTls):
                return Seen(error=str(tls))
            return _served(tls, host)
    return Seen(error="no certificate")


def _served(tls: ServerTls, host: str) -> Seen:
    """What we serve to who asks for `host`."""
    names = tls.certificate_for(host).names
    return Seen(error="" if covers(names, host) else f"the certificate is for {', '.join(names)}")


def judge_target(name: str, host: str, port: int, a: Answer, aaaa: Answer, seen: Seen) -> Result:
    """One target: its address must be there and signed, its certificate trusted."""
    subject = name.partition("._tcp.")[2]
    asked = f"SRV {name} -> {host} port {port}"
    for answer in (a, aaaa):
        result = unusable(subject, asked, answer)
        if result is not None:
            return result
    if not a.records and not aaaa.records:
        return wrong(
            subject, asked, f"{host} has no address", line(host, "A", "192.0.2.1") + " (with its address)"
        )
    if Status.SECURE not in (a.status, aaaa.status):
        return wrong(subject, asked, f"the address of {host} is not signed", f"sign the zone of {host}")
    if not seen.reached:
        return unknown(subject, asked, seen.error, f"is the server at {host} port {port} running?")
    if seen.error:
        return wrong(subject, asked, seen.error, f"a certificate for {host} at port {port}")
    return ok(subject, asked, "signed, and its certificate is good")
