"""What one process sees of the shared store: late answers, lost answers, errors, and a cut line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from random import Random
from typing import Any, TypeVar

from mailqueue.store.base import Blob, SealResult, StoreError, StoreUnavailable
from mailqueue.store.memory import MemoryStore
from tests.simulation.loop import Process, Timeline

T = TypeVar("T")


class Line:
    """The way from one machine to the store."""

    def __init__(self) -> None:
        self.cut = False
        self.latency = 0.01
        """Seconds that a request, and its answer, take at most."""
        self.fuse = -1
        """Requests until `blow` is called: something happens between two certain requests."""
        self.blow: Callable[[], None] = lambda: None
        self.faults = 0.0
        """Chance that something is wrong with a request."""


class RemoteStore:
    """A `Store` on the other end of a line. An operation has its effect at one moment between call and answer
    - or after the answer was given up, or after the process has died."""

    def __init__(
        self, memory: MemoryStore, timeline: Timeline, process: Process, line: Line, chance: Random
    ) -> None:
        self.name = memory.name
        self._memory, self._timeline, self._process = memory, timeline, process
        self._line, self._chance = line, chance
        self.calls = 0

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        return await self._call(lambda: self._memory.put_new(key, data))

    async def put(self, key: str, data: bytes) -> None:
        await self._call(lambda: self._memory.put(key, data))

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return await self._call(lambda: self._memory.get(key, start, end))

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        return await self._call(lambda: self._memory.list_after(prefix, after, limit))

    async def delete(self, keys: Iterable[str]) -> None:
        named = list(keys)
        await self._call(lambda: self._memory.delete(named))

    async def seal_new(self, key: str, seal: bytes) -> SealResult:
        return await self._call(lambda: self._memory.seal_new(key, seal))

    async def close(self) -> None:
        pass

    async def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self.calls += 1
        chance, timeline, process = self._chance, self._timeline, self._process
        answer: asyncio.Future[T] = process.loop.create_future()
        there = timeline.now + chance.uniform(0.0005, self._line.latency)
        back = there + chance.uniform(0.0005, self._line.latency)
        self._line.fuse -= 1
        if self._line.fuse == 0:
            timeline.at(chance.choice((timeline.now, there, back)), self._line.blow)
        effect = reply = True
        if self._line.cut:
            # Requests under way when a line is cut may still arrive; later ones do not.
            effect, reply, back = chance.random() < 0.02, False, there + chance.uniform(0.5, 8.0)
        elif chance.random() < self._line.faults:
            match chance.randrange(4):
                case 0:
                    effect, reply = False, False
                case 1:
                    reply, back = False, there + chance.uniform(0.0, 5.0)
                case 2:
                    there += chance.uniform(0.0, 12.0)
                    back = there + chance.uniform(0.0, 3.0)
                case _:
                    # The answer is given up before the request arrives.
                    reply, back = False, there + chance.uniform(0.0, 2.0)
                    there = back + chance.uniform(0.0, 10.0)
        result: list[T | BaseException] = []

        def happen() -> None:
            if effect:
                try:
                    work().send(None)
                except StopIteration as done:
                    result.append(done.value)
                except StoreError as error:
                    result.append(error)

        def arrive() -> None:
            if not process.alive or answer.done():
                return
            if not reply or not result:
                answer.set_exception(StoreUnavailable(self.name, "no answer"))
            elif isinstance(result[0], BaseException):
                answer.set_exception(result[0])
            else:
                answer.set_result(result[0])

        timeline.at(there, happen)
        timeline.at(back, arrive)
        return await answer
