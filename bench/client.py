"""A small SMTP client that knows exactly when a reply came.

One asyncio protocol object a session, made for measuring: the clock is read when the last line of a reply
arrives, before anything is woken up.
"""

from __future__ import annotations

import asyncio
import smtplib
import time
from collections.abc import Iterable

from bench.system import RECIPIENT, SENDER, Failure

HELO_NAME = "client.test"
LINE = b"x" * 78 + b"\r\n"
END_OF_DATA = b".\r\n"
REPLY_PATIENCE = 30.0
"""Seconds for a reply."""
CONNECT_POLL = 0.002
"""Seconds between two attempts to connect to a server that starts."""


class Refused(Failure):
    """The server said something else than what the benchmark needs, or nothing at all."""


class Session(asyncio.Protocol):
    """A session; `open_session` connects it."""

    def __init__(self) -> None:
        """Wait for the greeting first."""
        self._received = bytearray()
        self._reply: asyncio.Future[tuple[int, float]] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self.connected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self.connected = True

    def data_received(self, data: bytes) -> None:
        """Look for the end of a reply."""
        now = time.perf_counter()
        self._received += data
        if (code := reply_code(self._received)) is not None:
            self._received.clear()
            if not self._reply.done():
                self._reply.set_result((code, now))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits."""
        self.connected = False
        if not self._reply.done():
            self._reply.set_exception(Refused("the server closed the connection"))
            self._reply.exception()

    async def expect(self, code: int) -> float:
        """Wait for a reply and return the time of its arrival. Raises Refused."""
        async with asyncio.timeout(REPLY_PATIENCE):
            found, moment = await self._reply
        if found != code:
            raise Refused(f"the server answered {found}, not {code}")
        return moment

    async def command(self, line: bytes, code: int) -> float:
        """Send a command (or anything that is answered) and wait for the reply. Raises Refused."""
        if not self.connected:
            raise Refused("the server has closed the connection")
        assert self._transport is not None
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(line)
        return await self.expect(code)

    async def message(self, content: bytes) -> float:
        """Send one message and return the seconds from its last octet to the reply. Raises Refused.

        `content` ends with END_OF_DATA.
        """
        await self.command(b"MAIL FROM:<%s>\r\n" % SENDER.encode(), 250)
        await self.command(b"RCPT TO:<%s>\r\n" % RECIPIENT.encode(), 250)
        await self.command(b"DATA\r\n", 354)
        begin = time.perf_counter()
        return await self.command(content, 250) - begin

    async def quit(self) -> None:
        """End the session."""
        await self.command(b"QUIT\r\n", 221)
        self.close()

    def close(self) -> None:
        """Close the connection."""
        assert self._transport is not None
        self._transport.close()


def reply_code(received: bytes | bytearray) -> int | None:
    """The code of a complete reply (RFC 5321 4.2.1); None while its last line is not there.

    >>> reply_code(b"250-a\\r\\n250 b\\r\\n"), reply_code(b"250-a\\r\\n250 b"), reply_code(b"250-a\\r\\n")
    (250, None, None)
    """
    if not received.endswith(b"\r\n"):
        return None
    last = received[received.rfind(b"\r\n", 0, -2) + 2 if received.count(b"\n") > 1 else 0 :]
    return None if last[3:4] == b"-" else int(last[:3])


async def open_session(port: int) -> Session:
    """Connect, read the greeting, say EHLO. Raises Refused, OSError."""
    loop = asyncio.get_running_loop()
    _, session = await loop.create_connection(Session, "127.0.0.1", port)
    await session.expect(220)
    await session.command(b"EHLO " + HELO_NAME.encode() + b"\r\n", 250)
    return session


def message(size: int) -> bytes:
    """A message whose header and body are `size` octets together, and the final dot."""
    header = b"From: <%s>\r\nTo: <%s>\r\nSubject: measured\r\n\r\n" % (SENDER.encode(), RECIPIENT.encode())
    lines, rest = divmod(size - len(header), len(LINE))
    if 0 < rest < 2:
        raise ValueError("the last line would be too short")
    return header + LINE * lines + (LINE[-rest:] if rest else b"") + END_OF_DATA


def first_acceptance(port: int, seconds: float) -> float:
    """Send a message as soon as somebody listens; return the time of its acceptance.

    Raises TimeoutError; smtplib's errors if the message is refused.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            client = smtplib.SMTP("127.0.0.1", port, HELO_NAME, timeout=seconds)
        except ConnectionRefusedError:
            time.sleep(CONNECT_POLL)
            continue
        with client:
            client.sendmail(SENDER, [RECIPIENT], message(4096)[: -len(END_OF_DATA)])
            return time.perf_counter()
    raise TimeoutError(f"no server on port {port} within {seconds:g} s")


async def gather(sessions: Iterable[Session], line: bytes, code: int) -> None:
    """Send the same command in all sessions. Raises Refused."""
    await asyncio.gather(*(session.command(line, code) for session in sessions))
