"""A small S3 server whose answers a test decides: lost after their effect, late, errors, lies.

It knows enough of the protocol for obstore: PUT with and without a condition, GET, HEAD. Signatures are not
checked. ETags are the MD5 of the octets, unless a test wants others.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

Verdict = str
"""What becomes of a request: "" as it should be, "drop" the connection ends without effect, "lose" it ends
after the effect, "hang" no answer, or a status line as "500 Internal Server Error"."""


@dataclass(frozen=True)
class Answer:
    """One that a test has made itself; the request has no effect."""

    status: str
    body: bytes = b""
    headers: tuple[str, ...] = ()


def digest(octets: bytes) -> str:
    """The ETag of most servers."""
    return f'"{hashlib.md5(octets).hexdigest()}"'


@dataclass
class FakeS3:
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Method and path of each request."""
    decide: Callable[[str, str], Verdict | Answer] = lambda method, path: ""
    """Called with method and path before each request."""
    etag: Callable[[bytes], str] = digest
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = path.partition("?")[0]
        self.requests.append(f"{method} {path}")
        verdict = self.decide(method, path)
        if verdict == "drop":
            return False
        if verdict == "hang":
            await asyncio.sleep(3600)
        made: tuple[str, ...] = ()
        if isinstance(verdict, Answer):
            status, answer, made = verdict.status, verdict.body, verdict.headers
        elif verdict and verdict != "lose":
            status, answer = verdict, b"<Error><Code>Fake</Code><Message>as told</Message></Error>"
        else:
            status, answer = self._do(method, path, headers, body)
            made = (f"ETag: {self.etag(body or answer)}", "Last-Modified: Fri, 27 Nov 2026 00:00:00 GMT")
        if verdict == "lose":
            return False
        length = len(answer)
        if method == "HEAD":
            answer = b""
        extra = "".join(f"{line}\r\n" for line in made)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{extra}\r\n".encode() + answer)
        await writer.drain()
        return True

    def _do(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[str, bytes]:
        if method == "PUT":
            if path in self.objects and headers.get("if-none-match") == "*":
                return "412 Precondition Failed", b"<Error><Code>PreconditionFailed</Code></Error>"
            self.objects[path] = body
            return "200 OK", b""
        if path not in self.objects:
            return "404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>"
        return "200 OK", self.objects[path]


@contextlib.asynccontextmanager
async def fake_s3() -> AsyncIterator[FakeS3]:
    fake = FakeS3()
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(fake.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)  # transports close in the next turn of the loop
