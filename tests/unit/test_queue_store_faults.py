"""The store that fails does so as told, and the same way each time."""

from __future__ import annotations

import asyncio
import random

import pytest

from mailqueue.store.base import MissingKey, StoreFull, StoreRefused, StoreUnavailable
from mailqueue.store.memory import MemoryStore
from tests.peers.faultstore import Fault, FaultStore, Kind, RandomFaults, ScriptedFaults
from tests.peers.storecontract import Pieces
from tests.simulation.loop import run as run_virtual


def test_each_kind() -> None:
    async def main() -> None:
        inner = MemoryStore()
        store = FaultStore(
            inner,
            ScriptedFaults(
                ("put_new", "before", Kind.BEFORE),
                ("put_new", "lost", Kind.LOST),
                ("put_new", "full", Kind.FULL),
                ("put_new", "refused", Kind.REFUSED),
                ("put_new", "late", Kind.LATE),
                ("get", "late", Kind.LATE),
                ("get", "lost", Kind.FLIP),
                ("list_after", "", Fault(before=6, after=4)),
            ),
            lateness=5.0,
        )
        for key, kind in (
            ("before", StoreUnavailable),
            ("lost", StoreUnavailable),
            ("full", StoreFull),
            ("refused", StoreRefused),
            ("late", StoreUnavailable),
        ):
            with pytest.raises(kind) as caught:
                await store.put_new(key, Pieces(b"data"))
            assert type(caught.value) is kind
        assert await inner.list_after("") == ["lost"]
        with pytest.raises(StoreUnavailable):
            await store.get("late")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await store.list_after("") == ["late", "lost"]  # the late one came meanwhile
        assert loop.time() - begun == 10
        flipped = await store.get("lost")
        assert bin(int.from_bytes(flipped, "big") ^ int.from_bytes(b"data", "big")).count("1") == 1
        assert await store.get("lost") == b"data"
        assert store.calls[0] == ("put_new", "before")
        with pytest.raises(MissingKey):
            await store.get("before")

    run_virtual(main())


def test_late_effects_are_awaited_by_close_and_their_errors_are_nobodys() -> None:
    async def main() -> None:
        inner = MemoryStore()
        outer = FaultStore(
            FaultStore(inner, ScriptedFaults(("put_new", "b", Kind.FULL))),
            ScriptedFaults(("put_new", "a", Kind.LATE), ("put_new", "b", Kind.LATE)),
        )
        for key in ("a", "b"):
            with pytest.raises(StoreUnavailable):
                await outer.put_new(key, b"x")
        assert await inner.list_after("") == []
        await outer.close()
        assert await inner.list_after("") == ["a"]

    run_virtual(main())


def test_down_for_one_node_only() -> None:
    async def main() -> None:
        inner = MemoryStore()
        one, other = FaultStore(inner, patience=9.0), FaultStore(inner)
        one.down = True
        begun = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await one.put("hb/s", b"x")
        assert asyncio.get_running_loop().time() - begun == 9
        await other.put("hb/s", b"x")
        one.down = False
        assert await one.get("hb/s") == b"x"

    run_virtual(main())


@pytest.mark.parametrize(("kind", "keys"), [(Kind.CRASH_BEFORE, []), (Kind.CRASH_AFTER, ["a"])])
def test_the_dead_hear_no_answer(kind: Kind, keys: list[str]) -> None:
    async def main() -> None:
        inner = MemoryStore()
        died: list[bool] = []
        store = FaultStore(inner, ScriptedFaults(("put_new", "a", kind)), on_crash=lambda: died.append(True))
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3600):
                    await store.put_new("a", b"x")
        assert died == [True]
        assert await inner.list_after("") == keys

    run_virtual(main())


def test_a_seed_gives_the_same_faults() -> None:
    rates: dict[Kind, float] = {kind: 0.08 for kind in Kind if kind is not Kind.NONE}

    def draw(seed: int) -> list[Fault]:
        faults = RandomFaults(random.Random(seed), rates, delay=1.0)
        return [faults.next("put_new", "a") for _ in range(200)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert {fault.kind for fault in draw(1)} == set(Kind)
    reads = RandomFaults(random.Random(1), rates, writes_only=True)
    assert {reads.next("get", "a").kind for _ in range(100)} == {Kind.NONE}
