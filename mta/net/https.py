"""One request over HTTPS: what MTA-STS policies and TLS reports need, and no more (RFC 9112).

`request` resolves the host with our own resolver, verifies the certificate, sends, and reads one response
within a bound of octets and a deadline. No redirects, no cookies, no compression, no proxies, no connection
kept: those who ask do it once a day for a domain, and RFC 8461 section 3.3 forbids the redirects.

Whatever the server does ends in a `Response` or in `HttpsError`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mta.net.httpwire import HttpError, Response, ResponseReader, TooLong
from mta.net.resolver.base import Resolver
from mta.net.tls import failure_text

MAX_ADDRESSES = 4
"""Addresses of a host that are tried."""
CONNECT_TIME = 10.0
"""Seconds for TCP and TLS to one address."""


IsRefused = Callable[[str], bool]
"""Tells whether an address may not be connected to because the DNS of strangers names it: loopback, say."""


class HttpsError(Exception):
    """No usable response; the text says why. `tls` says that the certificate or the handshake was wrong."""

    def __init__(self, text: str, *, tls: bool = False) -> None:
        super().__init__(text)
        self.tls = tls


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
    what: Request,
    resolver: Resolver,
    context: ssl.SSLContext,
    *,
    limit: int,
    deadline: float,
    is_refused: IsRefused = lambda address: False,
) -> Response:
    """Send one request; the content is at most `limit` octets. `deadline` is loop time. Raises HttpsError."""
    octets = what.encode()
    failure = HttpsError(f"{what.host}: no address")
    found = await _addresses(what.host, resolver, deadline)
    allowed = [address for address in found if not is_refused(address)]
    if not allowed:
        raise HttpsError(f"{what.host}: refused address {found[0]}")
    for address in allowed[:MAX_ADDRESSES]:
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
            address, what.port, ssl=context, server_hostname=what.host
        )
    try:
        writer.write(octets)
        await writer.drain()
        return await _read(reader, what.host, limit)
    finally:
        writer.transport.abort()


async def _read(stream: asyncio.StreamReader, host: str, limit: int) -> Response:
    reader = ResponseReader(limit)
    try:
        while reader.response is None:
            if octets := await stream.read(65536):
                reader.feed(octets)
            else:
                reader.end()
    except TooLong as error:
        raise HttpsError(f"{host}: the answer is longer than {limit} octets") from error
    except HttpError as error:
        raise HttpsError(f"{host}: no HTTP response: {error}") from error
    return reader.response
