"""Tries that are under way: how many there may be, and those that wait keep no other one from its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from mta.spool.conclude import Loaded

TASKS = 1000
"""Tries under way at once, whatever the limits of next hops allow: memory."""
SLOW = 3.0
"""Seconds after which a try is one that waits: it keeps no other one from its turn. Else those who do not
answer, or late, would take all the places in time, and mail to all others would wait for them. More than
`mailqueue.queue.NOTE_PATIENCE`: while the store takes no notes no more are begun than there are places."""
WAITING = 4 * TASKS
"""Tries under way at once that wait included: sockets, and content of some 256 KiB each at most."""


@dataclass(slots=True)
class Flight:
    """Tries of one message that are under way."""

    name: str
    positions: set[int] = field(default_factory=set)
    loaded: Loaded | None = None
    """The message, for all of them: a list of thousands is read once. Kept as long as the dispatcher has
    more of its recipients."""


class UnderWay:
    """The tasks of a runner."""

    __slots__ = ("_ended", "_fresh", "_slow")

    def __init__(self, ended: Callable[[], None]) -> None:
        """`ended` is called when a task has ended."""
        self._ended = ended
        self._fresh: dict[asyncio.Task[None], float] = {}
        """Tries that have begun lately, and when they did (loop time)."""
        self._slow: set[asyncio.Task[None]] = set()
        """Tries that wait longer than `SLOW`."""

    def __len__(self) -> int:
        return len(self._fresh) + len(self._slow)

    def has_place(self) -> bool:
        """True when one more try may begin."""
        if len(self._fresh) >= TASKS:
            before = asyncio.get_running_loop().time() - SLOW
            while self._fresh:
                task, begun = next(iter(self._fresh.items()))
                if begun > before:
                    break
                del self._fresh[task]
                self._slow.add(task)
        return len(self._fresh) < TASKS and len(self) < WAITING

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Begin a try."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        self._fresh[task] = loop.time()
        task.add_done_callback(self._over)

    async def stop(self, seconds: float) -> None:
        """Give all of them some time, then give them up."""
        if len(self):
            await asyncio.wait((*self._fresh, *self._slow), timeout=seconds)
        for task in (*self._fresh, *self._slow):
            task.cancel()
        if len(self):
            await asyncio.wait((*self._fresh, *self._slow))

    def _over(self, task: asyncio.Task[None]) -> None:
        self._fresh.pop(task, None)
        self._slow.discard(task)
        self._ended()
