"""MX: mail of our domains comes to us (RFC 5321 section 5)."""

from __future__ import annotations

import asyncio

from mta.net.resolver.base import Answer
from mta.startup.answers import line, name_of, unusable, values
from mta.startup.claims import Site
from mta.startup.result import Result, ok, wrong
from mta.startup.world import World


async def mx(site: Site, world: World) -> list[Result]:
    """Each of our domains."""
    answers = await asyncio.gather(*(world.ask(domain, "MX") for domain in site.domains))
    return [
        judge_mx(domain, site.hostname, answer) for domain, answer in zip(site.domains, answers, strict=True)
    ]


def exchanges(answer: Answer) -> list[str]:
    """The hosts of MX records, by preference."""
    records = sorted(values(answer), key=lambda text: int(text.split()[0]))
    return [name_of(text.split()[1]) for text in records]


def judge_mx(domain: str, hostname: str, answer: Answer) -> Result:
    """Whether the MX records of a domain name us."""
    asked = f"MX {domain}"
    found = unusable(domain, asked, answer)
    if found is not None:
        return found
    mend = line(domain, "MX", f"10 {hostname}.")
    hosts = exchanges(answer)
    if not hosts:
        return wrong(domain, asked, "no MX record", mend)
    if hosts == ["."]:
        return wrong(domain, asked, "a null MX: the domain takes no mail (RFC 7505)", mend)
    if hostname not in hosts:
        return wrong(domain, asked, f"{', '.join(hosts)}; {hostname} is not among them", mend)
    return ok(domain, asked, ", ".join(hosts))
