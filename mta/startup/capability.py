"""The capability record of our host: there, and true (docs/capability-record.md).

A promise that is not kept makes careful senders wait, so a record that promises too much is wrong; one that
promises less than it could is not.
"""

from __future__ import annotations

from mta import assembly
from mta.delivery.security.capability import Capabilities, ours, owner_name, read_capabilities
from mta.net.resolver.base import Answer, Status
from mta.startup.answers import line, shown, unusable
from mta.startup.claims import Site
from mta.startup.result import Result, ok, wrong
from mta.startup.world import World


async def capability(site: Site, world: World) -> list[Result]:
    """The record at our name, for port 25."""
    answer = await world.ask(owner_name(site.hostname), "SVCB")
    return [judge_capability(site.hostname, our_capabilities(site), answer)]


def our_capabilities(site: Site) -> Capabilities:
    """What our listeners for other servers keep, all of them."""
    settings = site.settings
    listeners = [listener for listener in settings.listener if listener.protocol == "smtp"]
    offers = [assembly.server_settings(settings, listener, 0.0).offered for listener in listeners]
    return ours(
        starttls=bool(listeners) and all(listener.tls != "none" for listener in listeners),
        minimum_version=settings.tls.minimum_version,
        offered=frozenset.intersection(*offers) if offers else (),
        size=settings.message.max_size,
        recipients=settings.message.max_recipients,
    )


def judge_capability(hostname: str, true: Capabilities, answer: Answer) -> Result:
    """Whether the record promises what is `true`."""
    name = owner_name(hostname)
    asked = f"SVCB {name}"
    found = unusable(hostname, asked, answer)
    if found is not None:
        return found
    mend = line(name, "SVCB", true.rdata())
    told = read_capabilities(answer.records)
    if told is None:
        return wrong(hostname, asked, "no capability record", mend)
    excess = []
    if told.tls_floor > true.tls_floor:
        excess.append(f"TLS {told.tls_floor}")
    if told.require_tls and not true.require_tls:
        excess.append("REQUIRETLS")
    excess += sorted(set(told.ehlo) - set(true.ehlo))
    if told.size > true.size:
        excess.append(f"messages of {told.size} octets")
    if excess:
        return wrong(hostname, asked, f"it promises {', '.join(excess)}, which we do not keep", mend)
    if answer.status is not Status.SECURE:
        return wrong(
            hostname, asked, "the record is not signed: nobody may use it", f"sign the zone of {name}"
        )
    return ok(hostname, asked, shown(answer))
