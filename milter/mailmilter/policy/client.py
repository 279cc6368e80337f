"""Ask policy servers: the asyncio shell, with connections that are used again.

`PolicyClient.ask` never raises for what a server or the network does: the reply says what failed, and holds
the decision that the administrator chose for that case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from mailmilter.connection import open_endpoint
from mailmilter.endpoint import Endpoint
from mailmilter.policy.actions import Decision, Kind, parse_action
from mailmilter.policy.request import PolicyRequest
from mailmilter.policy.wire import BlockReader, PolicyProtocolError

UNAVAILABLE = Decision(Kind.DEFER, "Server configuration problem", 451, "4.3.5")
"""What Postfix does when a policy server does not answer (smtpd_policy_service_default_action)."""


@dataclass(slots=True, frozen=True)
class PolicyService:
    """One policy server as the administrator names it; times in seconds."""

    name: str
    endpoint: Endpoint
    timeout: float = 10.0
    """For one try, connection and answer (Postfix: 100; a client that waits for our reply wants less)."""
    tries: int = 2
    """Tries for one question, each on a new connection after the first (Postfix: 2)."""
    retry_delay: float = 0.2
    """Before another try (Postfix: 1)."""
    max_idle: float = 300.0
    """An idle connection is closed after this (Postfix: 300)."""
    max_life: float = 1000.0
    """A connection is closed after this (Postfix: 1000)."""
    connections: int = 50
    """Questions at a time; others wait, within their time-out. Idle connections are kept up to as many."""
    down_for: float = 5.0
    """After a question failed, others fail at once for this long, but for one that tries again."""
    default: Decision = UNAVAILABLE
    """The decision when it cannot be asked."""


@dataclass(slots=True, frozen=True)
class Reply:
    """The decision, and why it is the default."""

    decision: Decision
    failure: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    """All that the server sent, for log and explanation."""


class _Connection(asyncio.Protocol):
    """One connection to a policy server: one question at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: Callable[[int], None]) -> None:
        self._count = count
        self.opened = loop.time()
        self.used = self.opened
        self._loop = loop
        self._reader = BlockReader()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[dict[str, str]] | None = None

    async def ask(self, request: bytes) -> dict[str, str]:
        """The attributes of the answer. Raises PolicyProtocolError and ConnectionError."""
        if self._transport is None:
            raise ConnectionError("the server closed the connection")
        self._waiter = self._loop.create_future()
        self._transport.write(request)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and self._reader.empty

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._count(1)
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        waiter = self._waiter
        if waiter is None or waiter.done():
            # Octets that nobody asked for: `usable` is false from now on.
            self.close()
            return
        try:
            found = self._reader.next()
        except PolicyProtocolError as error:
            waiter.set_exception(error)
            return
        if found is not None:
            waiter.set_result(found)

    def connection_lost(self, error: Exception | None) -> None:
        self._count(-1)
        self._transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("the server closed the connection"))


class PolicyClient:
    """Asks one policy service; belongs to one event loop."""

    def __init__(self, service: PolicyService) -> None:
        self.service = service
        self.open = 0
        """Connections that are open."""
        self.opened = 0
        """Connections that were opened."""
        self._idle: list[_Connection] = []
        self._places = asyncio.Semaphore(service.connections)
        self._down_until = 0.0
        self._probing = False

    async def ask(self, request: PolicyRequest) -> Reply:
        """The server's decision, or the default one with the reason. Raises ValueError as `encode` does."""
        octets = request.encode()
        loop = asyncio.get_running_loop()
        service = self.service
        probing = loop.time() < self._down_until
        if probing and self._probing:
            return Reply(service.default, f"{service.endpoint}: down")
        self._probing = self._probing or probing
        failure = ""
        try:
            for number in range(service.tries):
                if number:
                    await asyncio.sleep(service.retry_delay)
                reply, failure = await self._try(octets, fresh=number > 0)
                if reply is not None:
                    self._down_until = 0.0
                    return reply
        finally:
            if probing:
                self._probing = False
        self._down_until = loop.time() + service.down_for
        return Reply(service.default, f"{service.endpoint}: {failure}")

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _try(self, octets: bytes, *, fresh: bool) -> tuple[Reply | None, str]:
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self.service.timeout), self._places:
                connection = (None if fresh else self._take()) or await self._open()
                found = await connection.ask(octets)
        except TimeoutError:
            failure = f"no answer in {self.service.timeout:g} s"
        except PolicyProtocolError as error:
            failure = f"protocol error: {error}"
        except OSError as error:
            failure = error.strerror or str(error)
        except asyncio.CancelledError:
            if connection is not None:
                connection.close()
            raise
        else:
            return self._accept(connection, found)
        if connection is not None:
            connection.close()
        return None, failure

    def _accept(self, connection: _Connection, found: dict[str, str]) -> tuple[Reply | None, str]:
        if "action" not in found:
            connection.close()
            return None, "an answer without an action"
        self._give_back(connection)
        return Reply(parse_action(found["action"]), attributes=found), ""

    async def _open(self) -> _Connection:
        connection = _Connection(asyncio.get_running_loop(), self._count)
        await open_endpoint(self.service.endpoint, lambda: connection)
        return connection

    def _count(self, change: int) -> None:
        self.open += change
        self.opened += change > 0

    def _take(self) -> _Connection | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            young = now - connection.opened < self.service.max_life
            if connection.usable and young and now - connection.used < self.service.max_idle:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: _Connection) -> None:
        connection.used = asyncio.get_running_loop().time()
        if connection.usable and len(self._idle) < self.service.connections:
            self._idle.append(connection)
        else:
            connection.close()
