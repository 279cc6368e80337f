"""type = "dovecot_userdb" and "dovecot_dict": what Dovecot knows of users, and its dictionaries.

    userdb   client  VERSION 1 1 | USER 1 ann@x service=smtp
             server  VERSION 1 2 | SPID 7 | USER 1 ann@x uid=8 home=/h,  or NOTFOUND 1,  FAIL 1 reason=no
    dict     client  H3 2 0 (user) files | Lshared/box/ann ann@x
             server  Obox 1,  or N,  Fno disk;  also first *1 and later +1 Obox 1

Fields of a line are separated by TAB, shown as blanks.

The first is the master side of Dovecot's auth protocol, version 1, on its socket auth-userdb
(https://doc.dovecot.org/latest/developers/design/auth_protocol.html); the second is the protocol of its dict
service, version 3 (Dovecot 2.3.19 has it, 2.2 not). Both escape TAB, line ends and NUL with octet 1. A
connection has one question at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mta.accounts.dovecotprotocol import escape, unescape
from mta.tables.peer import Connect, ConnectionBroke, Malformed, Peer, Streams, read_line
from mta.tables.table import VALUE_MOST, Found, TableUnavailable
from mta.tables.template import Template

USERDB_VERSION = (1, 1)
DICT_VERSIONS = ((3, 2), (4, 0))
"""Major and minor version that Dovecot 2.3 and 2.4 speak."""
LASTS = 60.0
"""Seconds that a connection is used: a process that Dovecot has replaced answers on while it is asked."""
GREETING_MOST = 20
"""Lines of a greeting, of which there are two."""


class UserdbTable:
    """The users of Dovecot (`mta.tables.table.Table`)."""

    def __init__(self, connect: Connect, most: int, query: Template, field: str = "") -> None:
        """`query` makes the user of our key; the value is that `field`, "" without one."""
        hello = "VERSION\t{}\t{}\n".format(*USERDB_VERSION).encode()
        self._peer = Peer(_with_first(connect, lambda: hello), most, LASTS)
        self._query = query
        self._field = field

    async def get(self, key: str) -> Found:
        """The value."""
        user = self._query.expand(key)
        if not user:
            return None
        fields = await self._peer.exchange(_octets(f"USER\t1\t{escape(user)}\tservice=smtp\n"), _user)
        if fields is None or not self._field:
            return None if fields is None else ""
        return fields.get(self._field)

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()


class DictTable:
    """A dictionary that Dovecot serves (`mta.tables.table.Table`)."""

    def __init__(self, connect: Connect, most: int, query: Template, name: str) -> None:
        """`query` makes the path in the dictionary `name` of our key, such as "shared/boxes/{key}"."""
        self._hellos = ["H{}\t{}\t0\t\t{}\n".format(*each, escape(name)).encode() for each in DICT_VERSIONS]
        self._version = 0
        self._peer = Peer(_with_first(connect, lambda: self._hellos[self._version]), most, LASTS)
        self._query = query

    async def get(self, key: str) -> Found:
        """The value."""
        path = self._query.expand(key, _step)
        if path is None:
            return None
        # The key is the user whose entries below priv/ are meant.
        request = _octets(f"L{escape(path)}\t{escape(key)}\n")
        spoken = self._version
        try:
            return await self._peer.exchange(request, _entry)
        except ConnectionBroke:
            self._version = 1 - spoken
            try:
                return await self._peer.exchange(request, _entry)
            except TableUnavailable:
                self._version = spoken
                raise

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()


def _with_first(connect: Connect, first: Callable[[], bytes]) -> Connect:
    """How to connect and say first what the other side waits for."""

    async def opened() -> Streams:
        streams = await connect()
        streams[1].write(first())
        return streams

    return opened


def _octets(line: str) -> bytes:
    return line.encode("utf-8", "surrogateescape")


def _step(key: str) -> str:
    """A key as one step of a path of a dictionary."""
    return key.replace("\\", "\\\\").replace("/", "\\|")


async def _line(reader: asyncio.StreamReader) -> list[str]:
    line = await read_line(reader)
    if len(line) > VALUE_MOST:
        raise Malformed(f"an answer of {len(line)} octets")
    return line.decode().split("\t")


async def _user(reader: asyncio.StreamReader) -> dict[str, str] | None:
    """The fields of a user, None where there is none."""
    for _ in range(GREETING_MOST):
        word, *rest = await _line(reader)
        match word, rest:
            case "VERSION", [major, *_]:
                if major != str(USERDB_VERSION[0]):
                    raise Malformed(f"version {major[:20]} of the auth protocol")
            case "SPID" | "CUID" | "COOKIE", _:
                continue
            case "USER", ["1", _, *fields]:
                pairs = (unescape(field).partition("=") for field in fields)
                return {name: value for name, _, value in pairs}
            case "NOTFOUND", ["1"]:
                return None
            case "FAIL", ["1", *fields]:
                raise TableUnavailable(f"Dovecot cannot say: {' '.join(map(unescape, fields))[:200]}")
            case _:
                raise Malformed(f"{word[:40]!r} is no answer of a userdb")
    raise Malformed("a greeting without end")


async def _entry(reader: asyncio.StreamReader) -> Found:
    first, *rest = await _line(reader)
    if first.startswith("*"):  # it will say later
        first, *rest = await _line(reader)
    if first.startswith("+") and rest:
        first = rest[0]
    value = unescape(first[1:])
    match first[:1]:
        case "O":
            return value
        case "M":
            return ", ".join(map(unescape, value.split("\t")))
        case "N":
            return None
        case "F":
            raise TableUnavailable(f"Dovecot says: {value[:200]}")
    raise Malformed(f"{first[:40]!r} is no answer of a dictionary")
