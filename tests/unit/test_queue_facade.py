"""The facade: in, out, and again after the process has ended."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from mailqueue.batch import Batch
from mailqueue.inspect import Inspection, list_streams
from mailqueue.intake import Prepared, Ticket
from mailqueue.model import (
    BytesBlob,
    Change,
    CorruptMessage,
    Fenced,
    NewMessage,
    QueuedRecipient,
    QueueUnavailable,
    Status,
    UnknownMessage,
)
from mailqueue.queue import MailQueue
from mailqueue.store.base import StoreUnavailable
from mailqueue.store.file import FileStore
from mailqueue.store.memory import MemoryStore
from mailqueue.store.replicated import Member, Replicated
from tests.peers.faultstore import NO_FAULT, Fault, FaultStore, Kind
from tests.simulation.loop import run
from tests.simulation.queues import HEADER, crash, message, open_queue, settings, until


def done(recipient: int = 0, at: float = 5.0) -> Change:
    return Change(recipient, Status.DELIVERED, reply="250 2.0.0 ok", attempted=at)


def later(recipient: int = 0, due: float = 2e9, site: str | None = None) -> Change:
    return Change(recipient, Status.DEFERRED, due, "451 4.4.1 timeout", 77.0, site)


class Silent:
    """No heartbeat is taken, or no answer comes."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def next(self, call: str, key: str) -> Fault:
        return self.fault if key.startswith("hb/") else NO_FAULT


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault(Kind.FULL), "no room"), (Fault(Kind.NONE, before=3600.0), "no answer")],
    ids=["full", "silent"],
)
def test_a_store_that_takes_no_heartbeat_is_trouble_until_it_does(fault: Fault, reason: str) -> None:
    async def work() -> None:
        store = FaultStore(MemoryStore())
        queue = await open_queue(store)
        await asyncio.sleep(5)
        assert queue.trouble == ""
        store.faults = Silent(fault)
        await until(lambda: reason in queue.trouble, 10)
        store.faults = None
        await until(lambda: queue.trouble == "", 15)
        assert queue.may_deliver()
        await queue.close()

    run(work())


class Stuck:
    """No entry of the log is written before a time of the loop."""

    def __init__(self, until: float) -> None:
        self.until = until

    def next(self, call: str, key: str) -> Fault:
        left = self.until - asyncio.get_running_loop().time()
        return Fault(before=left) if key.startswith("log/") and left > 0 else NO_FAULT


@pytest.mark.parametrize("slow", [0.1, 5.0])
def test_a_store_that_was_slow_is_not_taken_for_it_for_ever(slow: float) -> None:
    """Nothing is queued while it counts as slow: nothing else would show that it is not."""

    async def work() -> None:
        store = FaultStore(MemoryStore())
        queue = await open_queue(store, slow=slow)
        store.faults = Stuck(asyncio.get_running_loop().time() + 60)
        with pytest.raises(QueueUnavailable):
            await queue.enqueue(message())
        await asyncio.sleep(60)
        assert queue.stats().latency > slow
        await until(lambda: queue.stats().latency <= slow, 60)
        entries = queue.stats().entries
        await asyncio.sleep(60)
        assert queue.stats().entries == entries  # a store that is quick enough is left in peace
        await queue.close()

    run(work())


def test_a_message_comes_out_as_it_went_in() -> None:
    async def work() -> None:
        queue = await open_queue(MemoryStore())
        new = message(recipients=2, envelope=b"opaque", priority=3, tags=("bulk", "x"), expires=1.9e9)
        id = await queue.enqueue(new)
        found = await queue.load(id)
        assert (found.id, found.sender, found.header, found.envelope) == (id, new.sender, HEADER, b"opaque")
        assert (found.priority, found.tags, found.expires) == (3, ("bulk", "x"), 1.9e9)
        assert [r.address for r in found.recipients] == ["r0@r.test", "r1@r.test"]
        assert [r.data for r in found.recipients] == [b"d0", b"d1"]
        assert b"".join((await found.body.fetch()).chunks()) == b"Hello\r\n"
        row = queue.live.row(found.handle)
        assert (row.id, row.recipients, row.live, row.status) == (id, 2, 2, Status.QUEUED)
        assert row.size == len(HEADER) + 7 == found.size
        assert row.site == "site"
        await queue.close()

    run(work())


@pytest.mark.parametrize("size", [0, 1, 262144, 262145, 3_000_000], ids=str)
@pytest.mark.parametrize("blob", [False, True], ids=["bytes", "blob"])
def test_bodies_of_any_size_come_back(size: int, blob: bool) -> None:
    octets = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store, cache_max=0)
        body = BytesBlob(octets) if blob else octets
        new = NewMessage("", [QueuedRecipient("r@r.test")], HEADER, body)
        found = await queue.load(await queue.enqueue(new))
        assert found.body.size == size
        assert b"".join((await found.body.fetch()).chunks()) == octets
        bodies = await store.list_after("body/")
        await queue.enqueue(new)
        assert await store.list_after("body/") == bodies, "equal bodies are stored once"
        assert len(bodies) == (size > 262144)
        await queue.close()

    asyncio.run(work())


def test_states_change_until_nobody_is_live() -> None:
    async def work() -> None:
        queue = await open_queue(MemoryStore())
        id = await queue.enqueue(message(recipients=3))
        await queue.settle(id, [later(1, 1.9e9, "other"), done(0)], urgent=True)
        row = queue.live.row(queue.live.handle_of(id))
        assert (row.live, row.status, row.site) == (2, Status.DEFERRED, "")
        states = queue.live.recipients(row.handle)
        assert states[1].reply == "451 4.4.1 timeout"
        assert (states[1].attempts, states[1].last, states[1].due) == (1, 77.0, 1.9e9)
        await queue.settle(id, [Change(0, Status.QUEUED), Change(2, Status.HELD)], urgent=False)
        assert queue.live.recipients(row.handle)[0].status is Status.DELIVERED, "settled is settled"
        assert await queue.settle(id, [Change(0, Status.FAILED)], urgent=True, follow=[message()]) == []
        assert len(queue.live) == 1
        assert queue.live.recipients(row.handle)[2].attempts == 0
        await queue.settle(id, [done(1), Change(2, Status.CANCELLED)], urgent=True)
        assert len(queue.live) == 0
        with pytest.raises(UnknownMessage):
            await queue.load(id)
        with pytest.raises(UnknownMessage):
            await queue.settle(id, [done()], urgent=True)
        stats = queue.stats()
        assert (stats.messages, stats.recipients, stats.size) == (0, 0, 0)
        await queue.close()

    run(work())


def test_a_held_message_is_never_due() -> None:
    async def work() -> None:
        queue = await open_queue(MemoryStore())
        id = await queue.enqueue(message())
        handle = queue.live.handle_of(id)
        await queue.settle(handle, [Change(0, Status.HELD)], urgent=True)
        assert queue.live.row(handle).due == float("inf")
        await queue.settle(handle, [Change(0, Status.QUEUED, due=12.0)], urgent=True)
        assert queue.live.row(handle).due == 12.0
        await queue.close()

    run(work())


def test_what_cannot_be_queued_is_refused() -> None:
    async def work() -> None:
        queue = await open_queue(MemoryStore())
        settled = [QueuedRecipient("r@r.test", status=Status.DELIVERED)]
        for new in (
            NewMessage("", [], HEADER, b""),
            NewMessage("", settled, HEADER, b""),
            message(priority=10),
            message(id="nonsense"),
        ):
            with pytest.raises(ValueError, match=r"recipient|priority|queue id"):
                await queue.enqueue(new)
        id = await queue.enqueue(message(id=queue.new_id()))
        with pytest.raises(ValueError, match="already"):
            await queue.enqueue(message(id=id))
        with pytest.raises(IndexError):
            await queue.settle(id, [done(0), done(1)], urgent=True)
        assert queue.live.recipients(queue.live.handle_of(id))[0].status is Status.QUEUED
        await queue.close()
        with pytest.raises(QueueUnavailable):
            await queue.enqueue(message())

    run(work())


def test_a_report_is_queued_with_the_failure_that_it_tells_of() -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store)
        id = await queue.enqueue(message())
        entries = queue.stats().entries
        report = NewMessage("", [QueuedRecipient("a@sender.test")], HEADER, b"failed")
        (name,) = await queue.settle(id, [Change(0, Status.FAILED)], urgent=True, follow=[report])
        assert queue.stats().entries == entries + 1, "one entry has both"
        assert (await queue.load(name)).sender == ""
        assert len(queue.live) == 1
        await queue.close()

    run(work())


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "crashed"])
def test_the_next_process_has_what_the_last_one_left(clean: bool) -> None:
    async def work() -> None:
        store = MemoryStore()
        first = await open_queue(store)
        ids = [await first.enqueue(message(b"body %d" % n, recipients=1 + n % 3)) for n in range(30)]
        await first.settle(ids[0], [done()], urgent=True)
        await first.settle(ids[1], [done(1), later(0)], urgent=True)
        await first.settle(ids[2], [Change(n, Status.HELD) for n in range(3)], urgent=False)
        if clean:
            await first.close()
        else:
            await asyncio.sleep(6)
            crash(first)
        began = asyncio.get_running_loop().time()
        adopted: list[int] = []
        second = await open_queue(store, on_adopted=adopted.extend)
        await until(lambda: len(second.live) == 29)
        waited = asyncio.get_running_loop().time() - began
        assert waited < 2 if clean else 10 <= waited < 15
        assert sorted(adopted) == sorted(second.live.handles())
        assert {second.live.id_of(handle) for handle in adopted} == set(ids[1:])
        state = second.live.recipients(second.live.handle_of(ids[1]))
        assert [s.status for s in state] == [Status.DEFERRED, Status.DELIVERED]
        assert state[0].reply == "451 4.4.1 timeout"
        assert second.live.row(second.live.handle_of(ids[2])).status is Status.HELD
        found = await second.load(ids[7])
        assert b"".join((await found.body.fetch()).chunks()) == b"body 7"
        await second.close()

    run(work())


def test_files_of_one_machine(tmp_path: Path) -> None:
    async def work() -> None:
        for store_life in range(3):
            store = FileStore(tmp_path / "q")
            queue = await open_queue(store, spacing=0.0)
            if store_life:
                await until(lambda: len(queue.live) == 20)  # noqa: B023
                row = queue.live.row(next(queue.live.handles()))
                assert (await queue.load(row.id)).sender == "a@sender.test"
            else:
                await asyncio.gather(*(queue.enqueue(message(b"x" * 300_000)) for _ in range(20)))
            await queue.close()
            await store.close()

    asyncio.run(work())


class Moody(MemoryStore):
    """A store that can be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.keeps = False
        """While down, writes take effect all the same."""

    async def put_new(self, key: str, data: Any) -> bool:
        if not self.down:
            return await super().put_new(key, data)
        if self.keeps:
            await super().put_new(key, data)
        raise StoreUnavailable(self.name, "down")


@pytest.mark.parametrize("keeps", [True, False], ids=["answers lost", "nothing arrives"])
def test_what_was_refused_is_not_kept(keeps: bool) -> None:
    async def work() -> None:
        store = Moody()
        queue = await open_queue(store)
        kept = await queue.enqueue(message())
        store.down, store.keeps = True, keeps
        began = asyncio.get_running_loop().time()
        with pytest.raises(QueueUnavailable, match="down"):
            await queue.enqueue(message())
        assert 9 < asyncio.get_running_loop().time() - began < 12
        with pytest.raises(QueueUnavailable):
            await queue.enqueue(message())
        assert asyncio.get_running_loop().time() - began < 12, "refused at once while the store is down"
        await queue.settle(kept, [done()], urgent=True)
        store.down = False
        await asyncio.sleep(5)
        assert len(queue.live) == 0
        await queue.enqueue(message())
        crash(queue)
        assert len(await Inspection.open(store)) == 1
        await asyncio.sleep(0)

    run(work())


def test_who_waits_when_the_queue_is_closed_hears_of_it() -> None:
    async def work() -> None:
        store = Moody()
        queue = await open_queue(store)
        store.down = True
        waiting = asyncio.create_task(queue.enqueue(message()))
        await asyncio.sleep(1)
        await queue.close()
        with pytest.raises(QueueUnavailable):
            await waiting
        await queue.close()

    run(work())


def test_a_stream_of_a_newer_version_holds_nobody_up() -> None:
    async def work() -> None:
        store = MemoryStore()
        first = await open_queue(store)
        await first.enqueue(message())
        second = await open_queue(store)
        id = await second.enqueue(message())
        crash(first)
        crash(second)
        newer, older = sorted((first, second), key=lambda queue: queue.stream)
        id = older.live.id_of(next(older.live.handles()))
        key = f"log/{newer.stream}/{1:016d}"
        data = bytearray(store._objects[key[:-1] + "0"])
        data[4] = 9
        data[24] = 1
        data[60:64] = crc32(bytes(data[:60])).to_bytes(4, "little")
        await store.put_new(key, bytes(data))
        queue = await open_queue(store)
        await until(lambda: len(queue.live) == 1)
        assert queue.live.handle_of(id) in queue.live
        await asyncio.sleep(100)
        assert not await store.list_after(f"retired/{newer.stream}/")
        await queue.close()

    run(work())


def test_a_caller_that_is_cancelled_keeps_its_message() -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store)
        await queue.enqueue(message())
        for turns in range(6):
            task = asyncio.create_task(queue.enqueue(message()))
            for _ in range(turns):
                await asyncio.sleep(0.02)
            if task.done():
                await queue.settle(task.result(), [done()], urgent=True)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(1)
        assert len(queue.live) == 1
        crash(queue)
        assert len(await Inspection.open(store)) == 1
        await asyncio.sleep(0)

    run(work())


def test_a_queue_that_was_taken_over_says_so() -> None:
    async def work() -> None:
        store = MemoryStore()
        first = await open_queue(store)
        id = await first.enqueue(message())
        told: list[bool] = []
        first.on_fenced(lambda: told.append(True))
        # It sleeps: no heartbeat, no write.
        for task in first._tasks:
            task.cancel()
        second = await open_queue(store)
        await until(lambda: len(second.live) == 1)
        assert not first.may_deliver()
        with pytest.raises(Fenced):
            await first.settle(id, [done()], urgent=True)
        assert told == [True]
        assert first.fenced
        with pytest.raises(Fenced):
            await first.enqueue(message())
        await first.close()
        assert len(second.live) == 1, "what a fenced owner says does not count"
        await second.close()

    run(work())


def test_nobody_delivers_who_cannot_show_a_sign_of_life() -> None:
    async def work() -> None:
        store = Moody()
        queue = await open_queue(store)
        assert queue.may_deliver()

        async def fail(key: str, data: bytes) -> None:
            raise StoreUnavailable(store.name, "down")

        put, store.put = store.put, fail  # type: ignore[method-assign]
        await asyncio.sleep(3.9)
        assert queue.may_deliver()
        await asyncio.sleep(2.2)
        assert not queue.may_deliver()
        store.put = put  # type: ignore[method-assign]
        await until(queue.may_deliver, 5)
        assert queue.stats().entries == 1, "it has proved with an entry that the stream is its own"
        await queue.close()

    run(work())


def test_damaged_payload_names_its_key_and_harms_nobody_else() -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store, cache_max=0)
        ids = await asyncio.gather(*(queue.enqueue(message(b"%d" % n * 50)) for n in range(5)))
        (key,) = await store.list_after("log/")
        place = queue._index.location(queue.live.handle_of(ids[2]))
        octets = bytearray(store._objects[key])
        octets[place.offset + 20] ^= 1
        store._objects[key] = bytes(octets)
        with pytest.raises(CorruptMessage, match=key):
            await queue.load(ids[2])
        for id in (*ids[:2], *ids[3:]):
            assert (await queue.load(id)).id == id
        assert len(queue.live) == 5
        await queue.close()

    run(work())


def test_inspection_sees_streams_and_messages_without_taking_part() -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store, node="one")
        id = await queue.enqueue(message())
        before = dict(store._objects)
        inspection = await Inspection.open(store)
        assert [(stream, row.id) for stream, row in inspection.messages()] == [(queue.stream, id)]
        assert (await inspection.load(id)).sender == "a@sender.test"
        with pytest.raises(UnknownMessage):
            await inspection.load("nonsense")
        (info,) = await list_streams(store)
        assert info.announced is not None
        assert (info.name, info.announced.node, info.last, info.lag) == (queue.stream, "one", 0, 1)
        assert not info.is_retired
        assert store._objects == before
        await queue.close()
        second = await open_queue(store, node="two")
        await until(lambda: len(second.live) == 1)
        await asyncio.sleep(1)
        streams = {info.name: info for info in await list_streams(store)}
        assert streams[queue.stream].is_retired
        assert set(streams[queue.stream].retired.values()) == {second.stream}
        assert not streams[second.stream].retired
        assert [stream for stream, _ in (await Inspection.open(store)).messages()] == [second.stream]
        await second.close()

    run(work())


def test_a_store_of_a_newer_version_is_left_alone() -> None:
    async def work() -> None:
        import msgspec

        from mailqueue.entry import FormatError
        from mailqueue.opening import StoreFormat

        store = MemoryStore()
        await store.put_new("format", msgspec.msgpack.encode(StoreFormat("mailqueue", 99, b"c")))
        with pytest.raises(FormatError, match="99"):
            await MailQueue.open(store, settings())
        with pytest.raises(FormatError, match="99"):
            await Inspection.open(store)

    run(work())


def test_a_body_that_is_on_too_few_stores_is_completed() -> None:
    async def work() -> None:
        stores = [MemoryStore(f"memory:{n}") for n in range(2)]
        store = Replicated([Member(one) for one in stores], 2, 0)
        queue = await open_queue(store)
        await queue.enqueue(message(b"b" * 300_000))
        (key,) = await store.list_after("body/")
        await queue.close()
        await stores[1].delete([key])
        queue = await open_queue(store)
        await until(lambda: len(queue.live) == 1)
        await queue.enqueue(message(b"b" * 300_000))
        assert key in stores[1]._objects
        for one in stores:
            one._objects[key] = b"damaged"
        second = await open_queue(store)
        with pytest.raises(QueueUnavailable, match=key):
            await second.enqueue(message(b"b" * 300_000))
        await second.close()
        await queue.close()
        await store.close()

    run(work())


def in_memory(*kinds: type) -> list[object]:
    return [found for found in gc.get_objects() if isinstance(found, kinds)]


def test_a_message_that_is_committed_is_in_memory_once_only() -> None:
    async def work() -> None:
        gc.collect()
        gc.disable()
        try:
            queue = await open_queue(MemoryStore(), cache_max=0)
            for _ in range(3):
                await queue.enqueue(message(b"x" * 1000))
            assert not in_memory(Prepared)
            assert not any(isinstance(batch, Batch) and batch.payloads for batch in in_memory(Batch))
            await asyncio.sleep(20)
            assert not in_memory(Ticket, Batch)
            await queue.close()
        finally:
            gc.enable()

    run(work())
