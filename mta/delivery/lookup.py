"""Asks the DNS where mail for a domain goes: the thin part around `mta.delivery.mx`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from mta.delivery.mx import (
    Addresses,
    MxHosts,
    at_most,
    literal_addresses,
    named_host,
    read_addresses,
    read_literal,
    read_mx,
    without_us,
)
from mta.delivery.way import Way
from mta.net.resolver.base import Resolver, Status
from mta.reply import Reply

REFUSED = "The mail server's address is not one that mail is sent to"
UNREACHED = "The mail server has no address that is reached from here"


@dataclass(slots=True, frozen=True)
class Ourselves:
    """What is this server, and where nobody sends mail to."""

    is_name: Callable[[str], bool] = lambda name: False
    is_address: Callable[[str], bool] = lambda address: False
    is_refused: Callable[[str], bool] = lambda address: False
    """Tells whether an address that the DNS names may not be connected to: loopback, for instance."""


@dataclass(slots=True, frozen=True)
class NoHosts:
    """There is nobody to talk to, now or ever."""

    reply: Reply
    status: Status = Status.INSECURE
    """Of the answer to the MX question."""
    reason: str = ""


class Lookup:
    """Looks up hosts and addresses."""

    def __init__(self, resolver: Resolver, ourselves: Ourselves, *, timeout: float, six: bool = True) -> None:
        """`timeout` is in seconds, for each answer; `six` says that there is IPv6 here."""
        self._rng = random.Random()
        self._resolver = resolver
        self._ourselves = ourselves
        self._timeout = timeout
        self._six = six

    def is_us(self, addresses: Addresses) -> bool:
        """True when a host is this server."""
        return any(self._ourselves.is_address(address) for address in addresses.addresses)

    async def hosts(self, way: Way, domain: str, deadline: float) -> MxHosts | NoHosts:
        """The hosts for a recipient in `domain`, ourselves and what is not preferred to us left out."""
        if way.kind == "smtp":
            return named_host(way.host)
        domain = way.host or domain
        if domain.startswith("["):
            literal = read_literal(domain)
            return NoHosts(literal) if isinstance(literal, Reply) else literal
        answer = await self._resolver.query(domain, "MX", self._limit(deadline))
        found = read_mx(domain, answer)
        if not isinstance(found, Reply):
            found = without_us(found, self._ourselves.is_name)
        if isinstance(found, Reply):
            return NoHosts(found, answer.status, answer.reason)
        return at_most(found, self._rng)

    async def addresses(
        self, host: str, families: tuple[bool, bool], deadline: float, *, routed: bool
    ) -> Addresses | Reply:
        """The addresses of a host; `families` says whether IPv4 and IPv6 are of use.

        `routed`: our configuration names the host, so whatever address it has is meant.
        """
        # What the DNS names has no zone ("::1%1"): no list of networks knows such an address.
        literal = literal_addresses(host) if routed or "%" not in host else None
        four, six = families[0], families[1] and self._six
        if literal is not None and not routed and not (six if ":" in literal.addresses[0] else four):
            cause = f"{host}: no address of this kind to send from (sources, outbound.ipv6)"
            return Reply(550, "5.4.4", UNREACHED, cause)
        found = literal or await self._ask(host, four, six, self._limit(deadline))
        if isinstance(found, Reply) or routed:
            return found
        left = tuple(a for a in found.addresses if not self._ourselves.is_refused(a))
        if not left:
            return Reply(550, "5.4.4", REFUSED, f"{host}: refused address {found.addresses[0]}")
        return Addresses(host, left, found.status, found.canonical, found.ttl)

    async def _ask(self, host: str, four: bool, six: bool, limit: float) -> Addresses | Reply:
        query = self._resolver.query
        if four and six:
            # Two questions at once need a task, and the wait for one of them is the wait for both.
            other = asyncio.get_running_loop().create_task(query(host, "AAAA", limit))
            try:
                a = await query(host, "A", limit)
                return read_addresses(host, a, await other)
            finally:
                other.cancel()
        if six:
            return read_addresses(host, None, await query(host, "AAAA", limit))
        return read_addresses(host, await query(host, "A", limit), None)

    def _limit(self, deadline: float) -> float:
        return min(deadline, asyncio.get_running_loop().time() + self._timeout)
