"""A store that fails as real ones do, by a script or by a seeded random: for state machines and simulation.

Each node of a test gets a `FaultStore` of its own in front of the store that all share, so that a node can
be cut off or killed alone. Before each call it asks `faults` what is to go wrong; the same seed and the same
order of calls give the same faults. Waiting is `asyncio.sleep`, so a loop with virtual time runs it all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from mailqueue.store.base import (
    Blob,
    SealResult,
    Store,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    pieces,
    seal_alone,
)

T = TypeVar("T")


class Kind(Enum):
    """What goes wrong with a call."""

    NONE = "nothing"
    BEFORE = "an error, without effect"
    LOST = "the effect happens, then the answer is lost"
    LATE = "an error now; the effect happens later, as of a request that was still on its way"
    FULL = "no room; without effect"
    REFUSED = "read-only; without effect"
    FLIP = "one bit of what is read is wrong"
    CRASH_BEFORE = "the node dies before the call"
    CRASH_AFTER = "the node dies after the call had its effect"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the seconds that a call takes before and after its effect."""

    kind: Kind = Kind.NONE
    before: float = 0.0
    after: float = 0.0


NO_FAULT = Fault()


class Faults(Protocol):
    def next(self, call: str, key: str) -> Fault:
        """What happens to this call ("put_new", "put", "get", "list_after", "delete")."""


class RandomFaults:
    """Faults with these probabilities per call, from one seeded generator."""

    def __init__(
        self,
        generator: random.Random,
        rates: Mapping[Kind, float] | None = None,
        *,
        delay: float = 0.0,
        writes_only: bool = False,
    ) -> None:
        """`delay` is the mean of the exponentially distributed seconds before and after the effect."""
        self.generator = generator
        self.rates = dict(rates or {})
        self.delay = delay
        self.writes_only = writes_only

    def next(self, call: str, key: str) -> Fault:
        draw = self.generator.random()
        before = self.generator.expovariate(1 / self.delay) if self.delay else 0.0
        after = self.generator.expovariate(1 / self.delay) if self.delay else 0.0
        if self.writes_only and call in ("get", "list_after"):
            return Fault(Kind.NONE, before, after)
        for kind, rate in self.rates.items():
            draw -= rate
            if draw < 0:
                return Fault(kind, before, after)
        return Fault(Kind.NONE, before, after)


class ScriptedFaults:
    """Faults for chosen calls: each rule is used once, in order, at the first call that it fits."""

    def __init__(self, *rules: tuple[str, str, Fault | Kind]) -> None:
        """A rule is the name of a call, a part of the key ("" fits all), and what happens."""
        self.rules = list(rules)

    def next(self, call: str, key: str) -> Fault:
        for index, (name, part, fault) in enumerate(self.rules):
            if name == call and part in key:
                del self.rules[index]
                return fault if isinstance(fault, Fault) else Fault(fault)
        return NO_FAULT


class FaultStore:
    """A store of one node, in front of the real one."""

    def __init__(
        self,
        inner: Store,
        faults: Faults | None = None,
        *,
        generator: random.Random | None = None,
        on_crash: Callable[[], None] = lambda: None,
        lateness: float = 5.0,
        patience: float = 0.0,
    ) -> None:
        """`generator` chooses bits to flip and how late a late effect is, at most `lateness` seconds.

        `patience` is how long calls take to fail while `down`. After a crash every call waits for ever, as
        nobody is there to hear an answer; `on_crash` is where the test ends the node's tasks.
        """
        self.inner = inner
        self.name = inner.name
        self.faults = faults
        self.down = False
        """True while this node cannot reach the store."""
        self.dead = False
        """True after the node has crashed."""
        self.calls: list[tuple[str, str]] = []
        """Every call, with its key or prefix, whatever became of it."""
        self._generator = generator or random.Random(0)
        self._on_crash = on_crash
        self._lateness = lateness
        self._patience = patience
        self._late: set[asyncio.Task[object]] = set()

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        # A late effect must not read a Blob that its owner has closed meanwhile.
        octets = data if isinstance(data, bytes) else b"".join(pieces(data))
        return await self._call("put_new", key, lambda: self.inner.put_new(key, octets))

    async def put(self, key: str, data: bytes) -> None:
        await self._call("put", key, lambda: self.inner.put(key, data))

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return await self._call("get", key, lambda: self.inner.get(key, start, end))

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        return await self._call("list_after", prefix, lambda: self.inner.list_after(prefix, after, limit))

    async def delete(self, keys: Iterable[str]) -> None:
        some = list(keys)
        await self._call("delete", some[0] if some else "", lambda: self.inner.delete(some))

    async def seal_new(self, key: str, seal: bytes) -> SealResult:
        """Its two calls can fail like any other; a Replicated store goes on top of these, not below."""
        return await seal_alone(self, key, seal)

    async def close(self) -> None:
        """Waits for late effects; the real store stays open for the other nodes."""
        while self._late:
            await asyncio.wait(self._late)

    def crash(self) -> None:
        """The node dies now."""
        if not self.dead:
            self.dead = True
            self._on_crash()

    async def _call(self, call: str, key: str, effect: Callable[[], Awaitable[T]]) -> T:
        self.calls.append((call, key))
        if self.dead:
            await self._for_ever()
        if self.down:
            await self._sleep(self._patience)
            raise StoreUnavailable(self.name, f"{call} {key}: cannot be reached")
        fault = self.faults.next(call, key) if self.faults else NO_FAULT
        await self._sleep(fault.before)
        match fault.kind:
            case Kind.BEFORE:
                raise StoreUnavailable(self.name, f"{call} {key}: failed before it had an effect")
            case Kind.FULL:
                raise StoreFull(self.name, f"{call} {key}: no room")
            case Kind.REFUSED:
                raise StoreRefused(self.name, f"{call} {key}: read-only")
            case Kind.LATE:
                if call not in ("get", "list_after"):  # late or not, a read changes nothing
                    self._start_late(effect)
                raise StoreUnavailable(self.name, f"{call} {key}: no answer in time")
            case Kind.CRASH_BEFORE:
                await self._die()
        result = await effect()
        match fault.kind:
            case Kind.LOST:
                raise StoreUnavailable(self.name, f"{call} {key}: the answer was lost")
            case Kind.CRASH_AFTER:
                await self._die()
            case Kind.FLIP if isinstance(result, bytes) and result:
                result = self._flip(result)  # type: ignore[assignment]  # the T of get is bytes
        await self._sleep(fault.after)
        if self.dead:
            await self._for_ever()
        return result

    def _start_late(self, effect: Callable[[], Awaitable[object]]) -> None:
        wait = self._generator.uniform(0.0, self._lateness)

        async def later() -> object:
            await asyncio.sleep(wait)
            try:
                return await effect()
            except StoreError:  # the real store may fail too: nobody hears of it
                return None

        task = asyncio.ensure_future(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _flip(self, data: bytes) -> bytes:
        bit = self._generator.randrange(len(data) * 8)
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        return bytes(flipped)

    async def _die(self) -> None:
        self.crash()
        await self._for_ever()

    @staticmethod
    async def _for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    @staticmethod
    async def _sleep(seconds: float) -> None:
        # Also with 0: other tasks run between any two calls.
        await asyncio.sleep(seconds)
