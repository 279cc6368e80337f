"""One request over HTTPS: what MTA-STS policies and TLS reports need, and no more (RFC 9112).

`request` resolves the host with our own resolver, verifies the certificate, sends, and reads one response
within a bound of octets and a deadline. No redirects, no cookies, no compression, no proxies, no connection
kept: those who ask do it once a day for a domain, and RFC 8461 section 3.3 forbids the redirects.

Whatever the server does ends in a `Response` or in `HttpsError`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from mta.net.resolver.base import Resolver
from mta.net.tls import failure_text

MAX_HEAD = 16 * 1024
"""Octets of a response before its content."""
MAX_ADDRESSES = 4
"""Addresses of a host that are tried."""
CONNECT_TIME = 10.0
"""Seconds for TCP and TLS to one address."""


class HttpsError(Exception):
    """No usable response; the text says why. `tls` says that the certificate or the handshake was wrong."""

    def __init__(self, text: str, *, tls: bool = False) -> None:
        super().__init__(text)
        self.tls = tls


@dataclass(slots=True, frozen=True)
class Response:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case; of several equal ones the last."""
    body: bytes

    @property
    def media_type(self) -> str:
        """The media type without its parameters, lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(slots=True, frozen=True)
class Request:
    """What is asked."""

    host: str
    path: str
    """Begins with "/"; printable ASCII without blanks."""
    port: int = 443
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    body: bytes = b""

    def encode(self) -> bytes:
        """The request as octets. Raises ValueError for what may not be in one."""
        host = self.host if self.port == 443 else f"{self.host}:{self.port}"
        fields = {"Host": host, "Connection": "close", "Accept-Encoding": "identity", "User-Agent": "Tamis"}
        fields |= self.headers or {}
        if self.body or self.method != "GET":
            fields["Content-Length"] = str(len(self.body))
        lines = [
            f"{self.method} {self.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        if not all(line.isascii() and line.isprintable() for line in lines) or " " in self.path:
            raise ValueError("not printable ASCII")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + self.body


async def request(
    what: Request, resolver: Resolver, context: ssl.SSLContext, *, limit: int, deadline: float
) -> Response:
    """Send one request; the content is at most `limit` octets. `deadline` is loop time. Raises HttpsError."""
    octets = what.encode()
    failure = HttpsError(f"{what.host}: no address")
    for address in (await _addresses(what.host, resolver, deadline))[:MAX_ADDRESSES]:
        try:
            async with asyncio.timeout_at(deadline):
                return await _exchange(address, what, octets, context, limit)
        except TimeoutError:
            failure = HttpsError(f"{what.host}: no answer in time")
        except ssl.SSLError as error:
            raise HttpsError(f"{what.host}: TLS: {failure_text(error)}", tls=True) from error
        except OSError as error:
            failure = HttpsError(f"{what.host}: {error.strerror or failure_text(error)}")
        if asyncio.get_running_loop().time() >= deadline:
            break
    raise failure


async def _addresses(host: str, resolver: Resolver, deadline: float) -> list[str]:
    answers = await asyncio.gather(*(resolver.query(host, kind, deadline) for kind in ("A", "AAAA")))
    found = [record.to_text() for answer in answers for record in answer.records]
    if not found:
        reasons = [answer.reason for answer in answers if not answer.usable]
        raise HttpsError(f"{host}: {reasons[0]}" if reasons else f"{host}: no address")
    return found


async def _exchange(
    address: str, what: Request, octets: bytes, context: ssl.SSLContext, limit: int
) -> Response:
    async with asyncio.timeout(CONNECT_TIME):
        reader, writer = await asyncio.open_connection(
            address, what.port, ssl=context, server_hostname=what.host, limit=MAX_HEAD
        )
    try:
        writer.write(octets)
        await writer.drain()
        return await _read(reader, what.host, limit)
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader, host: str, limit: int) -> Response:
    try:
        while True:
            status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
            if status >= 200:
                break
        if status in (204, 304):
            body = b""
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            body = await _chunked(reader, limit)
        elif "content-length" in headers:
            length = headers["content-length"]
            if not (length.isascii() and length.isdigit() and len(length) < 12):
                raise HttpsError(f"{host}: no sense in its Content-Length")
            if int(length) > limit:
                raise _TooLong
            body = await reader.readexactly(int(length))
        else:
            body = await _to_the_end(reader, limit)
    except _TooLong as error:
        raise HttpsError(f"{host}: the answer is longer than {limit} octets") from error
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise HttpsError(f"{host}: no HTTP response") from error
    return Response(status, headers, body)


class _TooLong(Exception):
    """More than was bargained for."""


def _head(octets: bytes) -> tuple[int, dict[str, str]]:
    """Status and header fields. Raises ValueError."""
    first, *lines = octets[:-4].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit() or not rest[:3].isascii():
        raise ValueError("no status line")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError("no header field")
        headers[name.lower()] = value.strip()
    return int(rest[:3]), headers


async def _to_the_end(reader: asyncio.StreamReader, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while octets := await reader.read(MAX_HEAD):
        size += len(octets)
        if size > limit:
            raise _TooLong
        parts.append(octets)
    return b"".join(parts)


async def _chunked(reader: asyncio.StreamReader, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        line = (await reader.readuntil(b"\r\n")).partition(b";")[0].strip()
        if not 1 <= len(line) <= 8 or not line.isalnum():
            raise ValueError("no chunk size")
        length = int(line, 16)
        if not length:
            return b"".join(parts)  # trailer fields are of no interest, and the connection ends here
        size += length
        if size > limit:
            raise _TooLong
        parts.append(await reader.readexactly(length))
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("no end of chunk")
