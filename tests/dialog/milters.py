"""A milter of our own library beside a daemon in this process: it notes what it hears and does as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mailmilter.filter import Answer, Client, Context, Field, Milter, serve

Behaviour = Callable[["Puppet", Context, str], Any]
"""Told the milter, its context and the name of the callback; gives the answer, or an awaitable of it."""


class Puppet(Milter):
    """Notes each callback in `heard` as one text, and asks `behave` what to answer."""

    rejected_recipients = True

    def __init__(self, heard: list[str], behave: Behaviour) -> None:
        self.heard = heard
        self.behave = behave
        self.octets = b""

    async def _do(self, ctx: Context, name: str, *words: str) -> Answer | None:
        self.heard.append(" ".join((name, *words)))
        answer = self.behave(self, ctx, name)
        if hasattr(answer, "__await__"):
            answer = await answer
        found: Answer | None = answer
        return found

    async def connect(self, ctx: Context, client: Client) -> Answer | None:
        return await self._do(ctx, "connect", client.name, client.address)

    async def helo(self, ctx: Context, name: str) -> Answer | None:
        return await self._do(ctx, "helo", name)

    async def mail(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        return await self._do(ctx, "mail", *(one.decode() for one in (address, *parameters)))

    async def rcpt(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        return await self._do(ctx, "rcpt", *(one.decode() for one in (address, *parameters)))

    async def data(self, ctx: Context) -> Answer | None:
        return await self._do(ctx, "data")

    async def header(self, ctx: Context, field: Field) -> Answer | None:
        return await self._do(ctx, "header", field.name.decode())

    async def end_of_headers(self, ctx: Context) -> Answer | None:
        return await self._do(ctx, "eoh")

    async def body(self, ctx: Context, piece: bytes) -> Answer | None:
        self.octets += piece
        return await self._do(ctx, "body", str(len(piece)))

    async def end_of_message(self, ctx: Context) -> Answer | None:
        return await self._do(ctx, "eom")

    async def unknown(self, ctx: Context, line: bytes) -> Answer | None:
        return await self._do(ctx, "unknown", line.decode())

    async def abort(self, ctx: Context) -> None:
        self.heard.append("abort")

    async def close(self, ctx: Context) -> None:
        self.heard.append("close")


@asynccontextmanager
async def puppet(
    folder: Path, name: str, behave: Behaviour = lambda milter, ctx, name: None
) -> AsyncIterator[list[str]]:
    """Serve a milter at unix:FOLDER/NAME; what it hears."""
    heard: list[str] = []
    server = await serve(lambda: Puppet(heard, behave), f"unix:{folder}/{name}")
    try:
        yield heard
    finally:
        await server.close()


def at(stage: str, do: Callable[[Context], Any]) -> Behaviour:
    """A behaviour at one callback alone."""
    return lambda milter, ctx, name: do(ctx) if name == stage else None


async def quiet(heard: list[str], word: str) -> list[str]:
    """Wait until `word` is the last thing that was heard; all of it."""
    async with asyncio.timeout(10):
        while not heard or not heard[-1].startswith(word):  # noqa: ASYNC110 - the milter is told by a socket
            await asyncio.sleep(0.01)
    return heard
