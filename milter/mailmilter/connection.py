"""The asyncio shell of `MilterSession`: connections, their time limits, and a pool of idle ones.

Nothing here raises for what a filter or the network does: it ends in the outcome. A connection has one timer,
which is moved when it fires, or when it would fire too late.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import cast

from mailmilter.constants import CHUNK, Stage
from mailmilter.endpoint import Endpoint
from mailmilter.macros import DEFAULT
from mailmilter.negotiation import Offer, offer
from mailmilter.session import Bounds, MilterSession, Request
from mailmilter.values import DefaultAction, Outcome

_WRITE_HIGH = 256 * 1024
"""Octets in the write buffer at which making more of them pauses."""


@dataclass(slots=True, frozen=True)
class Timeouts:
    """Seconds. Postfix has 30, 30 and 300, and no total; a client that waits for our reply wants less."""

    connect: float = 5.0
    command: float = 10.0
    """Silence of the filter while a command before the content is open."""
    content: float = 30.0
    """Silence of the filter while headers, body or their end are open."""
    total: float = 60.0
    """All of one stage, whatever progress the filter reports."""


@dataclass(slots=True, frozen=True)
class Milter:
    """One filter as the administrator names it."""

    name: str
    endpoint: Endpoint
    default: DefaultAction = DefaultAction.TEMPFAIL
    """What holds when it cannot be asked."""
    timeouts: Timeouts = Timeouts()
    version: int = 6
    max_data: int = CHUNK
    """Octets of body in one packet that are offered; larger ones need a filter that agrees."""
    reuse: bool = False
    """Keep connections for later sessions (QUIT_NC). Filters on libmilter of Sendmail 8.14 and later can."""
    bounds: Bounds = field(default_factory=Bounds)
    macros: Mapping[Stage, tuple[str, ...]] = field(default_factory=lambda: DEFAULT)
    """The macros that are sent, by stage, unless the filter asks for others."""
    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Macros, by bare name, that have another value for this filter than the session's."""

    def offer(self) -> Offer:
        """What is offered in the negotiation."""
        return offer(self.version, max_data=self.max_data)


class MilterConnection(asyncio.Protocol):
    """One connection; made by `MilterPool`."""

    def __init__(
        self,
        session: MilterSession,
        loop: asyncio.AbstractEventLoop,
        count: Callable[[int], None] = lambda change: None,
    ) -> None:
        self.session = session
        self._count = count
        self.fresh = True
        """False once it was used for an SMTP session before."""
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        """When the timer fires."""
        self._expires = 0.0
        self._end = 0.0
        self._silence = 0.0
        self._paused = False

    async def exchange(self, silence: float, total: float) -> Outcome:
        """Run what the session has begun until there is an outcome; times in seconds."""
        session = self.session
        now = self._loop.time()
        self._silence = silence
        self._expires = now + silence
        self._end = now + total
        self._pump()
        if session.outcome is None:
            self._waiter = self._loop.create_future()
            self._arm()
            try:
                await self._waiter
            except asyncio.CancelledError:
                session.fail("the session was cancelled")
                self.close()
                raise
            finally:
                self._waiter = None
        if session.failed:
            self.close()
        assert session.outcome is not None
        return session.outcome

    def send(self) -> None:
        """Write what needs no answer: abort and quit."""
        self._pump()

    @property
    def connected(self) -> bool:
        """True while there is a transport that is not closing."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close at once, after what is written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._count(1)
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        """Let the session read, and write what it makes of it."""
        self._expires = min(self._loop.time() + self._silence, self._end)
        self.session.receive(data)
        self._pump()
        self._wake()

    def eof_received(self) -> None:
        """The filter closed."""
        self.session.receive(b"")
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._count(-1)
        self._transport = None
        self.session.receive(b"")
        self._wake()

    def pause_writing(self) -> None:
        """The filter does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        self._expires = min(self._loop.time() + self._silence, self._end)
        self._pump()
        self._wake()

    def _pump(self) -> None:
        session = self.session
        while not self._paused and self._transport is not None:
            data = session.bytes_to_send()
            if not data:
                return
            self._transport.write(data)

    def _wake(self) -> None:
        if self._waiter is not None and self.session.outcome is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _arm(self) -> None:
        due = min(self._expires, self._end)
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()  # that of a stage with a longer time
        self._due = due
        self._timer = self._loop.call_at(due, self._timed)

    def _timed(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        now = self._loop.time()
        if now < min(self._expires, self._end):
            self._arm()
            return
        silent = now < self._end
        self.session.fail("no answer in time" if silent else "the stage took too long")
        self._wake()


@dataclass(slots=True)
class MilterPool:
    """Opens connections, and keeps idle ones of milters that allow it."""

    max_idle: int = 20
    """Idle connections kept for each milter."""
    idle_seconds: float = 60.0
    """Seconds that an idle connection is used again."""
    open: Counter[str] = field(default_factory=Counter)
    """Connections that are open, by the milter's name."""
    opened: Counter[str] = field(default_factory=Counter)
    """Connections that were opened."""
    _idle: dict[Endpoint, list[tuple[MilterConnection, float]]] = field(default_factory=dict)

    async def take(self, milter: Milter) -> MilterConnection | str:
        """A connection that is negotiated; or why there is none."""
        found = self._reused(milter)
        if found is not None:
            return found
        loop = asyncio.get_running_loop()
        session = MilterSession(milter.offer(), milter.default, milter.bounds)
        connection = MilterConnection(session, loop, partial(self._count, milter.name))
        try:
            async with asyncio.timeout(milter.timeouts.connect):
                await open_endpoint(milter.endpoint, lambda: connection)
        except TimeoutError:
            return f"{milter.endpoint}: no connection in {milter.timeouts.connect:g} s"
        except OSError as error:
            return f"{milter.endpoint}: {error.strerror or error}"
        session.negotiate()
        await connection.exchange(milter.timeouts.command, milter.timeouts.total)
        if session.failed:
            assert session.outcome is not None
            return session.outcome.failure
        return connection

    def give_back(self, milter: Milter, connection: MilterConnection) -> None:
        """End the SMTP session on a connection; keep it when the milter allows it and it is whole."""
        session = connection.session
        idle = self._idle.setdefault(milter.endpoint, [])
        keep = milter.reuse and session.reusable and connection.connected and len(idle) < self.max_idle
        if session.outcome is not None:
            session.quit(reuse=keep)
            connection.send()
        if keep:
            connection.fresh = False
            idle.append((connection, asyncio.get_running_loop().time() + self.idle_seconds))
        else:
            connection.close()

    def close(self) -> None:
        """Close all idle connections."""
        for idle in self._idle.values():
            for connection, _ in idle:
                connection.session.quit()
                connection.send()
                connection.close()
        self._idle.clear()

    def _count(self, name: str, change: int) -> None:
        self.open[name] += change
        self.opened[name] += change > 0

    def _reused(self, milter: Milter) -> MilterConnection | None:
        idle = self._idle.get(milter.endpoint, [])
        now = asyncio.get_running_loop().time()
        while idle:
            connection, until = idle.pop()
            if connection.connected and not connection.session.failed and now < until:
                return connection
            connection.close()
        return None


async def open_endpoint(endpoint: Endpoint, factory: Callable[[], asyncio.Protocol]) -> None:
    """Connect a protocol to an endpoint. Raises OSError."""
    loop = asyncio.get_running_loop()
    if endpoint.path:
        await loop.create_unix_connection(factory, endpoint.path)
        return
    family = socket.AF_INET6 if endpoint.ipv6 else socket.AF_UNSPEC
    await loop.create_connection(factory, endpoint.host, endpoint.port, family=family)


async def run_stage(
    connection: MilterConnection,
    milter: Milter,
    requests: Iterable[Request],
    *,
    content: bool = False,
    on_body: Callable[[bytes], None] | None = None,
) -> Outcome:
    """Ask one stage with the milter's time limits."""
    connection.session.begin(requests, on_body)
    times = milter.timeouts
    return await connection.exchange(times.content if content else times.command, times.total)
