"""Policy servers and scanners beside a daemon in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from mailmilter.policy import serve_policy


@asynccontextmanager
async def deciding(
    path: Path, decide: Callable[[dict[str, str]], str]
) -> AsyncIterator[list[dict[str, str]]]:
    """A policy server at a Unix socket; the questions that it is asked."""
    asked: list[dict[str, str]] = []

    async def answer(request: dict[str, str]) -> str:
        asked.append(request)
        return decide(request)

    server = await serve_policy(answer, f"unix:{path}")
    try:
        yield asked
    finally:
        await server.close()


@asynccontextmanager
async def scanning(path: Path, answer: bytes, delay: float = 0.0) -> AsyncIterator[list[bytes]]:
    """A scanner at a Unix socket that answers when a question is complete; the questions."""
    asked: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await converse(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.transport.abort() if delay else writer.close()
            tasks.discard(task)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        octets = b""
        while piece := await reader.read(65536):
            octets += piece
            if _is_complete(octets):
                break
        asked.append(octets)
        await asyncio.sleep(delay)
        writer.write(answer)

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield asked
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


def _is_complete(octets: bytes) -> bool:
    if octets.startswith(b"zINSTREAM\0"):
        return octets.endswith(b"\0\0\0\0")
    head, blank, body = octets.partition(b"\r\n\r\n")
    sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(blank) and len(body) >= int(sizes[0].partition(b":")[2])
