"""A server that answers one request at a time over a connection: memcached, socketmap, tcp_table, HTTP.

    peer = Peer(connect, most=4)
    value = await peer.exchange(b"get x\\r\\n", read)

Connections are kept and used again, at most `most` at once; who comes when all are in use waits, within its
deadline. A kept connection that the server has closed meanwhile is replaced by a new one, once. One on which
anything went wrong, or whose answer nobody waited for, is closed: an answer never goes to another question.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mta.config.notation import Inet, Unix
from mta.tables.table import TableUnavailable

T = TypeVar("T")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]
LINE_MOST = 128 * 1024
"""Octets of the longest line that is read."""


class Malformed(Exception):
    """The server's answer is none; the text says why."""


class ConnectionBroke(TableUnavailable):
    """The server has closed a new connection instead of an answer."""


class Peer:
    """Connections to one server."""

    def __init__(self, connect: Connect, most: int = 4, lasts: float = math.inf) -> None:
        """`connect` opens a connection; at most `most` are open at once, and each is used `lasts` seconds."""
        self._connect = connect
        self._free = asyncio.Semaphore(most)
        self._lasts = lasts
        self._idle: list[tuple[Streams, float]] = []

    async def exchange(self, request: bytes, read: Callable[[asyncio.StreamReader], Awaitable[T]]) -> T:
        """Send `request` and return what `read` makes of the answer. Raises TableUnavailable, which is
        ConnectionBroke where a new connection has ended."""
        clock = asyncio.get_running_loop().time
        async with self._free:
            while True:
                if kept := bool(self._idle):
                    (reader, writer), end = self._idle.pop()
                    if clock() > end:
                        writer.close()
                        continue
                else:
                    (reader, writer), end = await self._open(), clock() + self._lasts
                sound = False
                try:
                    writer.write(request)
                    answer = await read(reader)
                    sound = True
                    return answer
                except (OSError, EOFError) as error:
                    if not kept:
                        raise ConnectionBroke(f"the connection broke: {_why(error)}") from error
                except (Malformed, ValueError) as error:
                    raise TableUnavailable(f"the answer makes no sense: {error}") from error
                finally:
                    if sound and not reader.at_eof():
                        self._idle.append(((reader, writer), end))
                    else:
                        writer.transport.abort()

    async def close(self) -> None:
        """Close what is kept."""
        while self._idle:
            self._idle.pop()[0][1].close()

    async def _open(self) -> Streams:
        try:
            return await self._connect()
        except OSError as error:
            raise TableUnavailable(f"no connection: {_why(error)}") from error


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__


def connector(where: Inet | Unix, context: ssl.SSLContext | None = None) -> Connect:
    """How to connect to an address of the configuration, with TLS if there is a context."""

    async def connect() -> Streams:
        if isinstance(where, Unix):
            return await asyncio.open_unix_connection(where.path, limit=LINE_MOST)
        name = where.host if context is not None else None
        return await asyncio.open_connection(
            where.host, where.port, limit=LINE_MOST, ssl=context, server_hostname=name
        )

    return connect


async def read_line(reader: asyncio.StreamReader, end: bytes = b"\n") -> bytes:
    """A line without its end. Raises EOFError at the end, Malformed when it is too long."""
    try:
        line = await reader.readuntil(end)
    except asyncio.LimitOverrunError as error:
        raise Malformed("a line is too long") from error
    return line[: -len(end)]
