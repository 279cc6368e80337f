"""type = "socketmap": the protocol of Sendmail and Postfix, so that their server programs keep working.

    client  10:maps vip x,            a netstring: the name of the map, a blank, the key
    server  8:OK found,  9:NOTFOUND ,  12:TEMP no disk,     also TIMEOUT and PERM

(socketmap_table(5) of Postfix). TEMP, TIMEOUT and PERM mean that the table cannot say.
"""

from __future__ import annotations

import asyncio

from mta.tables.peer import Malformed, Peer
from mta.tables.table import VALUE_MOST, Found, TableUnavailable
from mta.tables.template import Template

_DIGITS = 6


class SocketmapTable:
    """A server that speaks socketmap (`mta.tables.table.Table`)."""

    def __init__(self, peer: Peer, name: str, query: Template) -> None:
        """`name` is the map's."""
        self._peer = peer
        self._name = name
        self._query = query

    async def get(self, key: str) -> Found:
        """The value."""
        text = self._query.expand(key)
        if text is None:
            return None
        asked = f"{self._name} {text}".encode("utf-8", "surrogateescape")
        return await self._peer.exchange(b"%d:%s," % (len(asked), asked), _read)

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()


async def _read(reader: asyncio.StreamReader) -> Found:
    digits = b""
    while (one := await reader.readexactly(1)) != b":":
        if not one.isdigit() or len(digits) == _DIGITS:
            raise Malformed(f"no netstring: {digits + one!r}")
        digits += one
    size = int(digits)
    if size > VALUE_MOST:
        raise Malformed(f"an answer of {size} octets")
    answer = await reader.readexactly(size)
    if await reader.readexactly(1) != b",":
        raise Malformed("the comma behind the answer is missing")
    status, _, value = answer.decode().partition(" ")
    match status:
        case "OK":
            return value
        case "NOTFOUND":
            return None
        case "TEMP" | "TIMEOUT" | "PERM":
            raise TableUnavailable(f"the server says {status} {value[:200]}")
    raise Malformed(f"status {status[:40]!r}")
