"""A server that answers each request by a function: up, slow, dead or lying, as a test wants it.

    async with answering(read_request, answer) as server:
        server.behaviour = "lies"

`read_request` takes a request from the stream; `answer` makes the octets of the reply. The behaviours are
"up", "slow" (no answer, the connection stays), "dies" (the connection ends in place of an answer), "lies"
(nonsense).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

NONSENSE = b"\x00\xff what?\r\n,:\r\n\r\n"


class Answering:
    """What is known of the server."""

    def __init__(self) -> None:
        self.port = 0
        self.behaviour = "up"
        self.asked: list[Any] = []
        self.connections = 0
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End all connections, as a server does that starts again."""
        for writer in self._open:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def answering(
    read: Callable[[asyncio.StreamReader], Awaitable[Any]], answer: Callable[[Any], bytes]
) -> AsyncIterator[Answering]:
    """The server, on a free port of loopback."""
    here = Answering()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here.connections += 1
        here._open.add(writer)
        try:
            while True:
                request = await read(reader)
                here.asked.append(request)
                match here.behaviour:
                    case "slow":
                        await asyncio.sleep(3600)
                    case "dies":
                        return
                    case "lies":
                        writer.write(NONSENSE)
                    case _:
                        writer.write(answer(request))
        except (EOFError, OSError):
            return
        finally:
            here._open.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        here.cut()
        await asyncio.sleep(0)
