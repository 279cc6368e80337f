"""Small things that tests of the queue share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mailqueue.model import NewMessage, QueuedRecipient
from mailqueue.process import ProcessIdentity
from mailqueue.queue import MailQueue
from mailqueue.settings import QueueSettings
from mailqueue.store.base import Store

HEADER = b"From: a@sender.test\r\nSubject: test\r\n\r\n"


class LoopClock:
    """Clocks that follow the loop's time; the wall clock can be set."""

    def __init__(self, offset: float = 1_800_000_000.0) -> None:
        self.offset = offset

    def wall(self) -> float:
        return asyncio.get_running_loop().time() + self.offset

    def boottime(self) -> float:
        return asyncio.get_running_loop().time()


def settings(**changes: Any) -> QueueSettings:
    """Defaults, of a process that is never provably gone."""
    values: dict[str, Any] = {"node": "n", "identity": ProcessIdentity("", "", "", 0, 0)} | changes
    return QueueSettings(**values)


def message(
    body: bytes = b"Hello\r\n", recipients: int = 1, site: str = "site", **changes: Any
) -> NewMessage:
    """A message to r0@r.test, r1@r.test ..."""
    people = [QueuedRecipient(f"r{n}@r.test", site, data=b"d%d" % n) for n in range(recipients)]
    return NewMessage("a@sender.test", people, HEADER, body, **changes)


async def open_queue(store: Store, **changes: Any) -> MailQueue:
    """A queue with a clock that follows the loop."""
    on_adopted: Callable[..., None] = changes.pop("on_adopted", lambda handles: None)
    return await MailQueue.open(store, settings(**changes), LoopClock(), on_adopted)


async def until(true: Callable[[], bool], patience: float = 60.0) -> None:
    """Wait in loop time until something is true."""
    for _ in range(int(patience / 0.05)):
        if true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not true within {patience} s")


def crash(queue: MailQueue) -> None:
    """Stop a queue without any farewell, as when its process dies."""
    for task in (*queue._tasks, *queue._log._tasks):
        task.cancel()
    queue._log._cancel_timer()
    queue._intake.close()
