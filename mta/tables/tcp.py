"""type = "tcp": Postfix's tcp_table protocol, so that its server programs keep working.

    client  get ann%20b@example.org
    server  200 a%20value      500 not there      400 try later

(tcp_table(5) of Postfix). Blanks, control characters and "%" are written as %XX in both directions; 400 means
that the table cannot say.
"""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

from mta.tables.peer import Malformed, Peer, read_line
from mta.tables.table import VALUE_MOST, Found, TableUnavailable
from mta.tables.template import Template


def quote(text: str) -> bytes:
    """A text as it goes over the wire."""
    octets = text.encode("utf-8", "surrogateescape")
    return b"".join(b"%%%02X" % one if one <= 32 or one in (37, 127) else bytes((one,)) for one in octets)


class TcpTable:
    """A server that speaks tcp_table (`mta.tables.table.Table`)."""

    def __init__(self, peer: Peer, query: Template) -> None:
        """`query` makes the server's key of ours."""
        self._peer = peer
        self._query = query

    async def get(self, key: str) -> Found:
        """The value."""
        text = self._query.expand(key)
        if not text:
            return None
        return await self._peer.exchange(b"get " + quote(text) + b"\n", _read)

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()


async def _read(reader: asyncio.StreamReader) -> Found:
    line = (await read_line(reader)).removesuffix(b"\r").decode()
    status, _, value = line.partition(" ")
    if len(value) > VALUE_MOST:
        raise Malformed(f"a value of {len(value)} octets")
    match status:
        case "200":
            return unquote(value, errors="strict")
        case "500":
            return None
        case "400":
            raise TableUnavailable(f"the server says {unquote(value)[:200]}")
    raise Malformed(f"{line[:200]!r}")
