"""type = "http": a web service that knows. GET of a URL with the key in it.

    url = "https://directory.example.org/users/{key}"

200 is found, and the first line of the body is the value; 204 is found without a value; 404 and 410 are not
there; all else, redirections too, means that the table cannot say. Bodies have Content-Length or are chunked
(RFC 9112), so that the connection is kept; text is UTF-8.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from mta.tables.peer import Malformed, Peer, read_line
from mta.tables.table import VALUE_MOST, Found, TableUnavailable
from mta.tables.template import Template, parse

FIELDS_MOST = 100
"""Header fields of an answer."""


@dataclass(slots=True, frozen=True)
class Place:
    """Where a URL leads."""

    secure: bool
    host: str
    port: int
    target: Template


def parse_url(text: str) -> Place:
    """A URL with places for the key. Raises ValueError."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("it is no http: or https: URL with a host")
    if url.username is not None or url.fragment:
        raise ValueError("a URL of a table has no user and no fragment")
    if "{" in url.netloc:
        raise ValueError("the key stands behind the host")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError("it has characters that stand in a URL as %XX")
    secure = url.scheme == "https"
    return Place(secure, url.hostname, url.port or (443 if secure else 80), parse(target))


class HttpTable:
    """A web service (`mta.tables.table.Table`)."""

    def __init__(self, peer: Peer, place: Place) -> None:
        """Ask at `place` over the connections of `peer`."""
        self._peer = peer
        self._target = place.target
        usual = place.port == (443 if place.secure else 80)
        host = f"[{place.host}]" if ":" in place.host else place.host
        self._host = host if usual else f"{host}:{place.port}"

    async def get(self, key: str) -> Found:
        """The value."""
        target = self._target.expand(key, lambda text: quote(text, safe="@", errors="surrogateescape"))
        if target is None:
            return None
        request = f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\nUser-Agent: Tamis\r\nAccept: */*\r\n\r\n"
        return await self._peer.exchange(request.encode("ascii"), _read)

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()


async def _read(reader: asyncio.StreamReader) -> Found:
    status, fields = await _head(reader)
    body = b"" if status in (204, 304) else await _body(reader, fields)
    match status:
        case 200:
            lines = body.decode().splitlines()
            return lines[0].strip() if lines else ""
        case 204:
            return ""
        case 404 | 410:
            return None
    raise TableUnavailable(f"the service answers {status}")


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    while True:
        line = (await read_line(reader)).rstrip(b"\r").decode("latin-1")
        version, _, rest = line.partition(" ")
        code = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not code.isdigit() or len(code) != 3:
            raise Malformed(f"{line[:200]!r}")
        fields: dict[str, str] = {}
        seen = 0
        while field := (await read_line(reader)).rstrip(b"\r").decode("latin-1"):
            name, colon, value = field.partition(":")
            seen += 1
            if not colon or seen > FIELDS_MOST:
                raise Malformed("the header is none")
            fields[name.strip().lower()] = value.strip()
        if not 100 <= int(code) < 200:
            return int(code), fields


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if fields.get("transfer-encoding", "").lower() == "chunked":
        parts: list[bytes] = []
        while size := _size((await read_line(reader)).split(b";")[0].decode("latin-1").strip(), 16):
            parts.append(await reader.readexactly(size))
            if sum(map(len, parts)) > VALUE_MOST or await reader.readexactly(2) != b"\r\n":
                raise Malformed("a chunk is none, or there are too many")
        while (await read_line(reader)).rstrip(b"\r"):
            pass
        return b"".join(parts)
    if "content-length" in fields:
        return await reader.readexactly(_size(fields["content-length"], 10))
    body = b""  # up to the end of the connection (RFC 9112 section 6.3)
    while piece := await reader.read(VALUE_MOST):
        body += piece
        if len(body) > VALUE_MOST:
            raise Malformed("the body is too long")
    return body


def _size(text: str, base: int) -> int:
    size = int(text, base)
    if not 0 <= size <= VALUE_MOST:
        raise Malformed(f"a body of {size} octets")
    return size
