"""Work on many recipients, between which sessions have their turn.

An alias may have a thousand members, each with scripts that are read and compiled when its first mail comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

AT_ONCE = 20
"""Recipients that are looked at before sessions have their turn: a millisecond each at the first time."""


def in_turns(steps: Generator[None, None, T], conclude: Callable[[T], U | Awaitable[U]]) -> U | Awaitable[U]:
    """`conclude` of what `steps` return: at once, unless they yield to let others have their turn."""
    try:
        next(steps)
    except StopIteration as end:
        return conclude(end.value)
    return _rest(steps, conclude)


async def _rest(steps: Generator[None, None, T], conclude: Callable[[T], U | Awaitable[U]]) -> U:
    while True:
        await asyncio.sleep(0)
        try:
            next(steps)
        except StopIteration as end:
            found = conclude(end.value)
            return await found if isinstance(found, Awaitable) else found
