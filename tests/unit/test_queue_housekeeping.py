"""Snapshots, compaction, deletion; and damage of what is stored."""

from __future__ import annotations

import asyncio
import errno
import random
from typing import Any

import pytest

from mailqueue import bodies
from mailqueue.fsck import fsck
from mailqueue.inspect import Inspection, list_streams
from mailqueue.keys import log_key, log_prefix, snapshot_prefix
from mailqueue.model import Change, CorruptMessage, Status
from mailqueue.process import ProcessIdentity
from mailqueue.queue import MailQueue
from mailqueue.store.base import Blob, StoreUnavailable
from mailqueue.store.memory import MemoryStore
from tests.simulation.loop import run
from tests.simulation.queues import LoopClock, crash, message, open_queue, settings, until

DONE = Change(0, Status.DELIVERED, attempted=1.0)
QUICK = {"snapshot_every": 10.0, "housekeeping": 5.0, "compact_after": 60.0, "cache_max": 0}


SELDOM = {
    "heartbeat": 60.0,
    "deliver_for": 200.0,
    "takeover": 300.0,
    "housekeeping": 60.0,
    "snapshot_every": 60.0,
}
"""For tests of hours."""


async def fill(queue: MailQueue, count: int, size: int = 200) -> list[str]:
    """Messages, one entry each."""
    ids = []
    for number in range(count):
        ids.append(await queue.enqueue(message(b"%d" % number + b"x" * size)))
        await asyncio.sleep(0.1)
    return ids


async def body_of(queue: MailQueue | Inspection, id: str) -> bytes:
    found = await queue.load(id)
    return b"".join((await found.body.fetch()).chunks())


def test_the_log_does_not_grow_with_what_is_delivered() -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store, **QUICK)
        kept = await fill(queue, 3)
        for _ in range(30):
            for id in await fill(queue, 10):
                await queue.settle(id, [DONE], urgent=True)
        await asyncio.sleep(60)
        assert queue.stats().entries > 300
        assert len(await store.list_after(log_prefix(queue.stream))) < 40
        assert len(await store.list_after(snapshot_prefix(queue.stream))) == 2
        assert [await body_of(queue, id) for id in kept] == [b"%d" % n + b"x" * 200 for n in range(3)]
        await queue.close()

    run(work())


def test_what_stays_long_moves_together_and_keeps_its_state() -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store, **QUICK)
        ids = await fill(queue, 40)
        later = Change(0, Status.DEFERRED, 3e9, "451 4.4.1 timeout", 5.0)
        await queue.settle(ids[0], [later], urgent=False)
        await queue.settle(ids[1], [Change(0, Status.HELD)], urgent=False)
        await asyncio.sleep(120)
        places = {queue._index.location(handle).number for handle in queue.live.handles()}
        assert len(places) == 1
        entries = await store.list_after(log_prefix(queue.stream))
        for _ in range(4):
            await fill(queue, 1)
            await asyncio.sleep(60)
        assert places <= {queue._index.location(queue.live.handle_of(id)).number for id in ids}, "only once"
        assert len(entries) < 40
        crash(queue)
        second = await open_queue(store, **QUICK)
        await until(lambda: len(second.live) == 44)
        for number, id in enumerate(ids):
            assert await body_of(second, id) == b"%d" % number + b"x" * 200
        assert second.live.recipients(second.live.handle_of(ids[0]))[0].reply == "451 4.4.1 timeout"
        assert second.live.row(second.live.handle_of(ids[1])).status is Status.HELD
        await second.close()

    run(work())


def test_a_retired_stream_is_collected_when_nobody_needs_it_any_more() -> None:
    async def work() -> None:
        store = MemoryStore()
        first = await open_queue(store, **QUICK)
        ids = await fill(first, 5)
        crash(first)
        second = await open_queue(store, **QUICK, retired_keep=10_000.0)
        await until(lambda: len(second.live) == 5)
        await asyncio.sleep(30)
        assert len(await store.list_after(log_prefix(first.stream))) == 6
        assert await store.list_after("uses/") == [f"uses/{first.stream}/{second.stream}"]
        await asyncio.sleep(120)
        assert await store.list_after("uses/") == []
        assert await store.list_after(log_prefix(first.stream)) == [log_key(first.stream, 5)], "the seal"
        assert [await body_of(second, id) for id in ids] == [b"%d" % n + b"x" * 200 for n in range(5)]
        await asyncio.sleep(3600)
        assert [info.name for info in await list_streams(store)] == [second.stream]
        left = [key for key in await store.list_after("") if first.stream in key]
        assert left == [log_key(first.stream, 5), f"retired/{first.stream}/collected"]
        await asyncio.sleep(7000)
        assert not [key for key in await store.list_after("") if first.stream in key]
        await second.close()

    run(work())


@pytest.mark.parametrize("boot", ["b", ""])
def test_streams_are_forgotten_by_processes_that_do_not_live_for_an_hour(boot: str) -> None:
    """Each reload begins a stream; where the machine has no boot id its files stay until one lives longer."""

    async def work() -> None:
        store = MemoryStore()
        kept: set[str] = set()
        for life in range(9):
            identity = ProcessIdentity("", boot, "", 0, 0)
            queue = await open_queue(store, **QUICK, retired_keep=7200.0, identity=identity)
            await asyncio.sleep(1800)
            await queue.close()
            if life == 3:
                kept = {key.split("/")[1] for key in await store.list_after("log/")}
        left = {key.split("/")[1] for key in await store.list_after("") if key.count("/") > 0}
        assert len(kept) == 4
        assert bool(kept & left) is not bool(boot)

    run(work(), limit=2e5)


def test_bodies_go_with_their_day_unless_somebody_still_has_them() -> None:
    async def work() -> None:
        day = 86400.0
        store = MemoryStore()
        times = {"lifetime": 2 * day, "body_keep": 2 * day, "compact_after": 1e9, "housekeeping": 1800.0}
        queue = await open_queue(store, **times, snapshot_every=3600.0, heartbeat=900.0, takeover=4000.0)
        gone = await queue.enqueue(message(b"gone" * 100_000))
        held = await queue.enqueue(message(b"held" * 100_000))
        await queue.settle(gone, [DONE], urgent=True)
        await queue.settle(held, [Change(0, Status.HELD)], urgent=True)
        before = await store.list_after("body/")
        assert len(before) == 2
        await asyncio.sleep(2.9 * day)
        assert await store.list_after("body/") == before
        await asyncio.sleep(8 * day)
        after = await store.list_after("body/")
        assert len(after) in (1, 2)
        assert not set(after) & set(before)
        assert await body_of(queue, held) == b"held" * 100_000
        await queue.close()

    run(work(), limit=2e6)


def test_a_full_folder_of_temporary_files_ends_no_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that has to move on waits until there is room again; nothing else does."""

    async def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def work() -> None:
        day, told = 86400.0, []
        store = MemoryStore()
        times = {"lifetime": 2 * day, "body_keep": 2 * day, "compact_after": 1e9, "housekeeping": 1800.0}
        queue = await open_queue(
            store, **times, snapshot_every=3600.0, heartbeat=900.0, takeover=4000.0,
            report=lambda event, fields: told.append((event, fields["error"])),
        )  # fmt: skip
        held = await queue.enqueue(message(b"held" * 100_000))
        await queue.settle(held, [Change(0, Status.HELD)], urgent=True)
        before = await store.list_after("body/")
        with monkeypatch.context() as patch:
            patch.setattr(bodies, "fetch_body", full)
            await asyncio.sleep(6 * day)
        assert {event for event, _ in told} == {"housekeeping"}
        assert all("No space left" in error for _, error in told)
        assert await store.list_after("body/") == before
        await asyncio.sleep(day)
        assert not set(await store.list_after("body/")) & set(before)
        assert await body_of(queue, held) == b"held" * 100_000
        await queue.close()

    run(work(), limit=2e6)


@pytest.mark.parametrize(
    ("set_first", "set_second"),
    [(30, 0), (0, 30), (-30, 0), (0, -30), (30, 30)],
    ids=["owner ahead", "other ahead", "owner behind", "other behind", "both"],
)
def test_a_clock_that_is_wrong_costs_nobody_a_body(set_first: float, set_second: float) -> None:
    """One of two nodes, or both at once as by a wrong server of time, believe in another month for a day."""

    async def work() -> None:
        store = MemoryStore()
        clocks = [LoopClock(), LoopClock()]
        queues = [await MailQueue.open(store, settings(**SELDOM), clock) for clock in clocks]
        owner = queues[0]
        ids = [await owner.enqueue(message(b"early" * 100_000))]
        for clock, days in zip(clocks, (set_first, set_second), strict=True):
            clock.offset += days * 86400
        ids.append(await owner.enqueue(message(b"late" * 100_000)))
        await asyncio.sleep(3.0 * 3600)
        for clock, days in zip(clocks, (set_first, set_second), strict=True):
            clock.offset -= days * 86400
        await asyncio.sleep(3.0 * 3600)
        assert [len(await body_of(owner, id)) for id in ids] == [500_000, 400_000]
        for queue in queues:
            await queue.close()

    run(work(), limit=1e6)


def test_a_seal_is_not_forgotten_because_one_clock_is_ahead() -> None:
    async def work() -> None:
        store = MemoryStore()
        dead = await open_queue(store, **SELDOM)
        crash(dead)
        ahead = LoopClock()
        queues = [await MailQueue.open(store, settings(**SELDOM), clock) for clock in (LoopClock(), ahead)]
        await asyncio.sleep(1200)
        ahead.offset += 30 * 86400
        await asyncio.sleep(3 * 3600)
        assert await store.list_after(log_prefix(dead.stream)) == [log_key(dead.stream, 0)]
        for queue in queues:
            await queue.close()

    run(work(), limit=1e6)


# Damage


def test_a_body_that_cannot_be_moved_is_told_of_once() -> None:
    async def work() -> None:
        day, told = 86400.0, []
        store = MemoryStore()
        times = {"lifetime": 2 * day, "body_keep": 2 * day, "compact_after": 1e9, "housekeeping": 1800.0}
        queue = await open_queue(
            store, **times, snapshot_every=3600.0, heartbeat=900.0, takeover=4000.0,
            report=lambda event, fields: told.append(event),
        )  # fmt: skip
        held = await queue.enqueue(message(b"held" * 100_000))
        await queue.settle(held, [Change(0, Status.HELD)], urgent=True)
        (body,) = await store.list_after("body/")
        flip(store, body, 5)
        await asyncio.sleep(6 * day)
        assert told == ["body lost"]
        assert queue.stats().entries < 5, "nothing is written again and again"
        assert await store.list_after("body/") == [body], "what is left of it stays as long as the message"
        with pytest.raises(CorruptMessage):
            await body_of(queue, held)
        await queue.close()

    run(work(), limit=2e6)


def flip(store: MemoryStore, key: str, at: int) -> None:
    octets = bytearray(store._objects[key])
    octets[at] ^= 0x10
    store._objects[key] = bytes(octets)


@pytest.mark.parametrize(
    "at", [2, 30, 62, 66, 80, -20], ids=["magic", "number", "crc", "length", "record", "payload"]
)
def test_a_damaged_entry_is_told_by_its_key_and_the_rest_flows(at: int) -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store)
        ids = await fill(queue, 5)
        crash(queue)
        key = log_key(queue.stream, 2)
        flip(store, key, at)
        report = await fsck(store)
        assert {finding.key for finding in report.findings} >= {key}
        assert report.entries == 5

        told: list[dict[str, Any]] = []

        def tell(event: str, fields: dict[str, object]) -> None:
            if event == "corrupt":
                told.append(fields)

        second = await open_queue(store, report=tell, cache_max=0)
        await until(lambda: len(second.live) >= 4)
        await asyncio.sleep(2)
        for id in (*ids[:2], *ids[3:]):
            assert len(await body_of(second, id)) > 200
        if at == -20:
            with pytest.raises(CorruptMessage, match=key):
                await second.load(ids[2])
        else:
            assert any(key in str(fields["problem"]) for fields in told)
            assert await store.list_after("corrupt/") == [f"corrupt/{queue.stream}/{2:016d}"]
        await second.enqueue(message())
        await second.close()

    run(work())


@pytest.mark.parametrize("damage", ["newest", "both", "heads", "gone"])
def test_damaged_snapshots_lose_nothing(damage: str) -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store, **QUICK | {"compact_after": 1e9})
        ids = await fill(queue, 30)
        for id in ids[:10]:
            await queue.settle(id, [DONE], urgent=True)
        await asyncio.sleep(30)
        ids += await fill(queue, 10)
        await asyncio.sleep(30)
        crash(queue)
        snapshots = await store.list_after(snapshot_prefix(queue.stream))
        assert len(snapshots) == 2
        if damage == "gone":
            await store.delete(snapshots[1:])
        for key in () if damage == "gone" else snapshots[1:] if damage == "newest" else snapshots:
            flip(store, key, 10 if damage == "heads" else 100)
        if damage != "gone":
            assert not (await fsck(store)).is_sound
        second = await open_queue(store)
        await until(lambda: len(second.live) >= 30)
        live = {second.live.id_of(handle) for handle in second.live.handles()}
        assert live >= set(ids[10:])
        if damage in ("newest", "gone"):
            assert live == set(ids[10:]), "the older snapshot and the log behind it have it all"
        await second.close()

    run(work())


def test_a_sound_store_is_sound() -> None:
    async def work() -> None:
        store = MemoryStore()
        assert not (await fsck(store)).is_sound
        queue = await open_queue(store, **QUICK)
        await fill(queue, 20)
        await asyncio.sleep(15)
        await queue.enqueue(message(b"x" * 400_000, recipients=3))
        await asyncio.sleep(30)
        steps: list[tuple[int, int]] = []
        report = await fsck(store, progress=lambda done, of: steps.append((done, of)))
        assert report.findings == []
        assert (report.messages, report.bodies, report.snapshots) == (21, 1, 2)
        assert steps[-1][0] == steps[-1][1] == report.entries + report.snapshots
        (body,) = await store.list_after("body/")
        flip(store, body, 5)
        (finding,) = (await fsck(store)).findings
        assert (finding.key, finding.lost) == (body, True)
        await store.delete([body])
        assert [finding.key for finding in (await fsck(store)).findings] == [body]
        (first, *_) = await store.list_after(log_prefix(queue.stream))
        flip(store, first, 70)
        before = len(await store.list_after(""))
        assert not (await fsck(store, quarantine=True)).is_sound
        assert len(await store.list_after("")) == before + 1
        await queue.close()

    run(work())


def test_a_snapshot_whose_answer_was_lost_is_ours() -> None:
    async def work() -> None:
        class Forgetful(MemoryStore):
            lose = True

            async def put_new(self, key: str, data: bytes | Blob) -> bool:
                found = await super().put_new(key, data)
                if key.startswith("snap/") and self.lose:
                    self.lose = False
                    raise StoreUnavailable(self.name, "no answer")
                return found

        store = Forgetful()
        told: list[str] = []
        queue = await open_queue(store, **QUICK, report=lambda event, fields: told.append(event))
        await fill(queue, 3)
        await asyncio.sleep(60)
        assert told == ["housekeeping"]
        assert len(await store.list_after(snapshot_prefix(queue.stream))) == 1
        await queue.close()

    run(work())


def test_a_snapshot_does_not_know_of_an_end_before_the_log_does() -> None:
    """What takes the place of a message, its report, is in the log only: a snapshot that lacks the message
    already must not be there before it."""

    async def work() -> None:
        class Stuck(MemoryStore):
            stuck = False

            async def put_new(self, key: str, data: bytes | Blob) -> bool:
                if key.startswith("log/") and self.stuck:
                    raise StoreUnavailable(self.name, "503")
                return await super().put_new(key, data)

        store = Stuck()
        queue = await open_queue(store, **QUICK)
        (name,) = await fill(queue, 1)
        store.stuck = True
        given_up = Change(0, Status.FAILED, reply="554 5.4.7 expired", attempted=1.0)
        await queue.settle(name, [given_up], urgent=True, follow=[message(b"DSN")])  # gives up waiting
        await asyncio.sleep(20)
        crash(queue)
        store.stuck = False
        survivor = await open_queue(store, node="other")
        await until(lambda: len(survivor.live) == 1, 60)
        assert survivor.live.id_of(next(survivor.live.handles())) == name
        await survivor.close()

    run(work())


def test_a_flood_is_covered_by_snapshots_soon() -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store, snapshot_bytes=100_000)
        for _ in range(20):
            await asyncio.gather(*(queue.enqueue(message(random.randbytes(2000))) for _ in range(50)))
            await asyncio.sleep(1.1)
        (info,) = await list_streams(store)
        assert info.lag <= 6, "no more than about two seconds of log"
        await queue.close()

    run(work())
