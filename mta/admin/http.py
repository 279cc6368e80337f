"""A very small HTTP/1.1 responder (RFC 9112) for Prometheus and health checks: GET and HEAD, nothing else.

    /metrics   counters of the whole node in the exposition format
    /health    200 while the supervisor lives
    /ready     200 while mail is taken, and whether it can be queued; 503 otherwise (starting, stopping,
               no worker)

One request a connection, then it is closed; no body is read. There is no login: it listens on loopback
unless configured otherwise. Bounded: `MAX_HEAD` bytes of request, `TIMEOUT` seconds for all of it,
`MAX_CONNECTIONS` at once. What is not understood is answered 400, 404, 405 or 431, never guessed at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

MAX_HEAD = 8192
"""Bytes of request line and fields; a scraper sends about 200."""

TIMEOUT = 10.0
"""Seconds for reading the request, and again for writing the answer."""

MAX_CONNECTIONS = 32
"""Connections at once; further ones are closed unread."""

TEXT = "text/plain; charset=utf-8"
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


@dataclass(frozen=True, slots=True)
class Response:
    """An answer before it is written."""

    status: int
    body: bytes
    content_type: str = TEXT


class HttpServer:
    """Answers requests for metrics and health."""

    def __init__(self, metrics: Callable[[], Awaitable[bytes]], ready: Callable[[], str]) -> None:
        """`metrics` gives the exposition, `ready` a line while mail is taken, "" otherwise."""
        self._metrics = metrics
        self._ready = ready
        self._connections: set[asyncio.Task[None]] = set()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request and close."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A client that leaves or does not read is not worth a word.
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
                await self._converse(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def close(self) -> None:
        """End all connections."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) > MAX_CONNECTIONS:
            return
        response, with_body = await self._respond(reader)
        writer.write(render(response, with_body))
        async with asyncio.timeout(TIMEOUT):
            await writer.drain()

    async def _respond(self, reader: asyncio.StreamReader) -> tuple[Response, bool]:
        try:
            async with asyncio.timeout(TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _plain(431, f"a request has at most {MAX_HEAD} bytes"), True
        except TimeoutError:
            return _plain(408, "the request did not come in time"), True
        match parse_request_line(head.partition(b"\r\n")[0]):
            case Response() as refusal:
                return refusal, True
            case ("GET" | "HEAD") as method, path:
                return await self._page(path), method == "GET"
            case _:
                return _plain(405, "only GET and HEAD"), True

    async def _page(self, path: str) -> Response:
        match path:
            case "/metrics":
                return Response(200, await self._metrics(), EXPOSITION)
            case "/health":
                return _plain(200, "ok")
            case "/ready":
                ready = self._ready()
                return _plain(200, ready) if ready else _plain(503, "not ready")
            case _:
                return _plain(404, "there are /metrics, /health and /ready")


def parse_request_line(line: bytes) -> tuple[str, str] | Response:
    """Return method and path (without query) of a request line, or the refusal (RFC 9112 section 3)."""
    parts = line.split(b" ")
    if len(parts) != 3 or not line.isascii() or not parts[0].isalpha() or not parts[1].startswith(b"/"):
        return _plain(400, "unreadable request line")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return (
            _plain(505, "HTTP/1.1 is spoken here")
            if version.startswith(b"HTTP/")
            else _plain(400, "not HTTP")
        )
    return method.decode(), target.partition(b"?")[0].decode()


def render(response: Response, with_body: bool) -> bytes:
    """Write a response; the length is that of the body also where HEAD leaves it out."""
    extra = "Allow: GET, HEAD\r\n" if response.status == 405 else ""
    head = (
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        f"Cache-Control: no-store\r\n{extra}Connection: close\r\n\r\n"
    )
    return head.encode() + (response.body if with_body else b"")


def _plain(status: int, text: str) -> Response:
    return Response(status, text.encode() + b"\n")
