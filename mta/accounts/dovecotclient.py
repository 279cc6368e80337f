"""A connection to Dovecot's auth service, kept open, over a Unix or TCP socket.

One connection of a worker carries all its logins at once. It is made at the start and again whenever it
ends, with back-off; requests under way then fail with `UnavailableError` and so do new ones that cannot wait
for it: the client reads 454 4.7.0 and tries again. The list of mechanisms outlives the connection.

A process of Dovecot lives on for as long as it has a client, with the configuration that it started with. So
each minute a new connection takes over; the old one ends when its exchanges have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
from collections.abc import Callable
from typing import cast

from mta.accounts.dovecotprotocol import (
    Answer,
    DovecotProtocolError,
    Reader,
    auth_line,
    cancel_line,
    cont_line,
    greeting,
)

CONNECT_TIMEOUT = 5.0
"""Seconds for connect and handshake: the service is on this host or in this rack."""
REQUEST_TIMEOUT = 40.0
"""Seconds for an answer. Dovecot delays a wrong password by 2 s and lets a guessing client wait for 17 s."""
FIRST_BACKOFF = 0.1
"""Seconds before the first new try; doubled up to `MAX_BACKOFF`, with jitter: a restart takes a moment."""
MAX_BACKOFF = 10.0
MAX_AGE = 60.0
"""Seconds until a new connection takes over: so long may a reload or restart of Dovecot go unnoticed."""
MAX_RETIREMENT = 300.0
"""Seconds that the exchanges of a replaced connection are given, as RFC 5321 gives a client to answer."""
MAX_REQUESTS = 1000
"""Requests under way at once."""

Where = str | tuple[str, int]
"""Path of a Unix socket, or host and port."""


class UnavailableError(Exception):
    """Dovecot cannot be asked now (environment)."""


class AbandonedError(UnavailableError):
    """The exchange was cancelled before Dovecot had anything to check."""


class Request:
    """One AUTH exchange."""

    __slots__ = ("_abandoned", "_client", "_connection", "_future", "_is_answer_due", "number")

    def __init__(self, client: DovecotClient) -> None:
        """Use `DovecotClient.request`."""
        self._client = client
        self._connection: _Connection | None = None
        self._future: asyncio.Future[Answer] | None = None
        self._is_answer_due = False
        self._abandoned = False
        """Nobody goes on with it."""
        self.number = 0

    async def start(self, mechanism: str, fields: list[str], initial: bytes | None) -> Answer:
        """Send AUTH, wait for the answer. Raises UnavailableError, ValueError for a request too long."""
        if self._abandoned:
            raise AbandonedError
        self._future = asyncio.get_running_loop().create_future()
        connection = self._connection = await self._client.connected(self._future)
        self.number = connection.add(self)
        try:
            line = auth_line(self.number, mechanism, fields, initial)
        except ValueError:
            connection.remove(self.number)
            raise
        return await self._ask(connection, line, has_response=initial is not None)

    async def proceed(self, data: bytes) -> Answer:
        """Send CONT, wait for the answer. Raises UnavailableError, ValueError as above."""
        connection = self._connection
        if self._abandoned:
            raise AbandonedError
        if connection is None or connection.requests.get(self.number) is not self:
            raise UnavailableError("the connection to Dovecot was lost")
        try:
            line = cont_line(self.number, data)
        except ValueError:
            self._forget()
            raise
        return await self._ask(connection, line, has_response=True)

    def cancel(self) -> None:
        """Nobody goes on: tell Dovecot to forget the exchange, if there is one.

        The answer to a response of the client is left to come, as long as any other, and whoever waits for it
        gets it: a password that was wrong counts, although the guesser has gone. Every other wait ends now,
        with AbandonedError.
        """
        self._abandoned = True
        if not self._is_answer_due:
            self._forget()
            self.lost(AbandonedError())

    def _forget(self) -> None:
        connection = self._connection
        if connection is not None and connection.requests.get(self.number) is self:
            connection.send(cancel_line(self.number))
            connection.remove(self.number)

    def answered(self, answer: Answer) -> None:
        """Hand the answer to whoever waits."""
        if self._future is not None and not self._future.done():
            self._future.set_result(answer)
        if self._abandoned and answer.kind == "CONT":
            self._forget()

    def lost(self, error: UnavailableError) -> None:
        """The connection has ended."""
        if self._future is not None and not self._future.done():
            self._future.set_exception(error)

    async def _ask(self, connection: _Connection, line: bytes, *, has_response: bool) -> Answer:
        self._future = asyncio.get_running_loop().create_future()
        self._is_answer_due = has_response
        connection.send(line)
        try:
            async with asyncio.timeout(self._client.request_timeout):
                return await self._future
        except TimeoutError:
            self._forget()
            raise UnavailableError(f"no answer in {self._client.request_timeout:g} s") from None
        except asyncio.CancelledError:
            self._forget()
            raise
        finally:
            self._is_answer_due = False


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.reader = Reader()
        self.requests: dict[int, Request] = {}
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.problem = "the connection to Dovecot was lost"
        self._transport: asyncio.Transport | None = None
        self._last_number = 0
        self._retired = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses of it
        transport.write(greeting(os.getpid()))

    def data_received(self, data: bytes) -> None:
        try:
            answers = self.reader.feed(data)
        except DovecotProtocolError as error:
            self.problem = str(error)
            self.abort()
            return
        if self.reader.handshake.done and not self.ready.done():
            self.ready.set_result(None)
        for answer in answers:
            request = self.requests.get(answer.number)
            if request is None:
                continue  # cancelled a moment ago
            request.answered(answer)
            if answer.kind != "CONT":
                self.remove(answer.number)

    def connection_lost(self, exc: Exception | None) -> None:
        error = UnavailableError(self.problem)
        for request in self.requests.values():
            request.lost(error)
        self.requests.clear()
        if not self.ready.done():
            self.ready.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def add(self, request: Request) -> int:
        if self._transport is None or self._transport.is_closing():
            raise UnavailableError(self.problem)
        if len(self.requests) >= MAX_REQUESTS:
            raise UnavailableError(f"{MAX_REQUESTS} requests are under way")
        while True:
            self._last_number = self._last_number % 0xFFFFFFFF + 1
            if self._last_number not in self.requests:
                break
        self.requests[self._last_number] = request
        return self._last_number

    def remove(self, number: int) -> None:
        del self.requests[number]
        if self._retired and not self.requests and self._transport is not None:
            self._transport.close()

    def send(self, line: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(line)

    def retire(self) -> None:
        self._retired = True
        if not self.requests and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class DovecotClient:
    """Keeps the connection and opens requests on it."""

    def __init__(
        self,
        where: Where,
        *,
        on_change: Callable[[bool, str], None],
        connect_timeout: float = CONNECT_TIMEOUT,
        request_timeout: float = REQUEST_TIMEOUT,
        max_age: float = MAX_AGE,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`on_change` hears True and a text when the service is there, False and why when it is not."""
        self.where = where
        self._name = where if isinstance(where, str) else ":".join(map(str, where))
        self.connection: _Connection | None = None
        self.mechanisms: dict[str, frozenset[str]] = {}
        self.request_timeout = request_timeout
        self._connect_timeout = connect_timeout
        self._max_age = max_age
        self._on_change = on_change
        self._jitter = jitter
        self._state: tuple[bool, str] | None = None
        self._open: set[_Connection] = set()
        self._up = asyncio.Event()
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect; returns when the service is there, or the first try has failed; tries go on."""
        self._task = asyncio.create_task(self._keep_connected(), name="dovecot-auth")
        await self._tried.wait()

    async def close(self) -> None:
        """End the connection; requests under way fail."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self.connection = None
        for connection in self._open:
            connection.abort()
        if self._open:
            await asyncio.wait([connection.closed for connection in self._open])
        self._open.clear()

    def request(self) -> Request:
        """A new exchange."""
        return Request(self)

    async def connected(self, given_up: asyncio.Future[Answer]) -> _Connection:
        """The connection, after waiting for it. Raises UnavailableError, and what ends `given_up`."""
        if self.connection is None:
            up = asyncio.ensure_future(self._up.wait())
            try:
                await asyncio.wait(
                    (up, given_up), timeout=self._connect_timeout, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                up.cancel()
            if given_up.done():
                given_up.result()
        if self.connection is None:
            why = f" ({self._state[1]})" if self._state is not None and not self._state[0] else ""
            raise UnavailableError(f"no connection to {self._name}{why}")
        return self.connection

    async def _keep_connected(self) -> None:
        backoff = FIRST_BACKOFF
        while True:
            try:
                connection = await self._connect()
            except (OSError, TimeoutError) as error:
                if self.connection is None:
                    reason = error.strerror if isinstance(error, OSError) else ""
                    self._tell(False, reason or str(error) or "timeout of connect and handshake")
                self._tried.set()
            else:
                backoff = FIRST_BACKOFF
                self._adopt(connection)
                await asyncio.wait((connection.closed,), timeout=self._max_age)
                if not connection.closed.done():
                    continue
            await asyncio.sleep(backoff * (0.5 + self._jitter()))
            backoff = min(2 * backoff, MAX_BACKOFF)

    async def _connect(self) -> _Connection:
        """A connection after its handshake. Raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._connect_timeout):
                if isinstance(self.where, str):
                    _, connection = await loop.create_unix_connection(_Connection, self.where)
                else:
                    _, connection = await loop.create_connection(_Connection, *self.where)
                self._open.add(connection)
                connection.closed.add_done_callback(functools.partial(self._lost, connection))
                await asyncio.wait((connection.ready,))
        except BaseException:
            if connection is not None:
                connection.abort()
            raise
        if connection.ready.cancelled():
            raise ConnectionError(connection.problem)
        return connection

    def _adopt(self, connection: _Connection) -> None:
        old, self.connection = self.connection, connection
        self.mechanisms = connection.reader.handshake.mechanisms
        self._up.set()
        self._tried.set()
        if old is not None:
            old.retire()
            asyncio.get_running_loop().call_later(MAX_RETIREMENT, old.abort)
        if self._state is None or not self._state[0]:
            self._tell(True, f"Dovecot's auth process is {connection.reader.handshake.process}")

    def _lost(self, connection: _Connection, _closed: asyncio.Future[None]) -> None:
        self._open.discard(connection)
        if self.connection is connection:
            self.connection = None
            self._up.clear()
            self._tell(False, connection.problem)

    def _tell(self, up: bool, text: str) -> None:
        if (up, text) != self._state:
            self._state = (up, text)
            self._on_change(up, text)
