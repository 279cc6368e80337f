"""A try in several transactions, while it goes on: who has the message is written down beside it.

Each transaction tells its outcomes (`Transport.deliver`). Those who have the message by one are written down
while the next one is under way, so that a process that is killed sends second copies only to those whose
answer came in the time of one write. Nothing waits for that: what is told meanwhile goes together in the next
write. Refusals wait for the end of the try, so that the sender gets one report about all of them.

A write that fails leaves its recipients to the end of the try, which meets the same failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mailqueue.model import QueueError
from mta.delivery.outcome import Outcome

LAST_WORDS = 0.5
"""Seconds for what is to be written when a try is cut off, reports included. Who has the message is told to
the queue first, and that is written before the queue closes."""

Write = Callable[[Sequence[tuple[int, Outcome]]], Awaitable[None]]


class Parts:
    """The recipients of one try, by position, who are answered before its end."""

    __slots__ = ("_known", "_new", "_write", "_write_part", "_writing")

    def __init__(self, write_part: Write, write: Write) -> None:
        """`write_part` writes down who has the message, while the try goes on; `write` what is known when it
        is cut off, but for what is written already."""
        self._write_part = write_part
        self._write = write
        self._known: dict[int, Outcome] = {}
        self._new: list[tuple[int, Outcome]] = []
        self._writing: asyncio.Task[None] | None = None

    def told(self, known: Sequence[tuple[int, Outcome]]) -> None:
        """Outcomes that are known now; what is temporary may change still."""
        self._known.update(one for one in known if not one[1].reply.is_temporary)
        self._new += (one for one in known if one[1].reply.is_positive)
        if self._new and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._work())

    async def rest(self, seconds: float | None = None) -> None:
        """The delivery is over: wait for the write that is under way, and end it if it takes longer."""
        task = self._writing
        if task is None:
            return
        await asyncio.wait((task,), timeout=seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # the end of the try meets it too

    async def cut(self) -> None:
        """The delivery was cut off: write down what is known, as far as the queue takes it in time."""
        await self.rest(LAST_WORDS / 2)
        if self._known:
            try:
                async with asyncio.timeout(LAST_WORDS / 2):
                    await self._write(list(self._known.items()))
            except (TimeoutError, QueueError):
                return  # what cut it off matters more

    async def _work(self) -> None:
        while self._new:
            some, self._new = self._new, []
            await self._write_part(some)
        self._writing = None
