"""DMARC: our domains tell what to do with mail that is not theirs (RFC 9989)."""

from __future__ import annotations

import asyncio

from mta.authn.dmarcrecord import is_dmarc, parse_record
from mta.authn.dmarcwalk import walk
from mta.net.resolver.base import Answer
from mta.startup.answers import line, quoted, shown, unusable
from mta.startup.claims import Site
from mta.startup.result import Result, ok, wrong
from mta.startup.world import World


async def dmarc(site: Site, world: World) -> list[Result]:
    """Each of our domains; a record above it that it inherits will do."""
    return await asyncio.gather(*(_domain(site, world, domain) for domain in site.domains))


async def _domain(site: Site, world: World, domain: str) -> Result:
    answer = await world.ask(f"_dmarc.{domain}", "TXT")
    own = [text for text in answer.texts if is_dmarc(text)]
    if answer.usable and not own and world.resolver is not None:
        above = await walk(world.resolver, domain, world.dns_deadline)
        if above.inherited:
            return ok(domain, f"TXT _dmarc.{domain}", f"inherits the record of {above.policy_domain}")
    return judge_dmarc(domain, site.postmaster, answer)


def judge_dmarc(domain: str, postmaster: str, answer: Answer) -> Result:
    """Whether there is one record that says what it should."""
    name = f"_dmarc.{domain}"
    asked = f"TXT {name}"
    found = unusable(domain, asked, answer)
    if found is not None:
        return found
    mend = line(name, "TXT", quoted(f"v=DMARC1; p=quarantine; rua=mailto:{postmaster}"))
    records = [text for text in answer.texts if is_dmarc(text)]
    if not records:
        return wrong(domain, asked, shown(answer) if answer.records else "no DMARC record", mend)
    if len(records) > 1:
        return wrong(
            domain, asked, f"{len(records)} records, so that none counts (RFC 9989 section 4.7)", mend
        )
    record = parse_record(records[0])
    text = records[0].decode("ascii", "backslashreplace")
    if record is None or not record.applies:
        return wrong(domain, asked, f"{text}: asks for nothing", mend)
    if record.problems:
        return wrong(domain, asked, f"{text}: {'; '.join(record.problems)}", mend)
    noted = f" ({'; '.join(record.obsolete)})" if record.obsolete else ""
    return ok(domain, asked, f"{text}{noted}")
