"""What a store missed while it was away, slow or full is copied to it when it is back.

Each process looks after what it has written itself: it knows what it has deleted since, so nothing comes back
to life. What a process had not yet caught up when it died is copied by those who take its messages over
(mailqueue.completion). To copy an object is as if its write had been late: whoever comes first to
a key has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from mailqueue.store.base import MissingKey, Store, StoreError

FIRST, LONGEST = 5.0, 300.0
"""Seconds before a store is tried again: the first time, and at most, as they double with each failure."""
MISSED_MAX = 100_000
"""Keys remembered for a store; what is more comes to it when messages are moved, or taken over."""


class CatchUp:
    """Remembers what stores missed, and copies it from the others."""

    __slots__ = ("_missed", "_stores", "_tasks")

    def __init__(self, stores: Sequence[Store]) -> None:
        """Nothing was missed yet."""
        self._stores = stores
        self._missed: list[dict[str, None]] = [{} for _ in stores]
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def waiting(self, index: int) -> int:
        """Keys that a store still has to get."""
        return len(self._missed[index])

    def miss(self, index: int, key: str) -> None:
        """A store did not take a write, as far as we know."""
        missed = self._missed[index]
        if len(missed) < MISSED_MAX:
            missed[key] = None
        if index not in self._tasks:
            task = asyncio.ensure_future(self._run(index))
            self._tasks[index] = task
            task.add_done_callback(lambda _: self._tasks.pop(index, None))

    def forget(self, keys: Iterable[str]) -> None:
        """These are deleted."""
        for key in keys:
            for missed in self._missed:
                missed.pop(key, None)

    async def close(self) -> None:
        """Stop."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, index: int) -> None:
        missed = self._missed[index]
        wait = FIRST
        while missed:
            await asyncio.sleep(wait)
            try:
                while missed:
                    await self._copy(index, next(iter(missed)))
                    wait = FIRST
            except StoreError:
                wait = min(2 * wait, LONGEST)

    async def _copy(self, index: int, key: str) -> None:
        """Raises StoreError when it has to be tried again."""
        failure: StoreError | None = None
        for other, store in enumerate(self._stores):
            if other == index:
                continue
            try:
                data = await store.get(key)
            except MissingKey:
                continue
            except StoreError as error:
                failure = error
                continue
            # Deleted while it was read? Then it must not come back.
            if key in self._missed[index]:
                await self._stores[index].put_new(key, data)
                if key not in self._missed[index]:
                    await self._stores[index].delete([key])
            self._missed[index].pop(key, None)
            return
        if failure is not None:
            raise failure
        self._missed[index].pop(key, None)  # nobody has it: its write failed everywhere, or it is deleted
