"""The stub resolver: questions to local validating resolvers, each answer with what it is worth.

    stub = Stub([Address("127.0.0.1")])
    answer = await stub.query("example.org", "MX", loop.time() + 5)

Answers say SECURE only where the AD bit came over loopback: the operator's own validating resolver (Unbound
is the one we test with) has looked, and nobody could change the bit on the way. A question that is asked
already is not asked twice; what was answered lately is not asked at all.

One `Stub` belongs to one running loop. Processor time of a query that the resolver has in its cache: see
`python -m bench.dns`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from mta.net.resolver import wire
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.cache import Cache, CacheSettings, Key
from mta.net.resolver.flight import TIMEOUT, Flight
from mta.net.resolver.names import wire_name
from mta.net.resolver.server import Address, Server

NO_NAME = Answer(Status.INSECURE, reason="not a domain name", exists=False)
"""The answer to a name that cannot exist; nothing is asked."""


@dataclass(slots=True, frozen=True)
class StubSettings:
    """Bounds of one worker's resolver."""

    cache: CacheSettings = field(default_factory=CacheSettings)
    in_flight: int = 4096
    """Different questions on their way; more are answered FAIL at once. One takes 2 to 3 kB."""


class Stub:
    """A `mta.net.resolver.base.Resolver` over the network."""

    __slots__ = ("_flights", "_loop", "_servers", "_settings", "cache", "counters")

    def __init__(self, servers: Sequence[Address], settings: StubSettings | None = None) -> None:
        """Ask `servers`, the first one first. Needs a running loop; opens no socket yet.

        Raises ValueError without a server, or for a host that is no IP address.
        """
        if not servers:
            raise ValueError("a resolver needs at least one server")
        self._loop = asyncio.get_running_loop()
        self._settings = settings or StubSettings()
        self._servers = [Server(address, self._loop.time) for address in servers]
        self._flights: dict[Key, Flight] = {}
        self.cache = Cache(self._settings.cache, self._loop.time)
        """What is known already."""
        self.counters: dict[str, int] = dict.fromkeys(
            ("asked", "cached", "joined", "sent", "resent", "tcp", "mismatched", "timeouts", "overflow"), 0
        )
        """For metrics; they only grow."""

    @property
    def servers(self) -> tuple[str, ...]:
        """Who is asked, in order."""
        return tuple(str(server.address) for server in self._servers)

    @property
    def in_flight(self) -> int:
        """Questions on their way."""
        return len(self._flights)

    async def query(self, name: str, rdtype: str, deadline: float) -> Answer:
        """See `mta.net.resolver.base.Resolver`."""
        number = wire.type_number(rdtype)
        asked = wire_name(name)
        if asked is None:
            return NO_NAME
        counters = self.counters
        counters["asked"] += 1
        key = asked, number
        answer = self.cache.get(key)
        if answer is not None:
            counters["cached"] += 1
            return answer
        loop = self._loop
        if deadline <= loop.time():
            counters["timeouts"] += 1
            return Answer(Status.FAIL, reason=TIMEOUT)
        flight = self._flights.get(key)
        future: asyncio.Future[Answer] = loop.create_future()
        if flight is not None:
            counters["joined"] += 1
            flight.waiters.add(future)
        elif len(self._flights) >= self._settings.in_flight:
            counters["overflow"] += 1
            return Answer(Status.FAIL, reason="too many questions at once")
        else:
            flight = self._flights[key] = Flight(key, self._order(), self._landed, counters)
            flight.waiters.add(future)
            flight.start()
        timer = loop.call_at(deadline, self._expired, future)
        try:
            return await future
        finally:
            timer.cancel()
            self._leave(flight, future)

    def close(self) -> None:
        """Answer all who wait with FAIL and close the sockets."""
        for flight in list(self._flights.values()):
            flight.abandon(late=False)
            self._landed(flight, Answer(Status.FAIL, reason="the resolver is closed"), 0)
        for server in self._servers:
            server.close()

    def _order(self) -> Sequence[Server]:
        """The servers, those that do not answer lately last."""
        servers = self._servers
        if len(servers) == 1 or not servers[0].rests:
            return servers
        return sorted(servers, key=lambda server: server.place)

    def _landed(self, flight: Flight, answer: Answer, size: int) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        if size:
            self.cache.put(flight.key, answer, size)
        for future in flight.waiters:
            if not future.done():
                future.set_result(answer)

    def _expired(self, future: asyncio.Future[Answer]) -> None:
        if not future.done():
            self.counters["timeouts"] += 1
            future.set_result(Answer(Status.FAIL, reason=TIMEOUT))

    def _leave(self, flight: Flight, future: asyncio.Future[Answer]) -> None:
        flight.waiters.discard(future)
        if not flight.waiters and not flight.done:
            flight.abandon(late=not future.cancelled())
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
