"""One resolver as we reach it: a few connected UDP sockets, TCP for what does not fit, and how it fares.

A connected socket takes datagrams from its server only, and learns at once that nobody listens there. Each
query goes through a random one of the sockets with a random id; sockets are replaced after a number of
queries, so that ports change too. Nobody outside of the machine can answer on loopback; for the others these
are the defences of RFC 5452.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mta.hostport import host_port
from mta.net.resolver.pinned import PinnedServer

SOCKETS = 4
"""Connected sockets a server."""
QUERIES_PER_SOCKET = 2000
"""After so many a socket is replaced by one with another port."""
LONGEST_DATAGRAM = 4096
"""Octets read of a datagram; we ask for 1,232 at the most."""
DRAIN = 32
"""Datagrams read at once from one socket before others get their turn."""
RECEIVE_BUFFER = 1 << 20
"""Octets of replies that may wait in a socket; the system may allow less."""
SUSPECT = 3
"""Queries without an answer in a row after which a server is asked last."""
REST = 5.0
"""Seconds for which a server that does not answer is asked last."""


@dataclass(slots=True, frozen=True)
class Address:
    """Where a resolver listens."""

    host: str
    """An IP address."""
    port: int = 53
    keys: frozenset[bytes] = frozenset()
    """SHA-256 of public keys: it is asked over TLS, and must have one of them."""

    @property
    def is_loopback(self) -> bool:
        """True when the way to it does not leave the machine, so that its AD bit can be believed."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return host_port(self.host, self.port)


class Asking(Protocol):
    """A query that was sent and waits."""

    def received(self, message: bytes) -> bool:
        """A datagram with our id came; False when it answers something else, so that we keep waiting."""

    def refused(self) -> None:
        """Nobody listens at the server's port."""


class _Port:
    """One connected socket and the queries that wait on it."""

    __slots__ = ("retired", "sent", "socket", "waiting")

    def __init__(self, address: Address) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            self.socket.connect((address.host, address.port))
        except OSError:
            self.socket.close()
            raise
        self.waiting: dict[bytes, Asking] = {}
        self.sent = 0
        self.retired = False


Ticket = tuple[_Port, bytes]
"""What `Server.send` gives and `Server.forget` takes."""


class Server:
    """A resolver. Belongs to one running loop."""

    __slots__ = (
        "_clock",
        "_failures",
        "_gone",
        "_loop",
        "_ports",
        "_random",
        "_resting",
        "address",
        "pinned",
        "trusted",
    )

    def __init__(self, address: Address, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only grow. Sockets are opened when they are needed.

        Raises ValueError when the host is no IP address.
        """
        self.address = address
        self.trusted = address.is_loopback or bool(address.keys)
        """Whether its AD bit counts."""
        self.pinned = PinnedServer(address.host, address.port, address.keys) if address.keys else None
        """How it is asked over TLS, None for a server without a key."""
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._ports: list[_Port] = []
        self._random = b""
        self._failures = 0
        self._resting = 0.0
        self._gone = False

    @property
    def place(self) -> int:
        """Where it stands when one does not answer: the lowest is asked first.

        One that can vouch and keeps silent stays before those that cannot: whoever has slow names looked up
        makes it silent. Only if nobody listens there the others come first.
        """
        if not self.rests:
            return 0 if self.trusted else 2
        return 1 if self.trusted and not self._gone else 3

    @property
    def rests(self) -> bool:
        """True for a server that has not answered lately: it is asked after all others."""
        return self._failures >= SUSPECT and self._clock() < self._resting

    def answered(self) -> None:
        """Something useful came from it."""
        self._failures = 0
        self._gone = False

    def failed(self, weight: int = 1) -> None:
        """It did not answer; `weight` is `SUSPECT` when nobody listens there."""
        self._failures += weight
        self._gone = self._gone or weight >= SUSPECT
        if self._failures >= SUSPECT:
            self._resting = self._clock() + REST

    def send(self, tail: bytes, asking: Asking) -> Ticket:
        """Send a query that goes on with `tail` behind its id. Raises OSError when that is not possible."""
        port = self._choose()
        ident = self.ident()
        while ident in port.waiting:
            ident = self.ident()
        try:
            port.socket.send(ident + tail)
        except ConnectionRefusedError:  # may be the answer to an earlier query: it is told only once
            self._discard(port)
            self._loop.call_soon(self._refused, port)
            port = self._choose()
            port.socket.send(ident + tail)
        port.sent += 1
        port.waiting[ident] = asking
        return port, ident

    def forget(self, ticket: Ticket) -> None:
        """Nobody waits for this answer any more."""
        port, ident = ticket
        port.waiting.pop(ident, None)
        if port.retired and not port.waiting:
            self._close(port)

    async def ask_over_tcp(self, message: bytes) -> bytes:
        """Ask over a connection of its own (RFC 7766). The caller bounds the time.

        Raises OSError or EOFError when no answer came.
        """
        if self.pinned is not None:
            return await self.pinned.ask(message)
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        try:
            writer.write(len(message).to_bytes(2, "big") + message)
            length = int.from_bytes(await reader.readexactly(2), "big")
            return await reader.readexactly(length)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def ident(self) -> bytes:
        """A random id."""
        return self._octets(2)

    def close(self) -> None:
        """Close all sockets; what still waits is not told."""
        if self.pinned is not None:
            self.pinned.close()
        for port in self._ports:
            port.waiting.clear()
            self._close(port)
        self._ports.clear()

    def _octets(self, count: int) -> bytes:
        if len(self._random) < count:
            self._random = os.urandom(512)
        octets, self._random = self._random[:count], self._random[count:]
        return octets

    def _choose(self) -> _Port:
        if len(self._ports) < SOCKETS:
            port = _Port(self.address)
            self._ports.append(port)
            self._loop.add_reader(port.socket.fileno(), self._read, port)
            return port
        place = self._octets(1)[0] % SOCKETS
        port = self._ports[place]
        if port.sent < QUERIES_PER_SOCKET and len(port.waiting) < 1 << 15:
            return port
        fresh = self._ports[place] = _Port(self.address)
        self._loop.add_reader(fresh.socket.fileno(), self._read, fresh)
        port.retired = True
        if not port.waiting:
            self._close(port)
        return fresh

    def _read(self, port: _Port) -> None:
        for _ in range(DRAIN):
            try:
                message = port.socket.recv(LONGEST_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # ECONNREFUSED: an ICMP message said that nobody listens
                self._discard(port)
                self._refused(port)
                return
            waits = port.waiting.get(message[:2])
            if waits is not None and waits.received(message):
                port.waiting.pop(message[:2], None)
            if port.retired and not port.waiting:
                self._close(port)
                return

    def _discard(self, port: _Port) -> None:
        """Close a socket that had an error: libuv, and so uvloop, does not look at it any more."""
        if port in self._ports:
            self._ports.remove(port)
        self._close(port)

    def _refused(self, port: _Port) -> None:
        """Tell those who wait that nobody listens."""
        self.failed(SUSPECT)
        waiting, port.waiting = port.waiting, {}
        for asking in waiting.values():
            asking.refused()

    def _close(self, port: _Port) -> None:
        if port.socket.fileno() >= 0:
            self._loop.remove_reader(port.socket.fileno())
            port.socket.close()
