"""Group commit: when entries are written, in which order they count, and who is told."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from mailqueue.batch import Batch, Haste
from mailqueue.entry import parse
from mailqueue.ids import id_text
from mailqueue.log import Log
from mailqueue.model import Fenced
from mailqueue.settings import QueueSettings
from mailqueue.store.base import Blob, StoreFull, StoreUnavailable
from mailqueue.store.memory import MemoryStore
from tests.simulation.loop import run
from tests.simulation.queues import LoopClock, settings

STREAM = bytes(range(16))


class Slow(MemoryStore):
    """Takes a time for each put; the test may hold some back."""

    def __init__(self, seconds: float = 0.01) -> None:
        super().__init__()
        self.seconds = seconds
        self.held: dict[int, asyncio.Event] = {}
        self.calls: list[tuple[float, int, int]] = []
        self.errors: list[Exception] = []

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        number = int(key[-16:])
        assert isinstance(data, bytes)
        records = parse(data, STREAM, number, whole=True).records
        self.calls.append((asyncio.get_running_loop().time(), number, len(records)))
        await asyncio.sleep(self.seconds)
        if number in self.held:
            await self.held[number].wait()
        if self.errors:
            raise self.errors.pop(0)
        return await super().put_new(key, data)


class Scene:
    """A log and what it has told."""

    def __init__(self, store: MemoryStore, **changes: Any) -> None:
        self.fences: list[bool] = []
        self.told: list[int | None] = []
        self.settings: QueueSettings = settings(**changes)
        self.log = Log(store, STREAM, self.settings, LoopClock(), lambda: self.fences.append(True))

    def append(self, name: int = 0, *, haste: Haste = Haste.NOW, size: int = 0) -> None:
        def told(batch: Batch | None) -> None:
            self.told.append(name if batch is not None else None)

        record = b"\x94\x02\xc4\x00" + bytes(max(size - 4, 0))
        self.log.append(record, haste=haste, on_commit=told)


def now() -> float:
    return asyncio.get_running_loop().time()


def numbers(store: Slow) -> list[int]:
    return [number for _, number, _ in store.calls]


def test_a_lone_record_does_not_wait() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store)
        for _ in range(5):
            began = now()
            scene.append()
            await scene.log.barrier()
            assert now() - began == pytest.approx(0.01, abs=1e-6)
            await asyncio.sleep(0.2)
        assert numbers(store) == [0, 1, 2, 3, 4]

    run(work())


def test_light_load_shares_requests() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store)
        for name in range(300):
            scene.append(name)
            await asyncio.sleep(0.01)
        await scene.log.barrier()
        assert scene.told == list(range(300))
        # 100 a second: an entry every 50 ms.
        assert len(store.calls) <= 300 * 0.21

    run(work())


@pytest.mark.parametrize(
    ("clients", "seconds"),
    [
        (None, 0.05),
        (100, 0.05),
        (4, 0.05),  # the first is answered by then, and could send another one
        (3, 0.02),
        (0, 0.02),  # a tool: nobody is connected
    ],
)
def test_when_all_clients_wait_nobody_is_waited_for(clients: int | None, seconds: float) -> None:
    """The first one is written at once, and answered after 10 ms. Three more come after 20 ms."""

    async def work() -> None:
        store = Slow(0.01)
        scene = Scene(store, spacing=0.05, clients=None if clients is None else lambda: clients)
        scene.append()
        began = now()
        await asyncio.sleep(0.02)
        for name in (1, 2, 3):
            scene.append(name)
        await asyncio.sleep(0.1)
        assert scene.told == [0, 1, 2, 3]
        assert [round(at - began, 6) for at, _, _ in store.calls] == [0, seconds]

    run(work())


def test_clients_whose_entry_is_on_its_way_wait_as_well() -> None:
    async def work() -> None:
        store = Slow(0.03)
        scene = Scene(store, spacing=0.05, clients=lambda: 3)
        scene.append()
        began = now()
        await asyncio.sleep(0.01)
        scene.append(1)
        await asyncio.sleep(0.005)
        assert len(store.calls) == 1, "the third may come along"
        scene.append(2)
        await asyncio.sleep(0.1)
        assert [round(at - began, 6) for at, _, _ in store.calls] == [0, 0.015]

    run(work())


def test_what_no_client_waits_for_does_not_count_as_one() -> None:
    async def work() -> None:
        store = Slow(0.01)
        scene = Scene(store, spacing=0.05, note_spacing=0.05, clients=lambda: 2)
        scene.append()
        began = now()
        await asyncio.sleep(0.02)
        scene.append(1, haste=Haste.SOON)
        scene.append(2)
        await asyncio.sleep(0.1)
        assert [round(at - began, 6) for at, _, _ in store.calls] == [0, 0.05]

    run(work())


def test_heavy_load_fills_entries_and_uses_all_places() -> None:
    async def work() -> None:
        store = Slow(0.1)
        scene = Scene(store)
        most = 0
        for _ in range(400):
            scene.append()
            most = max(most, len(scene.log._flying))
            await asyncio.sleep(0.001)
        await scene.log.barrier()
        assert most == 4
        assert len(store.calls) <= 400 / 10

    run(work())


def test_notes_that_no_client_waits_for_share_entries_however_many_there_are() -> None:
    async def work() -> None:
        store = Slow(0.002)
        scene = Scene(store, spacing=0.0, note_spacing=0.03, batch_messages=16)
        scene.append(haste=Haste.SOON)
        await asyncio.sleep(0.01)
        assert len(store.calls) == 1, "a lone one is written at once"
        for _ in range(900):
            scene.append(haste=Haste.SOON)
            await asyncio.sleep(0.001)
        await scene.log.barrier()
        begun = [at for at, _, _ in store.calls]
        assert 900 / 31 <= len(begun) <= 900 / 30 + 3
        assert min(b - a for a, b in pairwise(begun[:-1])) >= 0.0299
        assert scene.told == [0] * 901

    run(work())


def test_a_note_goes_with_what_a_client_waits_for() -> None:
    async def work() -> None:
        store = Slow(0.002)
        scene = Scene(store, spacing=0.0, note_spacing=0.03)
        scene.append(1, haste=Haste.SOON)
        await asyncio.sleep(0.005)
        scene.append(2, haste=Haste.SOON)
        await asyncio.sleep(0.005)
        assert scene.told == [1]
        scene.append(3)
        await asyncio.sleep(0.005)
        assert scene.told == [1, 2, 3]
        assert len(store.calls) == 2

    run(work())


def test_deferrals_wait_for_company() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store)
        scene.append(1, haste=Haste.LATER)
        await asyncio.sleep(4.9)
        assert store.calls == []
        await asyncio.sleep(0.2)
        assert scene.told == [1]
        scene.append(2, haste=Haste.LATER)
        await asyncio.sleep(1)
        scene.append(3)
        await asyncio.sleep(0.1)
        assert scene.told == [1, 2, 3]
        assert len(store.calls) == 2

    run(work())


def test_commit_is_in_order_whatever_the_answers() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store, spacing=0.0, batch_messages=1)
        store.held[1] = asyncio.Event()
        for name in range(6):
            scene.append(name)
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        assert scene.told == [0]
        assert scene.log.committed == 0
        assert numbers(store) == [0, 1, 2, 3, 4], "no more than four beyond the last that is committed"
        store.held[1].set()
        await scene.log.barrier()
        assert scene.told == [0, 1, 2, 3, 4, 5]
        assert scene.log.pending == 0

    run(work())


@pytest.mark.parametrize("error", [StoreUnavailable, StoreFull], ids=["no answer", "full"])
@pytest.mark.parametrize("kept", [True, False])
def test_the_same_octets_are_put_until_there_is_an_answer(error: type[StoreUnavailable], kept: bool) -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store)
        store.errors = [error("memory:", "down") for _ in range(5)]
        scene.append(1)
        await asyncio.sleep(0.05)
        assert scene.log.failing is not None
        if kept:
            # The first attempt had its effect after all.
            await MemoryStore.put_new(store, f"log/{id_text(STREAM)}/{0:016d}", scene.log._flying[0].octets)
        await scene.log.barrier()
        assert scene.told == [1]
        assert numbers(store) == [0] * 6
        assert scene.log.failing is None

    run(work())


def test_foreign_content_fences_for_good() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store, spacing=0.0, batch_messages=1)
        scene.append(0)
        await scene.log.barrier()
        await MemoryStore.put_new(store, f"log/{id_text(STREAM)}/{1:016d}", b"SEAL\nx")
        for name in (1, 2, 3):
            scene.append(name)
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(scene.log.barrier())
        await asyncio.sleep(1)
        assert scene.told == [0, None, None, None]
        assert scene.fences == [True]
        with pytest.raises(Fenced):
            await waiting
        with pytest.raises(Fenced):
            scene.append(4)
        with pytest.raises(Fenced):
            await scene.log.touch()
        assert scene.log.pending == 0

    run(work())


def test_touch_proves_ownership_with_an_empty_entry() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store)
        await scene.log.touch()
        assert store.calls == [(1000.0, 0, 0)]
        scene.append(1)
        await scene.log.touch()
        assert numbers(store) == [0, 1]

    run(work())


def test_entries_are_bounded() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store, entry_max=1000, batch_bytes=600)
        for name in range(10):
            scene.append(name, size=300)
        scene.append(10, size=5000)
        scene.append(11)
        await scene.log.barrier()
        sizes = [len(octets) for octets in store._objects.values()]
        assert len(sizes) == 6
        assert sorted(sizes)[-2] < 1100
        assert scene.told == list(range(12))

    run(work())


def test_what_belongs_together_is_one_entry() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store, entry_max=1000)
        scene.append(0, size=900)
        with scene.log.together(1500):
            for name in (1, 2, 3):
                scene.append(name, size=500)
        scene.append(4, size=500)
        await scene.log.barrier()
        assert sorted(len(octets) > 1500 for octets in store._objects.values()) == [False, False, True]

    run(work())


def test_a_record_nobody_waits_for_is_withdrawn_when_it_is_alone() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store, spacing=1.0)
        scene.append(0)
        await scene.log.barrier()
        told: list[Batch | None] = []
        call = told.append
        scene.append(1)
        batch = scene.log.append(b"\x92\x04\xc4\x00", haste=Haste.NOW, on_commit=call)
        assert scene.log.withdraw(batch, call) is False, "others are in its entry"
        await scene.log.barrier()
        lone = scene.log.append(b"\x92\x04\xc4\x00", haste=Haste.NOW, on_commit=call)
        assert scene.log.withdraw(lone, call) is True
        assert scene.log.withdraw(lone, call) is False
        await asyncio.sleep(3)
        assert len(store._objects) == 2
        assert scene.log.pending == 0

    run(work())


def test_a_log_without_answer_for_days_gives_itself_up() -> None:
    async def work() -> None:
        store = Slow()
        scene = Scene(store, retired_keep=1000.0)
        store.held[0] = asyncio.Event()
        scene.append(0)
        store.errors = [StoreUnavailable("memory:", "down")] * 10000
        store.held[0].set()
        await asyncio.sleep(499)
        assert scene.told == []
        await asyncio.sleep(10)
        assert scene.told == [None]
        assert scene.fences == [True]

    run(work())
