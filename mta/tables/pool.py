"""Connections to a server that asks and answers more than once, such as a database: bounded, used again.

    pool = Pool(open, shut, most=4)
    value = await pool.use(ask)

At most `most` connections are open at once; who comes when all are in use waits, within its deadline. One
that turns out to be gone when it is used again is replaced, once; one that was left in the middle of a
question is shut, for its answer must not go to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from mta.tables.table import TableUnavailable

C = TypeVar("C")
T = TypeVar("T")


class Broken(Exception):
    """The connection is gone; the text says how."""


class Refused(Exception):
    """The server says that it cannot answer, and the connection is sound."""


class Pool(Generic[C]):
    """Connections to one server."""

    def __init__(self, open: Callable[[], Awaitable[C]], shut: Callable[[C], None], most: int = 4) -> None:
        """`open` connects, and raises `Broken` when it cannot, `Refused` when the server takes no question of
        ours; `shut` ends a connection at once."""
        self._open = open
        self._shut = shut
        self._free = asyncio.Semaphore(most)
        self._idle: list[C] = []
        self._closed = False

    async def use(self, ask: Callable[[C], Awaitable[T]]) -> T:
        """What `ask` makes of a connection; it may raise `Broken`, `Refused`. Raises TableUnavailable."""
        async with self._free:
            while True:
                kept = bool(self._idle)
                sound = False
                try:
                    one = self._idle.pop() if kept else await self._open()
                except Broken as error:
                    raise TableUnavailable(f"no connection: {error}") from error
                except Refused as error:
                    raise TableUnavailable(str(error)) from error
                try:
                    answer = await ask(one)
                    sound = True
                    return answer
                except Refused as error:
                    sound = True
                    raise TableUnavailable(str(error)) from error
                except Broken as error:
                    if not kept:
                        raise TableUnavailable(f"the connection broke: {error}") from error
                finally:
                    if sound and not self._closed:
                        self._idle.append(one)
                    else:
                        self._shut(one)

    async def close(self) -> None:
        """Close what is kept."""
        self._closed = True
        while self._idle:
            self._shut(self._idle.pop())
