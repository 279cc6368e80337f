"""Where the log of a dead stream ends: the first taker decides for all, whatever arrives late."""

from __future__ import annotations

import asyncio

import pytest

from mailqueue.entry import build, frame_record
from mailqueue.ids import PARTS, id_octets, part_of
from mailqueue.keys import end_key, lease_key, log_key, retired_key
from mailqueue.queue import MailQueue
from mailqueue.reader import read_end, read_retired
from mailqueue.records import Adopt, encode_record
from mailqueue.rows import encode_rows
from mailqueue.store.base import StoreRefused
from mailqueue.store.memory import MemoryStore
from mailqueue.store.replicated import Member, Replicated
from tests.peers.faultstore import FaultStore
from tests.simulation.loop import run
from tests.simulation.queues import crash, message, open_queue, until

PART = 5


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
