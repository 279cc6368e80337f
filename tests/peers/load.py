"""Many SMTP clients at once, each message with a name of its own, and exact books of what they were told.

Everything runs in the test's own loop. A client sends its next message when the one before has been answered;
what was not answered 250 may be sent again, octet by octet the same, as real clients do. The books say for
each name what became of each try: the reply, or where the connection was lost ("lost: commands"; "lost: data"
when the message was not complete; "lost: answer" when it may have been complete).
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop

from tests.dialog.backend import ScriptedStore
from tests.peers.running import PATIENCE

_NAME = re.compile(rb"^X-Load: (\S+)\r?$", re.MULTILINE)
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close with RST."""


def name_in(octets: bytes) -> str:
    """The name of a message."""
    found = _NAME.search(octets)
    assert found, octets[:200]
    return found[1].decode()


def run(main: Callable[[], Coroutine[Any, Any, None]], seconds: float = 240.0) -> None:
    """Run a test's coroutine on uvloop, with an end."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await main()

    uvloop.run(bounded())


@asynccontextmanager
async def sinking(**settings: Any) -> AsyncIterator[ScriptedStore]:
    """An LMTP server in this loop that keeps what it gets; `settings` are those of `ScriptedStore`."""
    sink = ScriptedStore(**settings)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop()


def sink_backend(sink: ScriptedStore) -> str:
    """The configuration of the back end that is this sink."""
    return f'[backends.sink]\naddresses = ["127.0.0.1:{sink.port}"]\nfailure_delay = "0.1s"\n'


def copies(sink: ScriptedStore) -> Counter[str]:
    """How often each message was delivered."""
    return Counter(name_in(delivered.octets) for delivered in sink.delivered)


@dataclass
class Books:
    """What the clients know."""

    tries: dict[str, list[str]] = field(default_factory=dict)
    """By name of a message, what came of each try."""

    def note(self, name: str, result: str) -> bool:
        """One try; True when it was accepted."""
        self.tries.setdefault(name, []).append(result)
        return result.startswith("250 ")

    @property
    def accepted(self) -> set[str]:
        """Names that were answered 250."""
        return {name for name, results in self.tries.items() if results[-1].startswith("250 ")}

    @property
    def pending(self) -> list[str]:
        """Names that were not."""
        return [name for name, results in self.tries.items() if not results[-1].startswith("250 ")]

    @property
    def results(self) -> Counter[str]:
        """How often what came; of replies only code and enhanced code."""
        # A copy, for it is asked from other threads too.
        every = [result for results in list(self.tries.values()) for result in results]
        return Counter(result if result.startswith("lost") else result[:9] for result in every)

    def may_be_double(self, name: str) -> bool:
        """True when a try of this message ended without telling whether it was delivered."""
        return any(result == "lost: answer" or result.startswith("4") for result in self.tries[name][:-1])


@dataclass
class Lost(Exception):
    """The connection is gone."""

    where: str


class Session:
    """One connection."""

    def __init__(self, port: int, name: str = "load.test") -> None:
        """`name` is what the client calls itself: it is in the server's log."""
        self._port = port
        self._name = name

    async def open(self, source: str = "127.0.0.1") -> None:
        """Connect from `source`, greeting, EHLO. Raises Lost, for a refusal with the reply in `where`."""
        try:
            self.reader, self.writer = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=(source, 0)
            )
        except OSError as error:
            raise Lost(f"connect: {error}") from error
        try:
            greeting = await self.reply("greeting")
            if not greeting.startswith("220 "):
                raise Lost(f"greeting: {greeting}")
            await self.say(f"EHLO {self._name}", "commands")
        except Lost:
            self.cut()
            raise

    async def reply(self, where: str) -> str:
        """One reply, its last line."""
        try:
            while True:
                line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
                if not line.endswith(b"\n"):
                    raise Lost(where)
                if line[3:4] == b" ":
                    return line.decode().rstrip()
        except (OSError, TimeoutError) as error:
            raise Lost(where) from error

    async def say(self, command: str, where: str) -> str:
        """A command and its reply."""
        self.writer.write(command.encode() + b"\r\n")
        return await self.reply(where)

    async def begin(self, recipient: str) -> str:
        """MAIL, RCPT and DATA in one group; the reply that ends it."""
        group = f"MAIL FROM:<load@example.org>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"
        self.writer.write(group.encode())
        replies = [await self.reply("commands") for _ in range(3)]
        bad = [reply for reply in replies if reply[0] not in "23"]
        return bad[0] if bad else replies[-1]

    async def send(self, message: bytes, recipient: str) -> str:
        """A whole transaction; the reply."""
        last = await self.begin(recipient)
        if not last.startswith("354"):
            if not last.startswith("421"):
                await self.say("RSET", "commands")
            return last
        self.writer.write(message + b".\r\n")
        try:
            await self.writer.drain()
        except OSError as error:
            raise Lost("answer") from error
        return await self.reply("answer")

    async def quit(self) -> None:
        """End politely."""
        try:
            await self.say("QUIT", "quit")
        finally:
            self.cut()

    def cut(self, *, reset: bool = False) -> None:
        """Close without a word, with FIN or with RST."""
        sock = self.writer.get_extra_info("socket") if reset else None
        if sock is not None:  # it is not closed yet
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


def message(name: str, size: int = 1000) -> bytes:
    """The message of this name: always the same octets."""
    head = f"From: load@example.org\r\nMessage-ID: <{name}@load>\r\nX-Load: {name}\r\n\r\n"
    line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n"
    return (head + line * (size // len(line) + 1)).encode()


class Load:
    """Clients that send until they are told to stop; use as an async context manager."""

    def __init__(
        self,
        port: int,
        *,
        clients: int = 10,
        messages_per_session: int = 1,
        recipient: Callable[[str], str] = lambda name: "alice@example.test",
        size: int = 1000,
        retry: bool = False,
        prefix: str = "m",
        pause: float = 0.02,
    ) -> None:
        """`retry`: what was not accepted is sent again until it is, also after the load was told to stop.

        `pause`, in seconds, after each message leaves the machine time for what is tested besides.
        """
        self.books = Books()
        self.troubles: list[str] = []
        """What happened outside of messages: sessions that did not come about or were ended."""
        self._port = port
        self._clients = clients
        self._per_session = messages_per_session
        self._recipient = recipient
        self._size = size
        self._retry = retry
        self._prefix = prefix
        self._pause = pause
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def grow(self, by: int) -> None:
        """Wait until so many more messages have been accepted."""
        wanted = len(self.books.accepted) + by
        end = time.monotonic() + PATIENCE
        while len(self.books.accepted) < wanted:
            assert time.monotonic() < end, f"the load stands still: {self.books.results} {self.troubles[-5:]}"
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)

    async def _client(self, number: int) -> None:
        count = 0
        queue: list[str] = []
        give_up = float("inf")
        while True:
            if self._stopping:
                give_up = min(give_up, time.monotonic() + PATIENCE)
                if not queue or not self._retry or time.monotonic() > give_up:
                    return
            session = Session(self._port)
            try:
                await session.open()
            except Lost as lost:
                self.troubles.append(lost.where)
                await asyncio.sleep(0.02)
                continue
            for _ in range(self._per_session):
                if not queue:
                    if self._stopping:
                        break
                    count += 1
                    queue.append(f"{self._prefix}{number}-{count}")
                name = queue[0]
                try:
                    reply = await session.send(message(name, self._size), self._recipient(name))
                except Lost as lost:
                    self.books.note(name, f"lost: {lost.where}")
                    if not self._retry:
                        queue.pop()
                    break
                if self.books.note(name, reply) or not self._retry:
                    queue.pop()
                else:
                    await asyncio.sleep(0.05)
                if reply.startswith("421"):
                    break
                await asyncio.sleep(self._pause)
            else:
                try:
                    await session.quit()
                except Lost as lost:
                    self.troubles.append(lost.where)
            session.cut()


async def send_and_vanish(port: int, name: str, recipient: str, chance: random.Random, size: int) -> str:
    """Send a message and go away at a random point, with FIN or RST; what the client knows afterwards."""
    session = Session(port, f"{name}.test")
    point = chance.choice(["greeting", "commands", "data", "answer", "answer", "answer", "late"])
    octets = message(name, size) + b".\r\n"
    try:
        await session.open()
        if point == "greeting":
            return "lost: commands"
        if point == "commands":
            session.writer.write(f"MAIL FROM:<load@example.org>\r\nRCPT TO:<{recipient}>\r\n".encode())
            await asyncio.sleep(chance.random() * 0.005)
            return "lost: commands"
        reply = await session.begin(recipient)
        if not reply.startswith("354"):
            return reply
        if point == "data":
            session.writer.write(octets[: chance.randrange(len(octets) - 5)])
            await asyncio.sleep(chance.random() * 0.005)
            return "lost: data"
        if point == "answer":
            # An answer that comes meanwhile stays unread in the kernel, as when a program dies.
            session.writer.transport.pause_reading()  # type: ignore[attr-defined]
        session.writer.write(octets)
        await session.writer.drain()
        if point == "answer":
            await asyncio.sleep(chance.random() ** 2 * 0.03)
            return "lost: answer"
        reply = await session.reply("answer")
        return reply
    except Lost as lost:
        return f"lost: {lost.where}"
    except OSError:
        return "lost: answer"
    finally:
        if hasattr(session, "writer"):
            session.cut(reset=chance.random() < 0.5)
