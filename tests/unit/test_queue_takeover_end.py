"""Where the log of a dead stream ends: the first taker decides for all, whatever arrives late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mailqueue.entry import build, frame_record
from mailqueue.ids import PARTS, id_octets, part_of
from mailqueue.keys import end_key, lease_key, log_key, number_of, retired_key, snapshot_prefix
from mailqueue.model import Change, Status
from mailqueue.queue import MailQueue
from mailqueue.reader import read_end, read_retired
from mailqueue.records import Adopt, encode_record
from mailqueue.rows import encode_rows
from mailqueue.store.base import SealResult, StoreRefused
from mailqueue.store.memory import MemoryStore
from mailqueue.store.replicated import Member, Replicated
from tests.peers.faultstore import FaultStore
from tests.simulation.loop import run
from tests.simulation.queues import crash, message, open_queue, until

PART = 5
DONE = Change(0, Status.DELIVERED, attempted=1.0)
LATER = Change(0, Status.DEFERRED, 1e12, "451 later", 1.0)


class Cluster:
    """Three stores, two of which have what is accepted; one of them can be cut off."""

    def __init__(self) -> None:
        self.stores = [MemoryStore(f"memory:{n}") for n in range(3)]
        self.away = FaultStore(self.stores[1])
        self._open: list[Replicated] = []

    async def queue(self, **changes: object) -> MailQueue:
        members = [Member(self.stores[0]), Member(self.away), Member(self.stores[2])]
        store = Replicated(members, 2, 0)
        self._open.append(store)
        return await open_queue(store, **changes)

    async def close(self) -> None:
        for store in self._open:
            await store._catch_up.close()


def live_ids(queue: MailQueue) -> set[str]:
    return {queue.live.id_of(handle) for handle in queue.live.handles()}


async def of_part(queue: MailQueue, part: int) -> str:
    """Accept a message of a part."""
    while part_of(id_octets(id := queue.new_id())) != part:
        pass
    return await queue.enqueue(message(id=id))


async def only(cluster: Cluster, stream: str, part: int, holder: str) -> None:
    """Let somebody have a claim to all parts but one."""
    for other in range(PARTS):
        if other != part:
            await cluster.stores[0].put_new(lease_key(stream, other, 1), holder.encode())


async def late_adoption(cluster: Cluster, of: MailQueue, by: MailQueue, number: int) -> None:
    """An entry of `by` in which it adopts a part of `of` arrives at one store, and will never be accepted."""
    rows = encode_rows(of._index, list(of._index.slots()))
    record = encode_record(Adopt(of._index.own, PART, 0, True, rows))
    octets = build(by._index.own, number, bytes(8), [frame_record(record)], [])
    assert await cluster.stores[1].put_new(log_key(by.stream, number), octets)


def test_an_adoption_that_arrives_after_the_seal_counts_for_nobody() -> None:
    async def work() -> None:
        cluster = Cluster()
        zombie = await cluster.queue()
        await of_part(zombie, PART)
        await asyncio.sleep(1)
        crash(zombie)
        number = zombie._log.committed + 1
        # While a store is away somebody seals the log and takes one part over.
        cluster.away.down = True
        await only(cluster, zombie.stream, PART, "another")
        first = await cluster.queue(lease=1e9)
        await until(lambda: len(first.live) == 1)
        assert await read_end(cluster.stores[0], zombie.stream) == number
        crash(first)
        # The store is back, and has what the owner of the log wrote last: it adopts part of yet another log.
        cluster.away.down = False
        owner = await cluster.queue(takeover=1e9)
        id = await of_part(owner, PART)
        await late_adoption(cluster, owner, zombie, number)
        # Whoever takes the other parts must not believe it: the part that the message is in is gone.
        second = await cluster.queue(lease=0.5)
        await until(lambda: len(second.live) == 1)
        await asyncio.sleep(30)
        crash(owner)
        await until(lambda: len(second.live) == 2)
        assert id in live_ids(second)
        assert await read_retired(cluster.stores[0], retired_key(owner.stream, PART)) != zombie.stream
        crash(second)
        await cluster.close()

    run(work())


def test_an_entry_that_counted_for_the_first_is_waited_for_by_the_next() -> None:
    async def work() -> None:
        cluster = Cluster()
        dead = await cluster.queue()
        await of_part(dead, PART)
        await asyncio.sleep(1)
        crash(dead)
        number = dead._log.committed + 1
        octets = build(dead._index.own, number, bytes(8), [], [])
        await cluster.stores[1].put_new(log_key(dead.stream, number), octets)
        await cluster.stores[0].put_new(end_key(dead.stream), str(number + 1).encode())
        cluster.away.down = True
        told: list[str] = []
        taker = await cluster.queue(report=lambda event, fields: told.append(f"{event} {fields}"))
        await asyncio.sleep(60)
        assert not len(taker.live)
        assert any(f"{number:016d}: it counts, and is not there" in line for line in told)
        cluster.away.down = False
        await until(lambda: len(taker.live) == 1)
        crash(taker)
        await cluster.close()

    run(work())


def test_an_end_that_is_no_number_is_refused() -> None:
    async def work() -> None:
        store = MemoryStore()
        assert await read_end(store, "x") is None
        await store.put_new(end_key("x"), b"soon")
        with pytest.raises(StoreRefused, match="end/x: b'soon' is no number"):
            await read_end(store, "x")

    run(work())


class Overtaken(MemoryStore):
    """A store whose `seal_new` does something else before it, once."""

    before_seal: Callable[[str], Awaitable[None]] | None = None

    async def seal_new(self, key: str, seal: bytes) -> SealResult:
        before, self.before_seal = self.before_seal, None
        if before is not None:
            await before(key)
        return await super().seal_new(key, seal)


def test_a_seal_in_a_hole_ends_nothing() -> None:
    """The taker slept before it wrote its seal, and the owner, who was not dead, has gone on: what stood at
    that number is deleted, and there is more behind it."""

    async def work() -> None:
        store = Overtaken()
        owner = await open_queue(
            store, heartbeat=1e6, takeover=1e9, snapshot_every=1.0, snapshot_bytes=1, housekeeping=1.0
        )
        ids = [await of_part(owner, PART)]
        holes: list[str] = []

        async def go_on(key: str) -> None:
            ids.append(await owner.enqueue(message()))
            assert key in store._objects, "the number that the taker wants to seal"
            for _ in range(60):
                ids.append(await owner.enqueue(message()))
                for id in ids[1:-1]:
                    if id in live_ids(owner):
                        await owner.settle(id, [DONE], urgent=True)
                await owner.settle(ids[0], [LATER], urgent=True)
                await asyncio.sleep(1)
                if key not in store._objects:
                    break
            holes.append(key)
            assert key not in store._objects
            crash(owner)

        store.before_seal = go_on
        taker = await open_queue(store, takeover=5.0)
        await until(lambda: bool(holes), 200)
        await until(lambda: {ids[0], ids[-1]} <= live_ids(taker))
        crash(taker)

    run(work())


def test_a_hole_behind_which_there_was_a_snapshot_is_damage() -> None:
    """The newest snapshot is damaged, an entry before it lost: all else is taken over."""

    async def work() -> None:
        store = MemoryStore()
        owner = await open_queue(
            store, heartbeat=1e6, takeover=1e9, snapshot_every=1.0, snapshot_bytes=1, housekeeping=1.0
        )
        ids: list[str] = []
        snapshots: list[str] = []
        while len(snapshots) < 2:
            ids.append(await owner.enqueue(message()))
            await asyncio.sleep(3)
            snapshots = await store.list_after(snapshot_prefix(owner.stream))
        older, newest = map(number_of, snapshots[-2:])
        assert newest > older
        ids.append(await owner.enqueue(message()))
        crash(owner)
        store._objects[snapshots[-1]] = b"damaged"
        await store.delete([log_key(owner.stream, older + 1)])
        taker = await open_queue(store)
        await until(lambda: {ids[0], ids[-1]} <= live_ids(taker))
        assert len(live_ids(taker)) == len(ids) - 1
        assert await read_end(store, owner.stream) == newest + 2
        crash(taker)

    run(work())
