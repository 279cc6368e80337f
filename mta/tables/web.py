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

from mta.net.httpwire import HttpError, Incomplete, ResponseReader
from mta.tables.peer import Malformed, Peer
from mta.tables.table import VALUE_MOST, Found, TableUnavailable
from mta.tables.template import Template, parse


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


async def _read(stream: asyncio.StreamReader) -> Found:
    reader = ResponseReader(VALUE_MOST)
    try:
        while reader.response is None:
            if octets := await stream.read(VALUE_MOST):
                reader.feed(octets)
            else:
                reader.end()
    except Incomplete as error:
        raise EOFError(str(error)) from error
    except HttpError as error:
        raise Malformed(str(error)) from error
    if reader.rest:  # it would be taken for the answer to the next question
        raise Malformed("there is more than one answer")
    status, body = reader.response.status, reader.response.body
    match status:
        case 200:
            lines = body.decode().splitlines()
            return lines[0].strip() if lines else ""
        case 204:
            return ""
        case 404 | 410:
            return None
    raise TableUnavailable(f"the service answers {status}")
