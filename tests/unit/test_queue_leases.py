"""Claims to parts of dead streams whose claimers cannot take them: nobody waits for those."""

from __future__ import annotations

import asyncio
from zlib import crc32

import pytest

from mailqueue.entry import FormatError
from mailqueue.inspect import Inspection
from mailqueue.keys import LEASES, log_key
from mailqueue.queue import MailQueue
from mailqueue.store.base import Blob
from mailqueue.store.memory import MemoryStore
from tests.simulation.loop import run
from tests.simulation.queues import crash, message, open_queue, until

COUNT = 40
PATIENCE = 20.0
"""Seconds: a claim alone is waited for much longer."""


class Stuck(MemoryStore):
    """Adoptions do not get on while it is `stuck`."""

    stuck = False

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        if self.stuck and key.startswith("end/"):
            await asyncio.sleep(1e6)
        return await super().put_new(key, data)


async def dead(store: MemoryStore) -> MailQueue:
    owner = await open_queue(store, snapshot_every=1e6)
    for _ in range(COUNT):
        await owner.enqueue(message())
    crash(owner)
    return owner


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
def test_a_taker_that_ends_at_its_work_is_followed_at_once(is_killed: bool) -> None:
    """As by a restart that follows a reload."""

    async def work() -> None:
        store = Stuck()
        await dead(store)
        store.stuck = True
        taker = await open_queue(store)
        await asyncio.sleep(15)
        assert len(await store.list_after(LEASES)) == 16
        if is_killed:
            crash(taker)
        else:
            await taker.close()
        store.stuck = False
        follower = await open_queue(store)
        await until(lambda: len(follower.live) == COUNT, PATIENCE)
        await follower.close()

    run(work())


def test_a_taker_that_works_is_not_disturbed() -> None:
    async def work() -> None:
        store = Stuck()
        await dead(store)
        store.stuck = True
        taker = await open_queue(store)
        await asyncio.sleep(15)
        other = await open_queue(store)
        await asyncio.sleep(PATIENCE)
        assert len(await store.list_after(LEASES)) == 16
        crash(taker)
        crash(other)

    run(work())


def test_a_stream_of_a_newer_version_is_not_claimed_for_long() -> None:
    """A newer node takes it at once."""

    async def work() -> None:
        store = MemoryStore()
        owner = await dead(store)
        key = log_key(owner.stream, 0)
        entry = bytearray(await store.get(key))
        old = bytes(entry)
        entry[4] = 2
        entry[60:64] = crc32(bytes(entry[:60])).to_bytes(4, "little")
        await store.put(key, bytes(entry))
        told: list[str] = []
        older = await open_queue(store, report=lambda event, fields: told.append(f"{event} {fields}"))
        await until(lambda: bool(told), PATIENCE)
        assert f"{key}: a log entry of version 2" in told[0]
        await asyncio.sleep(1)
        assert await store.list_after(LEASES) == []
        with pytest.raises(FormatError, match=f"{key}: a log entry of version 2"):
            await Inspection.open(store)
        await older.close()
        await store.put(key, old)  # as the newer node reads it
        newer = await open_queue(store)
        await until(lambda: len(newer.live) == COUNT, PATIENCE)
        await newer.close()

    run(work())
