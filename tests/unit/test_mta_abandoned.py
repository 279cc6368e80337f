"""What retries wait for: deliveries under way whose client has gone, over two workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mta.abandoned import Abandoned


class Workers:
    """Each hears what the others publish."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[dict[str, Any]], None]] = []

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        assert topic == "abandoned"
        for callback in self.callbacks:
            callback(data)

    def subscribe(self, topic: str, callback: Callable[[dict[str, Any]], None]) -> None:
        self.callbacks.append(callback)


class Silent(Workers):
    """A node without other workers."""

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        pass


async def waits(one: Abandoned, message: str) -> bool:
    """Whether a retry of the message waits."""
    try:
        async with asyncio.timeout(0.05):
            await one.ended(message, 60)
    except TimeoutError:
        return True
    return False


def test_a_retry_waits_in_every_worker_until_the_first_try_has_ended() -> None:
    async def main() -> None:
        workers = Workers()
        first, second = Abandoned(workers), Abandoned(workers)
        assert not await waits(first, "m")
        first.begin("m", "a.1", 60)
        for one in (first, second):
            assert one
            assert await waits(one, "m")
            assert not await waits(one, "other")
        waiting = asyncio.create_task(second.ended("m", 60))
        await asyncio.sleep(0.01)
        second.begin("m", "b.1", 60)  # the retry's client has left as well
        first.end("m", "a.1")
        await asyncio.wait_for(waiting, 5)  # and does not wait for itself
        assert await waits(first, "m")
        second.end("m", "b.1")
        assert not first
        assert not second

    asyncio.run(main())


def test_nobody_waits_for_a_worker_that_has_died_or_past_the_own_deadline() -> None:
    async def main() -> None:
        one = Abandoned(Silent())
        one.begin("m", "a.1", 0.05)
        await asyncio.wait_for(one.ended("m", 60), 5)
        assert not one
        one.begin("m", "a.2", 60)
        for seconds in (0.05, 0, -1):
            await asyncio.wait_for(one.ended("m", seconds), 5)
        one.end("m", "a.2")
        one.end("m", "a.2")
        assert not one

    asyncio.run(main())
