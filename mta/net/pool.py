"""Connections to one endpoint, kept open between messages and shared by all who send there.

`take` hands out an idle connection at once, the one used last (so that the others grow old and are closed);
`acquire` waits: for a connection that comes back, or for a place to open a new one. Waiters are served in
the order in which they came, and nobody who comes later overtakes them. Limits: connections, waiters, idle
time, messages per connection (MAILMAX of RFC 9422 too). What waits longer than its deadline, or finds the
queue full, gets `PoolBusy`.

Connections of a pool need not be alike: a caller may say which ones it can use (`fits`) and how one for it is
opened. Where all places are taken by idle ones that do not fit, the oldest of them makes room.

There is no task: connecting happens in the task that asks, and one timer closes what has been idle too
long. An idle connection that the server closes leaves the pool when the loop hears of it; the short time
until then is why callers repeat on a `fresh` connection what died without any reply.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mta.net.connect import ConnectFailure
from mta.net.outbound import OutboundConnection
from mta.reply import Reply

CLOSE_TIME = 2.0
"""Seconds for the connections to end when the pool is closed."""
BUSY = "The next server is too busy at the moment"


@dataclass(slots=True, frozen=True)
class PoolLimits:
    """Limits of one pool, in one process."""

    max_connections: int = 25
    """Open at once, those in use and being opened included. Dovecot takes 100 for LMTP in all by default."""
    max_waiting: int = 1000
    """Callers that wait for a connection; each holds a message in memory or in a temporary file."""
    idle_time: float = 60.0
    """Seconds that an unused connection is kept; 0: not at all. Well under the servers' own limits
    (5 minutes), so that it is we who close."""
    messages_per_connection: int = 1000
    """Transactions on one connection, 0 for no limit."""


class PoolBusy(ConnectFailure):
    """None of our connections came free: it says nothing about the server."""


@dataclass(slots=True)
class PoolStats:
    """Counters since the start of the process."""

    opened: int = 0
    failed: int = 0
    reused: int = 0
    waited: int = 0
    refused: int = 0
    """Callers who got none: queue full or deadline reached."""


Fits = Callable[[OutboundConnection], bool]
Connect = Callable[[float], Awaitable[OutboundConnection]]
_Waiting: TypeAlias = "asyncio.Future[OutboundConnection | None]"


@dataclass(slots=True, eq=False)
class _Waiter:
    future: _Waiting
    fits: Fits | None


class Pool:
    """The connections of this process to one endpoint."""

    def __init__(self, connect: Connect, limits: PoolLimits) -> None:
        """`connect` opens a connection by a deadline in loop time; it raises ConnectFailure."""
        self._connect = connect
        self._limits = limits
        self._idle: list[OutboundConnection] = []
        self._open: set[OutboundConnection] = set()
        self._opening = 0
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._leaving: set[OutboundConnection] = set()
        self._gone: asyncio.Future[None] | None = None
        self.stats = PoolStats()

    @property
    def size(self) -> int:
        """Connections open or being opened."""
        return len(self._open) + self._opening

    @property
    def connections(self) -> frozenset[OutboundConnection]:
        """All that are open."""
        return frozenset(self._open)

    @property
    def idle(self) -> int:
        """Connections waiting for use."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Callers waiting for a connection."""
        return len(self._waiters)

    @property
    def idle_connections(self) -> Sequence[OutboundConnection]:
        """Those that wait for use, the one used last at the end."""
        return tuple(self._idle)

    def take(self, fits: Fits | None = None) -> OutboundConnection | None:
        """An idle connection, None when there is none or when others wait for one."""
        if self._waiters:
            return None
        for position in range(len(self._idle) - 1, -1, -1):
            connection = self._idle[position]
            if fits is not None and connection.usable and not fits(connection):
                continue
            del self._idle[position]
            if connection.usable:
                self.stats.reused += 1
                return connection
        return None

    async def acquire(
        self,
        deadline: float,
        *,
        fresh: bool = False,
        fits: Fits | None = None,
        connect: Connect | None = None,
    ) -> OutboundConnection:
        """A connection by `deadline` (loop time); `fresh` never gives one that was idle.

        `fits` tells which connections may be given, `connect` opens one in place of the pool's own. Raises
        ConnectFailure, PoolBusy where nothing was opened. Give it back with `release`.
        """
        connect = connect or self._connect
        while True:
            connection = None if fresh else self.take(fits)
            if connection is not None:
                return connection
            if not self._waiters and self.size >= self._limits.max_connections and self._idle:
                self._dismiss(self._idle[0])
            if not self._waiters and self.size < self._limits.max_connections:
                self._opening += 1
                return await self._open_new(connect, deadline)
            given = await self._queue(deadline, fits)
            if given is None:  # a place to open one, already counted
                return await self._open_new(connect, deadline)
            if given.usable:
                self.stats.reused += 1
                return given
            # It was lost between being given and being taken.

    def release(self, connection: OutboundConnection) -> None:
        """Take a connection back, whatever its state is."""
        if connection not in self._open:
            return  # it was lost meanwhile
        session = connection.session
        if not connection.usable:
            self._dismiss(connection)
            return
        most = self._limits.messages_per_connection
        announced = session.peer.limits.mail_max
        spent = (most and session.messages >= most) or (announced and session.messages >= announced)
        if spent or self._closing:
            self._dismiss(connection)
            return
        if self._waiters:
            if not self._hand_on(connection):
                self._dismiss(connection)  # its place is for the first who waits
            return
        if self._limits.idle_time <= 0:
            self._dismiss(connection)
            return
        self._idle.append(connection)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limits.idle_time, self._close_old)

    async def close(self) -> None:
        """Say QUIT on idle connections and end all others; whoever waits gets ConnectFailure.

        Returns when all are gone, after `CLOSE_TIME` at the latest.
        """
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reply = Reply(451, "4.3.2", BUSY, "the pool was closed")
        while self._waiters:
            waiter = self._waiters.popleft().future
            if not waiter.done():
                waiter.set_exception(ConnectFailure(reply))
        for connection in list(self._idle):
            self._dismiss(connection)
        for connection in list(self._open):
            connection.abort(reply)
        if not self._open and not self._leaving:
            return
        self._gone = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(CLOSE_TIME):
                await self._gone
        except TimeoutError:
            for connection in [*self._open, *self._leaving]:
                connection.abort(reply)

    def _hand_on(self, connection: OutboundConnection) -> bool:
        """Give it to the first waiter that can use it; False when none can."""
        for waiter in self._waiters:
            if waiter.future.done() or (waiter.fits is not None and not waiter.fits(connection)):
                continue
            self._waiters.remove(waiter)
            waiter.future.set_result(connection)
            return True
        return False

    async def _queue(self, deadline: float, fits: Fits | None) -> OutboundConnection | None:
        if len(self._waiters) >= self._limits.max_waiting:
            self.stats.refused += 1
            raise PoolBusy(Reply(451, "4.4.5", BUSY, "the queue for a connection is full"))
        self.stats.waited += 1
        future: _Waiting = asyncio.get_running_loop().create_future()
        waiter = _Waiter(future, fits)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError as error:
            self._give_back(waiter)
            self.stats.refused += 1
            reply = Reply(451, "4.4.5", BUSY, "no connection came free before the deadline")
            raise PoolBusy(reply) from error
        except asyncio.CancelledError:
            self._give_back(waiter)
            raise

    def _give_back(self, waiter: _Waiter) -> None:
        """The waiter leaves; what it was given in the same moment goes to the next one."""
        future = waiter.future
        if not future.done() or future.cancelled():
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            return
        if future.exception() is not None:
            return
        connection = future.result()
        if connection is None:
            self._opening -= 1
            self._place_free()
        else:
            self.release(connection)

    async def _open_new(self, connect: Connect, deadline: float) -> OutboundConnection:
        try:
            connection = await connect(deadline)
        except BaseException as error:
            self._opening -= 1
            if isinstance(error, ConnectFailure):
                self.stats.failed += 1
            self._place_free()
            raise
        self._opening -= 1
        self.stats.opened += 1
        connection.on_closed = self._lost
        self._open.add(connection)
        if self._closing or not connection.usable:
            reply = connection.session.failure or Reply(451, "4.3.2", BUSY, "the pool was closed")
            self._dismiss(connection)
            raise ConnectFailure(reply)
        return connection

    def _dismiss(self, connection: OutboundConnection) -> None:
        """Close it politely; its place is free at once."""
        self._leave(connection)
        self._leaving.add(connection)
        connection.quit()
        self._place_free()

    def _lost(self, connection: OutboundConnection) -> None:
        """The connection is gone."""
        self._leaving.discard(connection)
        if connection in self._open:
            self._leave(connection)
            self._place_free()
        if self._gone is not None and not self._gone.done() and not self._open and not self._leaving:
            self._gone.set_result(None)

    def _leave(self, connection: OutboundConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _place_free(self) -> None:
        """A place for a connection is free: the first waiter may open one."""
        while self._waiters and self.size < self._limits.max_connections:
            waiter = self._waiters.popleft().future
            if not waiter.done():
                self._opening += 1
                waiter.set_result(None)

    def _close_old(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._limits.idle_time
        # The list is in the order of use: the oldest come first.
        while self._idle and self._idle[0].idle_since <= oldest + 0.001:
            self._dismiss(self._idle[0])
        if self._idle:
            when = self._idle[0].idle_since + self._limits.idle_time
            self._timer = loop.call_at(when, self._close_old)
