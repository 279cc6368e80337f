"""All connections of a worker, and their clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mta.net.connection import SHUTTING_DOWN, Connection, Timeouts


class Connections:
    """The connections that are open, and what all of them share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Callable[[], Timeouts]) -> None:
        """`loop` is the running one; `timeouts` gives those in force now (shorter ones under load)."""
        self.loop = loop
        """Kept, because asking which loop runs costs a system call."""
        self._clock = clock = loop.time
        self._timeouts = timeouts
        self._open: set[Connection] = set()
        self.now = clock()
        """Seconds, true to a second: cheap enough to be read for every packet."""
        self.draining = False
        self.closed = False
        """Whoever comes now is sent away: nothing is there any more that could serve them."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def timeouts(self) -> Timeouts:
        """Those in force now."""
        return self._timeouts()

    def add(self, connection: Connection) -> None:
        """A client has connected."""
        self._open.add(connection)

    def discard(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open.discard(connection)

    def sweep(self) -> None:
        """End what has waited too long; to be called once a second."""
        self.now = now = self._clock()
        timeouts = self._timeouts()
        for connection in tuple(self._open):
            try:
                connection.tick(now, timeouts, self.draining)
            except Exception as error:  # noqa: BLE001 - a bug must not stop the clock of all others
                connection.failed(error)

    def drain(self) -> None:
        """From now on send idle sessions away."""
        self.draining = True

    def close(self) -> None:
        """Tell everybody 421, also those whose handshake ends later, and cut what does not end."""
        self.closed = True
        for connection in tuple(self._open):
            connection.end(SHUTTING_DOWN)

    def abort(self) -> None:
        """Cut all connections."""
        for connection in tuple(self._open):
            connection.abort()
