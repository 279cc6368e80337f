"""What is known about one destination for a short while: its hosts, their addresses, what protects them.

`Destinations.find` looks it up in the DNS and asks `mta.delivery.security`, and keeps the answer for
`KEPT` seconds, so that the messages of a busy moment cost one look-up. Answers that say "not now" are kept
for a moment only.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from mta.delivery.lookup import Lookup, NoHosts
from mta.delivery.mx import Addresses, MxHosts
from mta.delivery.security.requirement import (
    DomainSecurity,
    HostAddresses,
    Level,
    MxSet,
    Requirement,
    Security,
    Wishes,
)
from mta.delivery.way import Way
from mta.reply import Reply

KEPT = 10.0
"""Seconds for which a destination is taken as it was found. DNS answers may be older by their TTL."""
KEPT_FAILURE = 1.0
"""Seconds for which "not now" is the answer (RFC 9520 section 3.2 wants 1 at least)."""
ENTRIES = 10_000
"""Destinations that are kept, about 2 kB each."""

LEVELS = {
    "": Level.MAY,
    "none": Level.NONE,
    "may": Level.MAY,
    "encrypt": Level.ENCRYPT,
    "verify": Level.VERIFY,
    "dane": Level.DANE,
}
"""The words of a route for the least protection."""


@dataclass(slots=True, frozen=True)
class DestinationKey:
    """What makes a destination."""

    way: Way
    domain: str
    """The recipient's; the way's own domain or host goes before it."""
    wishes: Wishes


@dataclass(slots=True)
class Destination:
    """One destination that may be served."""

    key: DestinationKey
    mx: MxHosts
    security: DomainSecurity
    site: str
    addresses: dict[str, Addresses | Reply] = field(default_factory=dict)
    requirements: dict[str, Requirement | Reply] = field(default_factory=dict)


class Destinations:
    """Finds destinations."""

    def __init__(self, lookup: Lookup, security: Security) -> None:
        """`lookup` asks the DNS, `security` knows what domains prove and demand."""
        self.lookup = lookup
        self._security = security
        self._kept: OrderedDict[DestinationKey, tuple[float, Destination | Reply]] = OrderedDict()

    async def find(self, key: DestinationKey, deadline: float) -> Destination | Reply:
        """The destination, or why it has no server now, or never."""
        loop = asyncio.get_running_loop()
        kept = self._kept.get(key)
        if kept is not None:
            if kept[0] > loop.time():
                return kept[1]
            del self._kept[key]
        found = await self._find(key, deadline)
        seconds = KEPT_FAILURE if isinstance(found, Reply) else KEPT
        self._kept[key] = loop.time() + seconds, found
        if len(self._kept) > ENTRIES:
            self._kept.popitem(last=False)
        return found

    async def _find(self, key: DestinationKey, deadline: float) -> Destination | Reply:
        mx = await self.lookup.hosts(key.way, key.domain, deadline)
        if isinstance(mx, NoHosts):
            # Whoever knows more of the domain may know better than to believe that: it may be a forgery.
            facts = MxSet(key.way.host or key.domain, mx.status, reason=mx.reason)
            said = await self._security.for_domain(facts, key.wishes, deadline)
            is_doubted = isinstance(said, Reply) and said.is_temporary and mx.reply.is_permanent
            return said if isinstance(said, Reply) and is_doubted else mx.reply
        facts = MxSet(mx.domain, mx.status, mx.names, canonical=mx.canonical, routed=mx.routed)
        security = await self._security.for_domain(facts, key.wishes, deadline)
        if isinstance(security, Reply):
            return security
        return Destination(key, mx, security, mx.site)

    async def addresses(
        self, found: Destination, host: str, families: tuple[bool, bool], deadline: float
    ) -> Addresses | Reply:
        """Where a host of a destination is."""
        known = found.addresses.get(host)
        if known is None:
            routed = found.mx.routed
            known = await self.lookup.addresses(host, families, deadline, routed=routed)
            found.addresses[host] = known
        return known

    async def requirement(
        self, found: Destination, addresses: Addresses, port: int, deadline: float
    ) -> Requirement | Reply:
        """What a connection to a host must fulfil."""
        known = found.requirements.get(addresses.host)
        if known is None:
            what = HostAddresses(addresses.host, addresses.status, addresses.canonical, port=port)
            known = await found.security.for_host(what, deadline)
            found.requirements[addresses.host] = known
        return known
