"""A gateway before a server of S3's protocol that answers in its place when a test wants it to.

Requests are passed on as they are, so that signatures stay good, and so are answers. `Gateway.fault` decides
for each request what goes wrong: an `Answer` of the gateway's own, a change of what the server has answered,
or an end without one. It works in a thread of its own: tests wait for other programs without a loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.peers.fakes3 import Answer, digest


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    target: str
    """Path and query."""
    headers: tuple[str, ...]
    """Lines, as they came."""
    body: bytes


class Broken(Exception):
    """The connection ends here."""


Ask = Callable[[Asked], Awaitable[Answer]]
"""Passes a request on, to the real server."""
Fault = Callable[[Asked, Ask], Awaitable[Answer]]
"""What becomes of a request; may raise `Broken`."""


async def sound(asked: Asked, ask: Ask) -> Answer:
    """Nothing goes wrong."""
    return await ask(asked)


async def silent(asked: Asked, ask: Ask) -> Answer:
    """The request has no effect, and the connection ends."""
    raise Broken


async def lost(asked: Asked, ask: Ask) -> Answer:
    """The request has its effect, and the connection ends."""
    await ask(asked)
    raise Broken


async def cut(asked: Asked, ask: Ask) -> Answer:
    """Half of the answer comes, which says how long it is, and then the end."""
    answer = await ask(asked)
    return replace(answer, body=answer.body[: len(answer.body) // 2], headers=(*answer.headers, CUT))


async def late(asked: Asked, ask: Ask) -> Answer:
    """It takes its time."""
    answer = await ask(asked)
    await asyncio.sleep(2)
    return answer


async def unconditional(asked: Asked, ask: Ask) -> Answer:
    """Whoever creates what is there is told that this was done. (The condition itself is signed.)"""
    answer = await ask(asked)
    if not answer.status.startswith("412"):
        return answer
    return Answer("200 OK", headers=(f"ETag: {digest(asked.body)}",))


def answering(answer: Answer) -> Fault:
    """The gateway has the same answer for all."""

    async def fault(asked: Asked, ask: Ask) -> Answer:
        return answer

    return fault


def refusing(status: str, code: str) -> Fault:
    """As a server that has this error for all."""
    return answering(Answer(status, f"<Error><Code>{code}</Code><Message>for now</Message></Error>".encode()))


CUT = "Content-Length: 1000000"
"""Instead of the true length."""
AWAY = "/away.html"
_PAGE = Answer(
    "200 OK",
    b"<html>be right back</html>",
    ('ETag: "5f3b-1a"', "Last-Modified: Fri, 27 Nov 2026 00:00:00 GMT"),
)
page = answering(_PAGE)
"""A page for people, with status 200, for all that is asked."""


async def sent_to_page(asked: Asked, ask: Ask) -> Answer:
    """303 (See Other), after which the client fetches the page."""
    return _PAGE if asked.target == AWAY else Answer("303 See Other", headers=(f"Location: {AWAY}",))


def sometimes(chance: Callable[[], bool], choose: Callable[[], Fault]) -> Fault:
    """A fault now and then, another one each time."""

    async def fault(asked: Asked, ask: Ask) -> Answer:
        if asked.target == AWAY:
            return _PAGE
        return await (choose() if chance() else sound)(asked, ask)

    return fault


@dataclass
class Gateway:
    """A running gateway."""

    upstream: int
    """Port of the server."""
    fault: Fault = sound
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        """URL for the client."""
        return f"http://127.0.0.1:{self.port}"

    async def run(self, ready: threading.Event, end: asyncio.Event) -> None:
        """Serve until `end`."""
        listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await end.wait()
        listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(Broken, ConnectionError, asyncio.IncompleteReadError):
                while True:
                    lines = await _head(reader)
                    method, target, _ = lines[0].split(" ")
                    body = await reader.readexactly(_length(lines))
                    answer = await self.fault(Asked(method, target, tuple(lines[1:]), body), self._ask)
                    headers = answer.headers
                    if not _length(headers) and method != "HEAD":
                        headers = (*headers, f"Content-Length: {len(answer.body)}")
                    head = "\r\n".join((f"HTTP/1.1 {answer.status}", *headers, "", ""))
                    writer.write(head.encode() + answer.body)
                    await writer.drain()
                    if CUT in headers:
                        raise Broken
        finally:
            writer.transport.abort()

    async def _ask(self, asked: Asked) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            head = (f"{asked.method} {asked.target} HTTP/1.1", *asked.headers, "Connection: close", "", "")
            writer.write("\r\n".join(head).encode() + asked.body)
            lines = await _head(reader)
            if asked.method == "HEAD":
                body = b""
            elif any(line.lower().startswith("transfer-encoding:") for line in lines):
                body = await _chunks(reader)
            else:
                body = await reader.readexactly(_length(lines))
        finally:
            writer.transport.abort()
        hop = ("connection:", "transfer-encoding:", "content-length:" if body else "connection:")
        kept = tuple(line for line in lines[1:] if not line.lower().startswith(hop))
        return Answer(lines[0].partition(" ")[2], body, kept)


async def _head(reader: asyncio.StreamReader) -> list[str]:
    return (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n").split("\r\n")


def _length(lines: list[str] | tuple[str, ...]) -> int:
    fields = (line.partition(":") for line in lines)
    return next((int(value) for name, _, value in fields if name.lower() == "content-length"), 0)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    return body


@contextlib.contextmanager
def gateway(upstream: int) -> Iterator[Gateway]:
    """A gateway before the server on a port of this machine, without faults."""
    running = Gateway(upstream)
    ready, loop, end = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    def work(main: Coroutine[Any, Any, None]) -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(main)

    thread = threading.Thread(target=work, args=(running.run(ready, end),))
    thread.start()
    try:
        assert ready.wait(10)
        yield running
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
