"""Next hops that go wrong in every way, by chance, and keep exact books of what they have.

`Fickle` speaks LMTP or SMTP. In a fault it closes, resets, says 421 or another 4xx, talks nonsense or stalls,
at any stage; it also takes a message and loses the answer. With a `Tls` it offers STARTTLS, which fails in
all ways too. `Ledger` knows who has which copy, and of which copies the sender may not have heard. Messages
are those of `tests.peers.load`, by their names; reports of failures are noted by the message and the
recipient that they are about.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.peers.load import name_in

Copy = tuple[str, str]
"""Name of a message and address of a recipient."""
STAGES = ("greeting", "hello", "mail", "rcpt", "data", "content", "final")
FINAL = ("late", "lost", "partly", "temporary", "421")
_OTHERS = ("close", "reset", "421", "temporary", "stall", "nonsense")
_TLS = ("stripped", "refused", "close", "cut", "reset", "garbage", "stall", "wrong")
_ABOUT = re.compile(rb"^Final-Recipient: rfc822; *(\S+)\r?$", re.MULTILINE | re.IGNORECASE)
PAUSE = 5.0
"""Seconds of the longest stall."""
HEARD = 0.3
"""Seconds after an answer in which a connection that ends without a word has not heard it."""


@dataclass
class Ledger:
    """What all next hops together know."""

    has: Counter[Copy] = field(default_factory=Counter)
    unsure: Counter[Copy] = field(default_factory=Counter)
    """Copies of them whose 250 may not have been heard."""
    reports: Counter[Copy] = field(default_factory=Counter)
    latest: dict[Copy, float] = field(default_factory=dict)
    """When the last copy came, by a steady clock."""
    betrayed: list[str] = field(default_factory=list)
    """What came over a connection that it should never have been given to."""
    history: list[str] = field(default_factory=list)
    """Transactions with faults or copies, for whoever has to find out what went wrong."""

    def keep(self, sender: str, recipient: str, octets: bytes) -> None:
        """A copy is stored."""
        name = name_in(octets)
        if sender:
            self.has[name, recipient] += 1
            self.latest[name, recipient] = time.monotonic()
        else:
            self.reports.update((name, about.decode()) for about in _ABOUT.findall(octets))

    def forget(self, seconds: float) -> None:
        """Whoever sent the copies of the last seconds may have died before it had noted them."""
        since = time.monotonic() - seconds
        self.unsure.update([copy for copy, when in self.latest.items() if when >= since])


def refusal(address: str) -> str:
    """Where an address is refused for good: "rcpt", "final", or "" for one that exists."""
    return {"nobody": "rcpt", "never": "final"}.get(address.partition("@")[0].partition("-")[0], "")


@dataclass(frozen=True)
class Tls:
    """How a server does STARTTLS."""

    right: ssl.SSLContext
    wrong: ssl.SSLContext
    """With a certificate of somebody else."""
    demanded: bool = False
    """Nobody may send anything in the clear, or to the wrong certificate."""


class Fickle:
    """A server on loopback, with faults until `calm`; use as an async context manager."""

    def __init__(
        self,
        ledger: Ledger,
        chance: random.Random,
        *,
        keywords: tuple[str, ...] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        longest: float = PAUSE,
    ) -> None:
        """`keywords` are offered beside PIPELINING and 8BITMIME; `longest` is that of a stall, in seconds."""
        self.host = host
        self.port = port
        self.tls = tls
        self._longest = longest
        self.rate = 0.3
        """Part of the transactions, and of the greetings, that have a fault."""
        self.faults: Counter[str] = Counter()
        self._ledger = ledger
        self._chance = chance
        self._keywords = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", *keywords)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def calm(self) -> None:
        """No more faults."""
        self.rate = 0.0

    async def __aenter__(self) -> Fickle:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=2**23)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await _Dialog(self, reader, writer).run()
        except (_Over, OSError, asyncio.IncompleteReadError):
            pass  # a fault of ours, or the client is gone
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    def plan(self, stages: tuple[str, ...]) -> tuple[str, str]:
        """The next fault: its stage and kind, ("", "") for none."""
        chance = self._chance
        if chance.random() >= self.rate:
            return "", ""
        stage = chance.choice(stages)
        kind = chance.choice(FINAL if stage == "final" else _OTHERS)
        self.faults[f"{stage} {kind}"] += 1
        return stage, kind

    def tls_fault(self) -> str:
        """What is wrong with TLS in a connection, "" for nothing."""
        if self.tls is None or self._chance.random() >= self.rate / 2:
            return ""
        kind = self._chance.choice(_TLS)
        self.faults[f"tls {kind}"] += 1
        return kind

    def pause(self) -> float:
        """Seconds of a stall: below and above the deadlines of the test."""
        return self._chance.choice((0.1, 0.5, self._longest / 2, self._longest)) * self._chance.random()

    def some(self, number: int) -> int:
        """A part of so many."""
        return self._chance.randrange(number)

    def keep(self, sender: str, recipient: str, octets: bytes, channel: str = "clear") -> None:
        """Store a copy that came in the clear, or by the "right" or "wrong" certificate."""
        self._ledger.keep(sender, recipient, octets)
        if self.tls is not None and self.tls.demanded and channel != "right":
            self._ledger.betrayed.append(f"{name_in(octets)} for {recipient}: {channel}")

    def note(self, text: str) -> None:
        """For the history."""
        self._ledger.history.append(f"{datetime.now(UTC):%H:%M:%S.%f} {self.port} {text}")

    def not_heard(self, copies: list[Copy]) -> None:
        """The answers about these may not have arrived."""
        self._ledger.unsure.update(copies)

    def hello(self, *, starttls: bool = False) -> list[str]:
        """The lines of the answer to EHLO and LHLO."""
        return ["fickle.test", *self._keywords, *(("STARTTLS",) if starttls else ())]


class _Over(Exception):
    pass


class _Dialog:
    def __init__(self, server: Fickle, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.lmtp = True
        self.sender = ""
        self.recipients: list[str] = []
        self.chunks = b""
        self.fault = ("", "")
        self.channel = "clear"
        self.tls_fault = server.tls_fault()
        self.told: list[Copy] = []
        """Of whom 250 was said last."""

    def say(self, *lines: str) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())

    async def answer(self, stage: str, *lines: str) -> bool:
        """Answer, or what the fault of this stage does instead; True when it was the right answer."""
        kind = self.fault[1] if self.fault[0] == stage else ""
        match kind:
            case "close":
                await self.writer.drain()
                raise _Over
            case "reset":
                self.writer.transport.abort()
                raise _Over
            case "421":
                self.say("421 4.3.2 going down")
                await self.writer.drain()
                raise _Over
            case "temporary":
                self.say("451 4.3.0 not now")
                return False
            case "nonsense":
                self.say("what is that?")
                return False
            case "stall":
                await asyncio.sleep(self.server.pause())
        self.say(*lines)
        return True

    async def line(self) -> str:
        """The next command, "" when there is none; then it is not certain that the last answer was read."""
        told, self.told = self.told, []
        since = time.monotonic()
        try:
            line = await self.reader.readline()
        except ConnectionError:
            line = b""
        if not line and time.monotonic() - since < HEARD:
            self.server.not_heard(told)
        return line.decode("utf-8").rstrip("\r\n")

    async def run(self) -> None:
        self.fault = self.server.plan(("greeting", "hello")) if self.server.some(4) == 0 else ("", "")
        await self.answer("greeting", "220 fickle.test")
        while line := await self.line():
            verb = line.split(" ", 1)[0].upper()
            address = line[line.find("<") + 1 : line.find(">")]
            match verb:
                case "LHLO" | "EHLO":
                    self.lmtp = verb == "LHLO"
                    offered = self.server.tls is not None and self.channel == "clear"
                    *first, last = self.server.hello(starttls=offered and self.tls_fault != "stripped")
                    await self.answer("hello", *(f"250-{word}" for word in first), f"250 {last}")
                case "STARTTLS" if self.server.tls is not None:
                    await self.starttls(self.server.tls)
                case "MAIL":
                    self.fault = self.server.plan(STAGES[2:])
                    self.sender, self.recipients, self.chunks = address, [], b""
                    await self.answer("mail", "250 2.1.0 ok")
                case "RCPT" if refusal(address) == "rcpt" or (refusal(address) and not self.lmtp):
                    self.say("550 5.1.1 nobody of that name")
                case "RCPT":
                    if await self.answer("rcpt", "250 2.1.5 ok"):
                        self.recipients.append(address)
                case "DATA" if not self.recipients:
                    self.say("503 5.5.1 no recipients")
                case "DATA":
                    if await self.answer("data", "354 go on"):
                        await self.dotted()
                case "BDAT":
                    await self.chunk(line.split(" "))
                case "RSET" | "NOOP":
                    self.recipients, self.chunks = [], b""
                    self.say("250 2.0.0 ok")
                case "QUIT":
                    self.say("221 2.0.0 bye")
                    return
                case _:
                    self.say("500 5.5.1 what?")

    async def starttls(self, tls: Tls) -> None:
        fault = self.tls_fault
        if fault == "refused":
            self.say("454 4.7.0 not now")
            return
        self.say("220 2.0.0 go")
        await self.writer.drain()
        if fault in ("close", "cut", "reset", "garbage"):
            if fault != "close":
                await self.reader.read(self.server.some(600) + 1)
            if fault == "garbage":
                self.writer.write(b"this is no TLS" * 9)
                await self.writer.drain()
            if fault == "reset":
                self.writer.transport.abort()
            raise _Over
        if fault == "stall":
            await asyncio.sleep(self.server.pause())
        self.channel = "wrong" if fault == "wrong" else "right"
        await self.writer.start_tls(tls.wrong if fault == "wrong" else tls.right)

    async def dotted(self) -> None:
        await self.content()
        octets = await self.reader.readuntil(b"\r\n.\r\n")
        await self.final((b"\r\n" + octets[:-3]).replace(b"\r\n.", b"\r\n")[2:])

    async def chunk(self, words: list[str]) -> None:
        await self.content()
        self.chunks += await self.reader.readexactly(int(words[1]))
        if not self.recipients:
            self.say("503 5.5.1 no recipients")
        elif words[2:] == ["LAST"]:
            octets, self.chunks = self.chunks, b""
            await self.final(octets)
        else:
            self.say("250 2.0.0 go on")

    async def content(self) -> None:
        """A fault in the middle of the content: only ends and stalls."""
        stage, kind = self.fault
        if stage == "content" and kind in ("close", "reset"):
            await self.reader.read(self.server.some(3000) + 1)
            await self.answer("content")
        elif stage == "content" and kind == "stall":
            await asyncio.sleep(self.server.pause())

    async def final(self, octets: bytes) -> None:
        """The answers to a whole message, and what is kept of it."""
        kind = self.fault[1] if self.fault[0] == "final" else ""
        recipients, self.recipients = self.recipients, []
        if kind == "421" or (kind == "temporary" and not self.lmtp):
            await self.answer("final")
            return
        taken: list[str] = []
        replies: list[str] = []
        for one in recipients:
            if refusal(one) == "final":
                replies.append("552 5.2.2 never")
            elif kind == "temporary" and self.server.some(2):
                replies.append("452 4.2.2 full just now")
            else:
                taken.append(one)
                replies.append("250 2.0.0 kept")
        for one in taken:
            self.server.keep(self.sender, one, octets, self.channel)
        copies = [(name_in(octets), one) for one in taken]
        self.server.note(f"{name_in(octets)} {self.sender} {recipients} {self.fault} {replies}")
        if not self.lmtp:
            replies = replies[:1]
        if kind == "late":
            await asyncio.sleep(self.server.pause())
        if kind in ("lost", "partly"):
            # What is said before the connection ends may be lost with it.
            self.server.not_heard(copies)
            self.say(*replies[: 0 if kind == "lost" else self.server.some(len(replies))])
            await self.writer.drain()
            raise _Over
        self.told = copies
        try:
            self.say(*replies)
            await self.writer.drain()
        except ConnectionError:
            self.server.not_heard(copies)
            raise
