"""The resolver is honest: it vouches for what is signed and gives no answer for what is signed wrongly.

Without the negative control a resolver that sets the AD bit blindly would pass, and DANE would be theatre.
The names of both controls are others', so what they do not answer is *unknown*.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

from mta.config.dns import DnsServer
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.system import system_resolvers
from mta.startup.answers import shown
from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World

LOCAL = 'run Unbound on this machine; [dns] resolvers = ["127.0.0.1"]'
VALIDATE = "let the resolver validate: Unbound's `auto-trust-anchor-file`, BIND's `dnssec-validation auto`"


async def resolver(site: Site, world: World) -> list[Result]:
    """The place of the resolver, and both controls."""
    servers = site.settings.dns.resolvers
    place = judge_servers(servers)
    if world.resolver is None:
        return [place]
    names = site.settings.security
    questions = [(name, "SOA") for name in names.signed_names] + [(name, "A") for name in names.broken_names]
    answers = await asyncio.gather(*(world.ask(*question) for question in questions))
    controls = dict(zip(questions, answers, strict=True))
    results = [place]
    signed = {name: controls[name, "SOA"] for name in names.signed_names}
    if signed:
        results.append(judge_positive(signed))
    return results + [judge_negative(name, controls[name, "A"]) for name in names.broken_names]


def judge_servers(servers: Sequence[DnsServer]) -> Result:
    """Whether the resolvers can be believed: what does not cross a network can, or is known by its key."""
    asked = "[dns] resolvers"
    servers = [server for one in servers for server in (_of_the_system() if not one.host else [one])]
    if not servers:
        return wrong("resolver", asked, "none is configured, so nothing can be asked of the DNS", LOCAL)
    far = [str(server) for server in servers if not server.tls and not ip_address(server.host).is_loopback]
    if far:
        return wrong(
            "resolver", asked, f"{', '.join(far)}: not on this machine, so its word on DNSSEC can be forged",
            LOCAL,
        )  # fmt: skip
    return ok("resolver", asked, ", ".join(map(str, servers)))


def _of_the_system() -> list[DnsServer]:
    return [DnsServer(address.host, address.port) for address in system_resolvers()]


def judge_positive(signed: dict[str, Answer]) -> Result:
    """Whether it vouches for a name that is signed; one of several is enough."""
    asked = ", ".join(f"SOA {name}" for name in signed)
    secure = [name for name, answer in signed.items() if answer.status is Status.SECURE]
    if secure:
        return ok("positive control", asked, f"{', '.join(secure)}: validated")
    insecure = [name for name, answer in signed.items() if answer.status is Status.INSECURE]
    if insecure:
        return wrong("positive control", asked, f"{', '.join(insecure)}: answered, not validated", VALIDATE)
    reasons = "; ".join(f"{name}: {answer.reason or answer.status.value}" for name, answer in signed.items())
    return unknown("positive control", asked, reasons, "is the resolver running, and does it reach the net?")


def judge_negative(name: str, answer: Answer) -> Result:
    """Whether it gives no answer for a name that is signed wrongly."""
    asked = f"A {name}"
    match answer.status:
        case Status.BOGUS:
            return ok("negative control", asked, "refused, as it should be")
        case Status.FAIL:
            return unknown("negative control", asked, answer.reason or "no answer")
    if not answer.exists:
        return unknown("negative control", asked, "no such name", "[security] broken_names: another name")
    return wrong("negative control", asked, f"{shown(answer)}: a wrong signature is believed", VALIDATE)
