"""Our name: fit to be published, with an address that is ours, which points back to it.

RFC 5321 section 4.1.4: the name of EHLO must be resolvable; many receivers also want the reverse (RFC 8601
section 2.7.3, "iprev").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from mta.net.resolver.base import Answer
from mta.startup.answers import line, name_of, shown, unusable, values
from mta.startup.claims import Site, is_special_use
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World


async def identity(site: Site, world: World) -> list[Result]:
    """The name itself; nobody is asked."""
    return [judge_name(site.hostname)]


def judge_name(hostname: str) -> Result:
    """Whether others can look a name up."""
    asked = "identity.hostname"
    if is_special_use(hostname):
        return wrong(
            hostname, asked, "nobody else can look up a name like this (RFC 6761)",
            'set identity.hostname to a name in a zone of yours, such as "mx.your-domain"',
        )  # fmt: skip
    return ok(hostname, asked, "a name that can be published")


async def our_addresses(site: Site, world: World) -> tuple[list[str], list[Answer]]:
    """The addresses that the world sees, and the answers when the DNS had to be asked for them."""
    if site.addresses:
        return list(site.addresses), []
    answers = list(await world.addresses(site.hostname))
    return [record.to_text() for answer in answers for record in answer.records], answers


async def forward(site: Site, world: World) -> list[Result]:
    """The address records of our name."""
    a, aaaa = await world.addresses(site.hostname)
    return [judge_forward(site.hostname, site.addresses, a, aaaa, world.is_ours)]


def judge_forward(
    hostname: str, claimed: Sequence[str], a: Answer, aaaa: Answer, is_ours: Callable[[str], bool]
) -> Result:
    """Whether the address records are ours; `claimed` is what the administrator says we have."""
    asked = f"A and AAAA {hostname}"
    for answer in (a, aaaa):
        found = unusable(hostname, asked, answer)
        if found is not None:
            return found
    addresses = values(a) + values(aaaa)
    if not addresses:
        example = claimed or ("192.0.2.1",)
        lines = [line(hostname, "AAAA" if ":" in each else "A", each) for each in example]
        note = "" if claimed else " (with your address)"
        return wrong(hostname, asked, "no address record", "\n".join(lines) + note)
    known = {str(ip_address(each)) for each in addresses}
    if claimed:
        lacking = [each for each in claimed if each not in known]
        if lacking:
            lines = [line(hostname, "AAAA" if ":" in each else "A", each) for each in lacking]
            return wrong(
                hostname,
                asked,
                f"{', '.join(addresses)}; {', '.join(lacking)} is not there",
                "\n".join(lines),
            )
        return ok(hostname, asked, ", ".join(addresses))
    strange = [each for each in sorted(known) if not is_ours(each)]
    if not strange:
        return ok(hostname, asked, ", ".join(addresses))
    listed = ", ".join(f'"{each}"' for each in sorted(known))
    return unknown(
        hostname, asked, f"{', '.join(strange)} is no address of this machine",
        f"mend the record; or, behind NAT, in [checks]: addresses = [{listed}]", settled=True,
    )  # fmt: skip


async def reverse(site: Site, world: World) -> list[Result]:
    """What our addresses point back to."""
    addresses, answers = await our_addresses(site, world)
    if not addresses:
        asked = f"A and AAAA {site.hostname}"
        for answer in answers:
            result = unusable(site.hostname, asked, answer)
            if result is not None:
                return [result]
        return [unknown(site.hostname, asked, "no address, so nothing points back")]
    names = [ip_address(address).reverse_pointer for address in addresses]
    found = await asyncio.gather(*(world.ask(name, "PTR") for name in names))
    return [
        judge_reverse(site.hostname, address, name, answer)
        for address, name, answer in zip(addresses, names, found, strict=True)
    ]


def judge_reverse(hostname: str, address: str, name: str, answer: Answer) -> Result:
    """Whether `address`, under its `name` in the reverse zone, points back to us."""
    asked = f"PTR {name}"
    found = unusable(address, asked, answer)
    if found is not None:
        return found
    mend = line(name, "PTR", f"{hostname}.") + " (whoever gives you the address publishes it)"
    if not answer.records:
        return wrong(address, asked, shown(answer), mend)
    names = [name_of(text) for text in values(answer)]
    if hostname not in names:
        return wrong(address, asked, ", ".join(names), mend)
    return ok(address, asked, ", ".join(names))
