"""A value that takes time to find and is found at most once, when somebody first asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Runs `make` for the first who asks; those who ask meanwhile wait for the same value.

    It runs in the task of who asks, so that nothing is left behind when that one is cancelled: the next one
    who waits begins anew. `make` must not raise anything but CancelledError. It comes with the question and
    is not kept, for it is a method of the owner mostly: the two would live until the collector finds them,
    and the message with them, in memory and in its temporary file.
    """

    __slots__ = ("_running", "value")

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._running: asyncio.Future[None] | None = None
        self.value: T | None = None
        """The value as soon as it is known."""

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """The value, which `make` finds if nobody has asked yet."""
        while self.value is None:
            if self._running is not None:
                await asyncio.shield(self._running)
                continue
            running = self._running = asyncio.get_running_loop().create_future()
            try:
                self.value = await make()
            finally:
                self._running = None
                running.set_result(None)
        return self.value
