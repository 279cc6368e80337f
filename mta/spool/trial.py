"""The stores are tried before the queue is opened on them, and later what did not answer then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mailqueue.store.base import Store, StoreError, StoreRefused
from mailqueue.store.probe import probe_what_answers
from mta.log import Logger

UNTRIED = 60.0
"""Seconds between looks whether a store or an endpoint that was away at the start answers."""


class Trial:
    """Tries the stores of a queue."""

    __slots__ = ("_log", "_refuse", "_task")

    def __init__(self, log: Logger, refuse: Callable[[], None]) -> None:
        """`refuse` is called when a store turns out not to keep its word while the queue is open."""
        self._log, self._refuse = log, refuse
        self._task: asyncio.Task[None] | None = None

    async def begin(self, store: Store) -> None:
        """Try what answers; the rest is tried when it does. Raises StoreError."""
        await self.end()
        untried = await probe_what_answers(store)
        for trouble in untried:
            self._log.warning("not tried, for it does not answer", reason=trouble)
        if untried:
            self._task = asyncio.get_running_loop().create_task(self._go_on(store))

    async def end(self) -> None:
        """Try no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _go_on(self, store: Store) -> None:
        while True:
            await asyncio.sleep(UNTRIED)
            try:
                if not await probe_what_answers(store):
                    self._log.info("the rest was tried")
                    return
            except StoreRefused as error:
                self._log.error("the queue cannot be kept", reason=str(error))
                self._refuse()
                return
            except StoreError:
                continue  # whoever uses it tells
