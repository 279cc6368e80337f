"""type = "memcache": memcached's text protocol, of which a look-up needs one command.

A key of its own is at most 250 octets without blanks and control characters (protocol.txt); another one is
in no memcached, and it is not asked.
"""

from __future__ import annotations

import asyncio

from mta.tables.peer import Malformed, Peer, read_line
from mta.tables.table import VALUE_MOST, Found, TableUnavailable
from mta.tables.template import Template

KEY_OCTETS = 250


class MemcacheTable:
    """A memcached (`mta.tables.table.Table`)."""

    def __init__(self, peer: Peer, query: Template) -> None:
        """`query` makes memcached's key of ours."""
        self._peer = peer
        self._query = query

    async def get(self, key: str) -> Found:
        """The value."""
        text = self._query.expand(key)
        octets = b"" if text is None else text.encode("utf-8", "surrogateescape")
        if not octets or len(octets) > KEY_OCTETS or any(one <= 32 or one == 127 for one in octets):
            return None

        async def read(reader: asyncio.StreamReader) -> Found:
            line = await read_line(reader, b"\r\n")
            if line == b"END":
                return None
            words = line.split(b" ")
            if words[0] in (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR"):
                raise TableUnavailable(f"memcached says {line[:200].decode(errors='replace')}")
            if len(words) not in (4, 5) or words[0] != b"VALUE" or words[1] != octets:
                raise Malformed(f"{line[:200]!r}")
            size = int(words[3])
            if not 0 <= size <= VALUE_MOST:
                raise Malformed(f"a value of {size} octets")
            value = await reader.readexactly(size)
            if await reader.readexactly(7) != b"\r\nEND\r\n":
                raise Malformed("no END behind the value")
            return value.decode()

        return await self._peer.exchange(b"get " + octets + b"\r\n", read)

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()
