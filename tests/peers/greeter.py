"""Listeners in the test's own process, with a protocol that says who has arrived and echoes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

import uvloop

from mta.net.arrival import Arrival
from mta.net.limits import Limits
from mta.net.listener import Listener, ListenerSettings
from mta.net.tls import ServerTls
from tests.peers.lines import Lines

LOOPS = ["uvloop", "asyncio"]
T = TypeVar("T")


def run(loop: str, main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop of this name, for 20 seconds at most."""
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop

    async def bounded() -> T:
        async with asyncio.timeout(90):
            return await main

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(bounded())


def bound(family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0)) -> socket.socket:
    """A bound socket, not yet listening."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(address)
    return sock


class Greeter(asyncio.Protocol):
    """Greets with the arrival as JSON, echoes lines."""

    def __init__(self, house: House, arrival: Arrival) -> None:
        self.house = house
        self.arrival = arrival

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who has arrived."""
        self.transport = cast(asyncio.Transport, transport)
        self.house.open.add(self)
        arrival = self.arrival
        facts = {
            "listener": arrival.listener,
            "client": [arrival.client_address, arrival.client_port],
            "server": [arrival.server_address, arrival.server_port],
            "proxied": arrival.proxied,
            "tls": self.transport.get_extra_info("ssl_object") is not None,
            "pid": os.getpid(),
        }
        self.transport.write(b"220 " + json.dumps(facts).encode() + b"\r\n")

    def data_received(self, data: bytes) -> None:
        """Echo."""
        self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Give the place back."""
        self.house.open.discard(self)
        self.arrival.leave()


class House:
    """A listener and what it has seen."""

    def __init__(
        self,
        sockets: list[socket.socket] | None = None,
        *,
        tls: ServerTls | None = None,
        limits: Limits | None = None,
        factory: Callable[[Arrival], asyncio.Protocol] | None = None,
        fd_limit: int = 100000,
        **settings: Any,
    ) -> None:
        self.log = Lines()
        self.open: set[Greeter] = set()
        self.listener = Listener(
            ListenerSettings("test", implicit_tls=tls is not None, **settings),
            sockets or [bound()],
            factory or (lambda arrival: Greeter(self, arrival)),
            log=self.log,
            tls=tls,
            limits=limits,
            fd_limit=fd_limit,
        )

    async def __aenter__(self) -> House:
        await self.listener.start()
        self.address = self.listener.addresses[0]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.stop()
        await self.listener.settled()
        for greeter in list(self.open):
            greeter.transport.abort()
        await until(lambda: not self.open)

    async def connect(self, **options: Any) -> Guest:
        """A client of this house."""
        if isinstance(self.address, str):
            return Guest(*await asyncio.open_unix_connection(self.address, **options))
        return Guest(*await asyncio.open_connection(*self.address[:2], **options))


class Guest:
    """A client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def greeting(self) -> Any:
        """What the server says about us."""
        line = await self.reader.readline()
        assert line.startswith(b"220 "), line
        return json.loads(line[4:])

    async def echo(self) -> None:
        """See that the session works."""
        self.writer.write(b"NOOP\r\n")
        assert await self.reader.readline() == b"NOOP\r\n"

    async def rest(self) -> bytes:
        """What comes until the server closes; a reset counts as the end."""
        data = b""
        try:
            while piece := await self.reader.read(1000):
                data += piece
        except (ConnectionError, ssl.SSLError):
            return data
        return data

    async def close(self) -> None:
        """Close, whatever the server says."""
        self.writer.transport.abort()
        try:
            await self.writer.wait_closed()
        except (OSError, asyncio.CancelledError):
            return


async def until(probe: Callable[[], object]) -> None:
    """Wait until something is true."""
    while not probe():  # noqa: ASYNC110 - whatever it is, it has no event
        await asyncio.sleep(0.005)
