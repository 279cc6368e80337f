"""Ask several stores at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from mailqueue.store.base import Store, StoreError, StoreUnavailable

GRACE = 1.0
"""Seconds for slower stores when others have answered enough."""

T = TypeVar("T")


async def ask_all(
    stores: Sequence[Store],
    asked: Iterable[int],
    question: Callable[[Store], Awaitable[T]],
    enough: Callable[[dict[int, T]], bool] = lambda answers: False,
) -> tuple[dict[int, T], dict[int, StoreError]]:
    """Ask some of the stores at the same time; answers and failures by index. Raises other errors.

    When what has been answered is `enough`, the others have `GRACE` seconds left.
    """
    tasks = {asyncio.ensure_future(question(stores[index])): index for index in asked}
    answers: dict[int, T] = {}
    failures: dict[int, StoreError] = {}
    waiting = set(tasks)
    try:
        while waiting:
            done, waiting = await asyncio.wait(
                waiting, timeout=GRACE if enough(answers) else None, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            for task in sorted(done, key=tasks.__getitem__):
                error = task.exception()
                if isinstance(error, StoreError):
                    failures[tasks[task]] = error
                elif error is not None:
                    raise error
                else:
                    answers[tasks[task]] = task.result()
        for task in waiting:
            index = tasks[task]
            failures[index] = StoreUnavailable(stores[index].name, "it is slower than the others")
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
    return dict(sorted(answers.items())), dict(sorted(failures.items()))
