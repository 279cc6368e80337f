"""iprev: whether the name of a client leads back to its address (RFC 8601 section 3).

found = await check(resolver, "192.0.2.1", deadline=loop.time() + 5)
found.name               # "mx.example.org" when it does
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass

from mta.authn.results import MethodResult, Result
from mta.authn.spfengine import plain_records
from mta.net.resolver.base import Answer, Resolver

MAX_NAMES = 10
"""Names of one address that are looked up; further ones are not (as in RFC 7208 section 4.6.4)."""


@dataclass(slots=True, frozen=True)
class IprevResult:
    """What the reverse DNS of a client says."""

    result: MethodResult
    name: str = ""
    """The first name that leads back, lower case, without the final dot; "" when none does."""
    secure: bool = False
    """True when DNSSEC vouches for both ways."""
    reverse: str = ""
    """The first name of the address, whether it leads back or not; "" when there is none."""

    @property
    def passed(self) -> bool:
        """True for "pass"."""
        return self.result.passed


async def check(resolver: Resolver, client: str, *, deadline: float) -> IprevResult:
    """Look up the names of `client`, an IP address as text, and their addresses.

    PASS: one leads back. FAIL: there are names, none leads back. PERMERROR: there is no name. TEMPERROR: the
    DNS did not say. NONE: the client has no IP address. Raises nothing but CancelledError.
    """
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return IprevResult(MethodResult("iprev", Result.NONE, "the client has no IP address"))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    properties = {"policy.iprev": str(address)}

    first = ""

    def end(result: Result, reason: str, name: str = "", secure: bool = False) -> IprevResult:
        return IprevResult(MethodResult("iprev", result, reason, properties), name, secure, first)

    reverse = await resolver.query(address.reverse_pointer, "PTR", deadline)
    if not reverse.usable:
        return end(Result.TEMPERROR, f"name of the address: {reverse.reason}")
    names = list(dict.fromkeys(str(name).lower() for name in plain_records(reverse, "PTR")))[:MAX_NAMES]
    first = names[0] if names else ""
    if not names:
        return end(Result.PERMERROR, "the address has no name")
    rdtype = "A" if address.version == 4 else "AAAA"
    answers = await asyncio.gather(*(resolver.query(name, rdtype, deadline) for name in names))
    for name, answer in zip(names, answers, strict=True):
        if answer.usable and _holds(answer, address):
            return end(Result.PASS, name, name, reverse.secure and answer.secure)
    failed = next((answer for answer in answers if not answer.usable), None)
    if failed is not None:
        return end(Result.TEMPERROR, f"address of the name: {failed.reason}")
    return end(Result.FAIL, f"{names[0]} does not lead back")


def _holds(answer: Answer, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(ipaddress.ip_address(text) == address for text in plain_records(answer, "A"))
