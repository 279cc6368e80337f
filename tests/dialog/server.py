"""The daemon in this process, on uvloop and loopback, with a scripted mail store behind it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from mta import config
from mta.daemon import Daemon
from mta.net import counters
from tests.dialog.backend import ScriptedStore

CONFIGURATION = """
[identity]
hostname = "mx.test"
[[listener]]
name = "smtp"
addresses = ["127.0.0.1:1"]
{listener}
[domains."example.test"]
backend = "store"
recipients = "{recipients}"
{domain}
[backends.store]
addresses = ["127.0.0.1:{store}"]
failure_delay = "0.1s"
{backend}
[queue]
{queue}
[process]
state_directory = "{folder}"
runtime_directory = "{folder}"
{more}
"""


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine on uvloop, with an end."""

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await main()

    uvloop.run(bounded())


class Link:
    """A node of one worker; what is published is kept for the test."""

    def __init__(self) -> None:
        self.slot = 0
        self.slots = 1
        self.shared_memory_fd = counters.create(1)
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.given: dict[str, dict[str, Any]] = {}
        self._subscribers: dict[str, Callable[[dict[str, Any]], None]] = {}

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        self.published.append((topic, data))

    def subscribe(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        self._subscribers[topic] = callback

    def keep(self, key: str, data: dict[str, Any]) -> None:
        self.given[key] = data

    def kept(self, key: str) -> dict[str, Any] | None:
        return self.given.get(key)

    def tell(self, topic: str, data: dict[str, Any]) -> None:
        """What another worker would have published."""
        self._subscribers[topic](data)


class Client:
    """An SMTP client that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read_reply(self) -> str:
        """One reply, its lines joined; "" at the end."""
        text = ""
        while line := (await self.reader.readline()).decode("utf-8"):
            text += line
            if line[3:4] == " ":
                break
        return text

    async def say(self, text: str | bytes, replies: int = 1) -> str:
        """Send (a str gets CRLF) and read that many replies."""
        self.writer.write(text.encode() + b"\r\n" if isinstance(text, str) else text)
        return "".join([await self.read_reply() for _ in range(replies)])

    async def hello(self, name: str = "client.test") -> str:
        """Greeting and EHLO; returns the answer to EHLO."""
        assert (await self.read_reply()).startswith("220 ")
        return await self.say(f"EHLO {name}")

    async def envelope(self, *recipients: str, sender: str = "a@x.test", parameters: str = "") -> str:
        """MAIL and RCPTs; all must be accepted."""
        text = await self.say(f"MAIL FROM:<{sender}>{parameters}")
        for recipient in recipients:
            text += await self.say(f"RCPT TO:<{recipient}>")
        assert all(line.startswith("250") for line in text.splitlines()), text
        return text

    async def send(
        self, *recipients: str, body: str = "Subject: hi\r\n\r\nhello\r\n", replies: int = 1
    ) -> str:
        """A whole transaction; returns the final replies."""
        await self.envelope(*recipients)
        assert (await self.say("DATA")).startswith("354 ")
        return await self.say(body + ".", replies)

    async def starttls(self, context: ssl.SSLContext, name: str | None = None) -> None:
        """STARTTLS and the handshake; `name` is asked for by SNI and verified if the context verifies."""
        assert (await self.say("STARTTLS")).startswith("220 2.0.0")
        await self.handshake(context, name)

    async def handshake(self, context: ssl.SSLContext, name: str | None = None) -> None:
        """The handshake alone."""
        await self.writer.start_tls(context, server_hostname=name)

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The client's end of TLS."""
        found = self.writer.get_extra_info("ssl_object")
        assert isinstance(found, ssl.SSLObject)
        return found

    def cut(self) -> None:
        """Go away without a word."""
        self.writer.transport.abort()


class Server:
    """A running daemon."""

    def __init__(self, daemon: Daemon, link: Link, store: ScriptedStore, ports: dict[str, int]) -> None:
        self.daemon = daemon
        self.link = link
        self.store = store
        self.ports = ports
        self._clients: list[Client] = []

    async def connect(self, listener: str = "smtp", **options: Any) -> Client:
        """A new client; options go to `asyncio.open_connection`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[listener], **options)
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        for client in self._clients:
            client.cut()


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    listener: str = "",
    backend: str = "",
    recipients: str = "all",
    domain: str = "",
    more: str = "",
    queue: str = "enabled = false",
    store: ScriptedStore | None = None,
) -> AsyncIterator[Server]:
    """A daemon with the given additions to its configuration, and its store; it has no queue by default."""
    store = store or ScriptedStore()
    await store.start()
    try:
        async with _daemon(folder, listener, backend, recipients, domain, more, queue, store) as server:
            yield server
    finally:
        await store.stop()


@asynccontextmanager
async def _daemon(
    folder: Path,
    listener: str,
    backend: str,
    recipients: str,
    domain: str,
    more: str,
    queue: str,
    store: ScriptedStore,
) -> AsyncIterator[Server]:
    path = folder / "tamis.toml"
    path.write_text(
        CONFIGURATION.format(
            listener=listener,
            recipients=recipients,
            domain=domain,
            store=store.port,
            backend=backend,
            folder=folder,
            more=more,
            queue=queue,
        )
    )
    settings = config.load(str(path))
    sockets: dict[str, list[socket.socket]] = {}
    ports: dict[str, int] = {}
    for section in settings.listener:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        sockets[section.name] = [sock]
        ports[section.name] = sock.getsockname()[1]
    link = Link()
    daemon = Daemon(settings, sockets, link)
    try:
        await daemon.prepare()
        await daemon.start()
    except ValueError:
        for sock in (sock for some in sockets.values() for sock in some):
            sock.close()
        raise
    server = Server(daemon, link, store, ports)
    try:
        yield server
    finally:
        server.close_clients()
        await daemon.drain(0)
