"""SPF: the records of our domains let our addresses send (RFC 7208)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mta.authn.results import Result as Verdict
from mta.authn.spf import SpfResult, check_host
from mta.startup.answers import line, quoted
from mta.startup.claims import Site
from mta.startup.identity import our_addresses
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World

PREFIX = b"v=spf1"


async def spf(site: Site, world: World) -> list[Result]:
    """Each domain with each of our addresses, as a receiver would evaluate it."""
    addresses, answers = await our_addresses(site, world)
    if world.resolver is None or not addresses:
        reasons = [answer.reason for answer in answers if not answer.usable]
        reason = f"the address of {site.hostname}: {reasons[0] if reasons else 'none'}"
        return [unknown(domain, f"TXT {domain}", reason) for domain in site.domains]
    return await asyncio.gather(*(_domain(site, world, domain, addresses) for domain in site.domains))


async def _domain(site: Site, world: World, domain: str, addresses: Sequence[str]) -> Result:
    assert world.resolver is not None
    answer = await world.ask(domain, "TXT")
    deadline = world.dns_deadline
    found = await asyncio.gather(
        *(
            check_host(world.resolver, address, "postmaster", domain, site.hostname, deadline=deadline)
            for address in addresses
        )
    )
    records = [text.decode("ascii", "backslashreplace") for text in answer.texts if _is_spf(text)]
    return judge_spf(domain, records[0] if records else "", dict(zip(addresses, found, strict=True)))


def _is_spf(text: bytes) -> bool:
    return text[: len(PREFIX)].lower() == PREFIX and text[len(PREFIX) : len(PREFIX) + 1] in (b"", b" ")


def judge_spf(domain: str, record: str, found: dict[str, SpfResult]) -> Result:
    """What receivers say to each of our addresses; `record` is what is published, "" for nothing."""
    asked = f"TXT {domain}"
    verdicts = {address: one.result.result for address, one in found.items()}
    lines = "; ".join(
        f"{address}: {one.result.result.value} ({one.result.reason})" for address, one in found.items()
    )
    if Verdict.TEMPERROR in verdicts.values():
        return unknown(domain, asked, lines)
    bad = [address for address, verdict in verdicts.items() if verdict is not Verdict.PASS]
    if not bad:
        return ok(domain, asked, lines)
    return wrong(
        domain,
        asked,
        lines if record else "no SPF record",
        line(domain, "TXT", quoted(proposal(record, bad))),
    )


def proposal(record: str, addresses: Sequence[str]) -> str:
    """A record that lets `addresses` send: the published one with them, or a new one."""
    terms = record.split()[1:] or ["mx", "-all"]
    if not record:
        return "v=spf1 " + " ".join(terms)
    added = [("ip6:" if ":" in address else "ip4:") + address for address in addresses]
    return " ".join(["v=spf1", *added, *terms])
