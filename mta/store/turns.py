"""Threads for what waits for others: each deed has a turn, or is not done at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from mailqueue.threads import started_pool

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds that an answer waits for a thread: nobody waits for it, and it is small."""


class Turns:
    """A pool of threads; nobody waits for one for longer than he says."""

    def __init__(self, threads: int, name: str) -> None:
        """Start the threads."""
        self._free = asyncio.Semaphore(threads)
        self._closed = False
        self._pool = started_pool(threads, name)

    async def take(self, deed: Callable[[], T], seconds: float) -> T:
        """Do it as soon as a thread is free. Raises TimeoutError where none is within `seconds`, or ever."""
        async with asyncio.timeout(seconds):
            await self._free.acquire()
        try:
            if self._closed:
                raise TimeoutError
            return await asyncio.get_running_loop().run_in_executor(self._pool, deed)
        finally:
            self._free.release()

    def shutdown(self) -> None:
        """Begin no more, and wait for the deeds that have begun."""
        self._closed = True
        self._pool.shutdown(wait=True)
