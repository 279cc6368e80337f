"""LMTP, the server side (RFC 2033), on aiosmtpd's LMTP class: one reply for each recipient after the data.

aiosmtpd has the connection, the command loop, time-outs and RSET, NOOP, QUIT. Replaced here is what
it cannot do, each by the method that the class calls for it:

    smtp_LHLO             announces what is honoured: PIPELINING SIZE 8BITMIME SMTPUTF8 ENHANCEDSTATUSCODES
    smtp_MAIL, smtp_RCPT  the grammar of `mta.smtp.syntax`, the null sender, mailboxes and quotas
    smtp_DATA             reads blocks instead of lines, then answers each recipient in the order of RCPT
                          (RFC 2033 section 4.2), each as soon as its copy is on the disk
    push                  gives aiosmtpd's own replies the enhanced code that RFC 2034 asks for
    _create_envelope      makes a `Transaction`, so every reset of aiosmtpd resets ours too

There is no TLS and no AUTH: the listener is a Unix socket or loopback, or stands in a trusted network.

A client that goes away during the data is forgotten. One that goes away after the final dot gets its
message stored, since that cannot be stopped any more, and will send it again: twice, never not at all.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable
from time import monotonic
from typing import Protocol

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import Envelope

from mta.address import Address
from mta.content import Content, MessageBuffer, SpillError
from mta.reply import Reply
from mta.smtp.syntax import Parameters, SyntaxProblem, parse_helo_argument, parse_mail, parse_rcpt
from mta.smtp.wire import DataDecoder, TextCheck
from mta.store.deliver import refusal
from mta.store.mailboxes import Destination

IDENTITY = "Tamis LMTP"
BLOCK = 64 * 1024
"""Octets read at a time; also the most that aiosmtpd buffers of a connection, times two."""
MAX_COMMAND_LINE = 2048
"""Octets of a command line. RFC 5321 asks for 512, with SMTPUTF8, SIZE and a long path under 1,000."""

_BAD_SEQUENCE_MAIL = Reply(503, "5.5.1", "Need MAIL command")
_BAD_SEQUENCE_RCPT = Reply(503, "5.5.1", "Need RCPT command")
_NO_HELLO = Reply(503, "5.5.1", "Send LHLO first")
_ENHANCED = {
    "500": "5.5.2",
    "501": "5.5.4",
    "502": "5.5.1",
    "503": "5.5.1",
    "504": "5.5.4",
    "553": "5.1.3",
    "555": "5.5.4",
}
_NOT_OFFERED = ("AUTH", "STARTTLS", "EXPN", "VRFY", "HELP")


class Accepted:
    """One recipient that RCPT accepted."""

    __slots__ = ("address", "destination")

    def __init__(self, address: Address, destination: Destination) -> None:
        """`address` as in RCPT, `destination` where its mail goes."""
        self.address = address
        self.destination = destination


class Transaction(Envelope):
    """aiosmtpd's envelope with ours inside."""

    def __init__(self) -> None:
        """Begin a transaction without a sender."""
        super().__init__()
        self.sender: Address | None = None
        self.utf8 = False
        self.size = 0
        self.accepted: list[Accepted] = []


class Host(Protocol):
    """What a session needs of the server that it belongs to."""

    hostname: str
    size_limit: int
    recipient_limit: int
    stopping: bool
    spill_directory: str | None

    def find(self, address: Address) -> Destination | Reply:
        """Where mail for an address goes, or why it does not."""

    def room(self, destination: Destination, size: int) -> Awaitable[Reply | None]:
        """The refusal of a full mailbox, None when there is room."""

    def deliver(
        self, accepted: list[Accepted], content: Content, sender: Address
    ) -> list[asyncio.Future[Reply]]:
        """Begin to store a message; one reply for each of `accepted`, in this order."""

    def failed(self, error: Exception) -> None:
        """A session met an error of our own making."""

    def stored(
        self, peer: str, transaction: Transaction, size: int, replies: list[Reply], seconds: float
    ) -> None:
        """All recipients of a message have been answered."""

    def ended(self, session: StoreSession) -> None:
        """The connection is closed."""


class Reader:
    """A stream reader that takes octets back: what follows the end of a message is a command again."""

    __slots__ = ("_returned", "_stream")

    def __init__(self, stream: asyncio.StreamReader) -> None:
        """Read from `stream`."""
        self._stream = stream
        self._returned = b""

    def unread(self, data: bytes) -> None:
        """Give octets back; they are read next."""
        self._returned = data + self._returned

    async def read(self, octets: int) -> bytes:
        """Read up to `octets`, at least one; b"" at the end of the stream."""
        if self._returned:
            data, self._returned = self._returned[:octets], self._returned[octets:]
            return data
        return await self._stream.read(octets)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Read up to and with a separator of one octet, as `asyncio.StreamReader.readuntil` does."""
        if not self._returned:
            return await self._stream.readuntil(separator)
        line, found, self._returned = self._returned.partition(separator)
        if found:
            return line + found
        return line + await self._stream.readuntil(separator)


class StoreSession(LMTP):
    """One LMTP connection."""

    # aiosmtpd sizes its stream buffer with this; the lines of a message have no limit here.
    line_length_limit = BLOCK

    envelope: Transaction

    def __init__(self, host: Host, peer: str, timeout: float, loop: asyncio.AbstractEventLoop) -> None:
        """A session of `host` with the client `peer`; it ends after `timeout` seconds without input."""
        super().__init__(
            None,
            data_size_limit=host.size_limit,
            enable_SMTPUTF8=True,
            hostname=host.hostname,
            ident=IDENTITY,
            timeout=timeout,
            loop=loop,
        )
        self.command_size_limits = defaultdict(lambda: MAX_COMMAND_LINE)
        self.command_size_limit = MAX_COMMAND_LINE
        for verb in _NOT_OFFERED:
            self._smtp_methods.pop(verb, None)
        self._host = host
        self._peer = peer
        self._client = ""

    # -- what aiosmtpd calls around the commands

    def _create_envelope(self) -> Transaction:
        return Transaction()

    def _cb_client_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super()._cb_client_connected(reader, writer)
        self._blocks = Reader(reader)
        # aiosmtpd reads commands from here by the two methods that Reader has.
        self._reader = self._blocks  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        """End the session."""
        super().connection_lost(error)
        self._host.ended(self)

    def _timeout_cb(self) -> None:
        self.leave(Reply(421, "4.4.2", "Timed out"))

    async def handle_exception(self, error: Exception) -> str:
        """Answer an error of our own making and end the session; the client learns nothing of its inside.

        A session that went on could owe replies to some recipients and give later ones to the wrong.
        """
        self._host.failed(error)
        if self.transport is not None:
            self.loop.call_soon(self.transport.close)  # after the reply, which is sent on return
        return "421 4.3.0 Internal error"

    async def push(self, status: str | bytes) -> None:
        """Send a reply of aiosmtpd, with an enhanced code when it lacks one."""
        if isinstance(status, str):
            status = with_enhanced_code(status).encode("utf-8")
        await super().push(status)

    async def answer(self, reply: Reply) -> None:
        """Send a reply."""
        await super().push(reply.encode()[:-2])

    @property
    def is_idle(self) -> bool:
        """True between two transactions."""
        return self.envelope.sender is None

    def leave(self, reply: Reply) -> None:
        """Say why and close, without waiting for the client."""
        if self.transport is not None:
            self._writer.write(reply.encode())
            self.transport.close()

    # -- commands

    async def smtp_LHLO(self, arg: str) -> None:
        """Greet the client and say what is offered (RFC 2033 section 4.1)."""
        try:
            name = parse_helo_argument(_octets(arg))
        except SyntaxProblem as problem:
            await self.answer(problem.reply)
            return
        self.envelope = Transaction()
        self._client = name
        host = self._host
        offers = ("PIPELINING", f"SIZE {host.size_limit}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
        await self.answer(Reply(250, "", "\n".join((host.hostname, *offers))))

    async def smtp_MAIL(self, arg: str) -> None:
        """Begin a transaction; SIZE, BODY and SMTPUTF8 are understood."""
        if not self._client:
            await self.answer(_NO_HELLO)
            return
        transaction = self.envelope
        if transaction.sender is not None:
            await self.answer(Reply(503, "5.5.1", "Nested MAIL command"))
            return
        try:
            sender, parameters = parse_mail(_octets(arg), smtputf8_ok=True)
            transaction.size, transaction.utf8 = self._mail_parameters(parameters)
        except SyntaxProblem as problem:
            await self.answer(problem.reply)
            return
        transaction.sender = sender
        await self.answer(Reply(250, "2.1.0", "OK"))

    def _mail_parameters(self, parameters: Parameters) -> tuple[int, bool]:
        size, utf8 = 0, False
        for keyword, value in parameters:
            match keyword, value:
                case "SIZE", str() if value.isdecimal() and value.isascii() and len(value) <= 20:
                    size = int(value)
                case "BODY", str() if value.upper() in ("7BIT", "8BITMIME"):
                    pass
                case "SMTPUTF8", None:
                    utf8 = True
                case "SIZE" | "BODY" | "SMTPUTF8", _:
                    raise SyntaxProblem(Reply(501, "5.5.4", f"Bad value of {keyword}"))
                case _:
                    raise SyntaxProblem(Reply(555, "5.5.4", f"Unknown parameter {keyword}"))
        if size > self._host.size_limit:
            raise SyntaxProblem(_too_big())
        return size, utf8

    async def smtp_RCPT(self, arg: str) -> None:
        """Add a recipient that has a mailbox with room."""
        transaction = self.envelope
        if transaction.sender is None:
            await self.answer(_BAD_SEQUENCE_MAIL)
            return
        try:
            address, parameters = parse_rcpt(_octets(arg), smtputf8_ok=transaction.utf8)
        except SyntaxProblem as problem:
            await self.answer(problem.reply)
            return
        if parameters:
            await self.answer(Reply(555, "5.5.4", f"Unknown parameter {parameters[0][0]}"))
            return
        if len(transaction.accepted) >= self._host.recipient_limit:
            await self.answer(Reply(452, "4.5.3", "Too many recipients"))
            return
        found = self._host.find(address)
        if isinstance(found, Reply):
            await self.answer(found)
            return
        if found.mailbox.quota.limited:
            refused = await self._host.room(found, transaction.size)
            if refused is not None:
                await self.answer(refused)
                return
        transaction.accepted.append(Accepted(address, found))
        await self.answer(Reply(250, "2.1.5", "OK"))

    async def smtp_DATA(self, arg: str) -> None:
        """Take the message and answer once for each accepted recipient."""
        transaction = self.envelope
        if transaction.sender is None:
            await self.answer(_BAD_SEQUENCE_MAIL)
            return
        if not transaction.accepted:
            await self.answer(_BAD_SEQUENCE_RCPT)
            return
        if arg:
            await self.answer(Reply(501, "5.5.4", "DATA takes no argument"))
            return
        await self.answer(Reply(354, "", "End data with <CR><LF>.<CR><LF>"))
        content, problem = await self._receive()
        begun = monotonic()
        replies: list[Reply] = []
        if problem is not None:
            for _ in transaction.accepted:
                replies.append(problem)
                await self.answer(problem)
        else:
            for pending in self._host.deliver(transaction.accepted, content, transaction.sender):
                reply = await pending
                replies.append(reply)
                await self.answer(reply)
        self._host.stored(self._peer, transaction, content.size, replies, monotonic() - begun)
        self.envelope = Transaction()
        if self._host.stopping:
            self.leave(stopping(self._host.hostname))

    async def _receive(self) -> tuple[MessageBuffer, Reply | None]:
        """Read a message to its end, with LF line ends; a Reply when it cannot be kept.

        It is read to the end in any case: the reply comes after the final dot.
        """
        # Nobody closes the buffer: writing threads may still read from it after the session is gone. It
        # frees its file when the last of them drops it.
        buffer = MessageBuffer(self._host.spill_directory)
        decoder = DataDecoder(TextCheck())
        problem: Reply | None = None
        received = 0
        while not decoder.done:
            block = await self._blocks.read(BLOCK)
            if not block:
                raise ConnectionResetError("the client closed the connection within a message")
            self._reset_timeout()
            text = decoder.feed(block)
            received += len(text)
            if problem is not None or not text:
                continue
            if received > self._host.size_limit:
                problem = _too_big()
            else:
                try:
                    buffer.append(text.replace(b"\r\n", b"\n"))
                except SpillError as error:
                    problem = refusal(error)
            if problem is not None:
                buffer.close()
        if decoder.rest:
            self._blocks.unread(decoder.rest)
        return buffer, problem


def stopping(hostname: str) -> Reply:
    """The farewell of a server that stops."""
    return Reply(421, "4.3.2", f"{hostname} is shutting down", close=True)


def with_enhanced_code(status: str) -> str:
    """A reply line with an enhanced code (RFC 2034), unless it has one or must not have one."""
    code, rest = status[:3], status[4:]
    if status[3:4] != " " or code in ("220", "354") or rest[:2] == f"{code[0]}.":
        return status
    return f"{code} {_ENHANCED.get(code, f'{code[0]}.0.0')} {rest}"


def _too_big() -> Reply:
    return Reply(552, "5.3.4", "Message too big")


def _octets(argument: str | None) -> bytes:
    """The octets that aiosmtpd decoded."""
    return (argument or "").encode("utf-8", "surrogateescape")
