"""Entries of a log that were there and are not any more: no more gets lost than what was in them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mailqueue.fsck import fsck
from mailqueue.keys import LOGS, collected_key, log_key, number_of, snapshot_prefix, stream_key
from mailqueue.model import CorruptMessage
from mailqueue.queue import MailQueue
from mailqueue.reader import StreamReader, read_end
from mailqueue.store.base import Blob, MissingKey, StoreUnavailable
from mailqueue.store.memory import MemoryStore
from tests.simulation.loop import run
from tests.simulation.queues import crash, message, open_queue, until

COUNT = 12


async def abandoned(store: MemoryStore, heartbeat: float = 1e6) -> tuple[str, list[str]]:
    """A stream with so many entries, each with one message, whose owner has died."""
    owner = await open_queue(store, heartbeat=heartbeat, snapshot_every=1e6)
    ids = [await owner.enqueue(message()) for _ in range(COUNT)]
    await asyncio.sleep(2 * min(heartbeat, 10.0))
    crash(owner)
    assert len(await store.list_after(LOGS)) == COUNT
    return owner.stream, ids


def live_ids(queue: MailQueue) -> set[str]:
    return {queue.live.id_of(handle) for handle in queue.live.handles()}


@pytest.mark.parametrize("lost", [(0,), (3,), (3, 4, 6), (COUNT - 6,)], ids=str)
def test_what_stands_behind_a_lost_entry_is_taken_over(lost: tuple[int, ...]) -> None:
    async def work() -> None:
        store = MemoryStore()
        stream, ids = await abandoned(store)
        await store.delete([log_key(stream, number) for number in lost])
        told: list[Any] = []
        taker = await open_queue(store, report=lambda event, fields: told.append((event, fields)))
        rest = {id for number, id in enumerate(ids) if number not in lost}
        await until(lambda: live_ids(taker) == rest)
        assert await read_end(store, stream) == COUNT
        problems = [fields["problem"] for event, fields in told if event == "corrupt"]
        assert [problem for problem in problems if "is missing" in problem] == problems
        assert sorted(problem.partition(":")[0] for problem in problems) == [
            log_key(stream, number) for number in lost
        ]
        crash(taker)

    run(work())


@pytest.mark.parametrize("lost", [(COUNT - 1,), (COUNT - 3, COUNT - 2)], ids=str)
def test_the_heartbeat_knows_of_the_last_entries(lost: tuple[int, ...]) -> None:
    """The seal has to be where the owner would write next, if it were alive."""

    async def work() -> None:
        store = MemoryStore()
        stream, ids = await abandoned(store, heartbeat=2.0)
        await store.delete([log_key(stream, number) for number in lost])
        taker = await open_queue(store)
        await until(lambda: len(live_ids(taker)) == len(ids) - len(lost))
        assert await read_end(store, stream) == COUNT
        crash(taker)

    run(work())


def test_what_may_never_have_been_committed_ends_the_log() -> None:
    """An entry that is not there, with others behind it that were under way at the same time."""

    async def work() -> None:
        store = MemoryStore()
        stream, ids = await abandoned(store)
        await store.delete([log_key(stream, COUNT - 4)])
        taker = await open_queue(store)
        await until(lambda: live_ids(taker) == set(ids[: COUNT - 4]))
        assert await read_end(store, stream) == COUNT - 4
        crash(taker)

    run(work())


def test_a_heartbeat_is_not_believed_without_end() -> None:
    """It has no check sum."""

    async def work() -> None:
        store = MemoryStore()
        stream, ids = await abandoned(store, heartbeat=2.0)
        octets = store._objects[f"hb/{stream}"]
        assert octets[2] == COUNT - 1
        store._objects[f"hb/{stream}"] = octets[:2] + b"\xcf" + b"\x7f" * 8 + octets[3:]
        reader = StreamReader(store, stream, keep_corrupt=False)
        await reader.load()
        assert reader.replay.index.messages == len(ids)
        assert reader.next < COUNT + 1001

    run(work())


def test_fsck_says_that_messages_are_lost() -> None:
    async def work() -> None:
        store = MemoryStore()
        stream, ids = await abandoned(store)
        assert (await fsck(store)).is_sound
        key = log_key(stream, 5)
        await store.delete([key])
        report = await fsck(store)
        assert [(found.key, found.lost) for found in report.findings] == [(key, True)]
        assert "is missing" in report.findings[0].problem
        assert report.messages == len(ids) - 1

    run(work())


def test_fsck_finds_a_log_that_nobody_will_look_for() -> None:
    async def work() -> None:
        store = MemoryStore()
        stream, ids = await abandoned(store)
        await store.delete([stream_key(stream)])
        report = await fsck(store)
        assert [(found.key, found.lost) for found in report.findings] == [(stream_key(stream), True)]
        await store.put_new(stream_key(stream), b"")  # as the documentation says
        report = await fsck(store)
        assert (report.findings, report.messages) == ([], len(ids))

    run(work())


def test_fsck_is_silent_about_a_seal_that_is_kept() -> None:
    async def work() -> None:
        store = MemoryStore()
        stream, ids = await abandoned(store)
        taker = await open_queue(store)
        await until(lambda: len(live_ids(taker)) == len(ids))
        await taker.close()
        await store.put_new(collected_key(stream), b"1")
        await store.delete([stream_key(stream)])
        assert (await fsck(store)).is_sound

    run(work())


@pytest.mark.parametrize("damage", [b"", b"MQLG", None], ids=["empty", "short", "last octet"])
def test_fsck_says_that_a_damaged_entry_may_have_had_messages(damage: bytes | None) -> None:
    """What nothing else tells of; unless a snapshot has them."""

    async def work() -> None:
        store = MemoryStore()
        stream, _ = await abandoned(store)
        key = log_key(stream, 5)
        store._objects[key] = store._objects[key][:-1] if damage is None else damage
        report = await fsck(store)
        assert {found.key for found in report.findings} == {key, stream} if damage is None else {key}
        assert any(found.lost for found in report.findings)

    run(work())


def test_mail_that_comes_after_the_store_was_emptied_is_not_lost() -> None:
    """A bucket is deleted and made again, or somebody has emptied it, while its server runs."""

    async def work() -> None:
        store = MemoryStore()
        told: list[str] = []
        large = b"x" * 300_000
        owner = await open_queue(store, report=lambda event, fields: told.append(event))
        first = await owner.enqueue(message(large))
        await asyncio.sleep(70)  # with a snapshot
        await store.delete(list(store._objects))
        second = await owner.enqueue(message())
        await until(lambda: "the store was emptied" in told, 30)
        await asyncio.sleep(2)
        third = await owner.enqueue(message(large))
        crash(owner)
        taker = await open_queue(store)
        await until(lambda: live_ids(taker) == {first, second, third})
        assert (await taker.load(second)).sender == "a@sender.test"
        assert (await (await taker.load(third)).body.fetch()).size == len(large)
        with pytest.raises(CorruptMessage):
            await taker.load(first)
        assert told.count("the store was emptied") == 1
        crash(taker)

    run(work())


def test_a_store_that_was_emptied_and_takes_nothing_is_told_once() -> None:
    """A folder whose folders were removed; after it takes mail again another time is news."""

    async def work() -> None:
        store = Stubborn()
        told: list[str] = []
        owner = await open_queue(store, report=lambda event, fields: told.append(event))
        await owner.enqueue(message())
        for times in (1, 2):
            store.is_closed = True
            await store.delete(list(store._objects))
            await asyncio.sleep(120)
            assert told.count("the store was emptied") == times
            assert "housekeeping" in told
            store.is_closed = False
            await asyncio.sleep(60)
            assert stream_key(owner.stream) in store._objects
        assert told.count("the store was emptied") == 2
        crash(owner)

    run(work())


class Stubborn(MemoryStore):
    """Takes no new objects while it is closed."""

    is_closed = False

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        if self.is_closed:
            raise StoreUnavailable(self.name, f"writing {key}: No such file or directory")
        return await super().put_new(key, data)


def test_a_listing_that_comes_late_is_no_loss() -> None:
    async def work() -> None:
        store = Forgetful()
        told: list[str] = []
        owner = await open_queue(store, report=lambda event, fields: told.append(event))
        await owner.enqueue(message())
        await asyncio.sleep(120)
        assert told == []
        crash(owner)

    run(work())


class Forgetful(MemoryStore):
    """Lists no stream."""

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        return [] if prefix == "stream/" else await super().list_after(prefix, after, limit)


class Late(MemoryStore):
    """Shows only the oldest snapshot when it is asked for all of them."""

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        found = await super().list_after(prefix, after, limit)
        return found[:1] if prefix.startswith("snap/") and not after else found


def test_what_its_owner_deletes_meanwhile_is_not_missing() -> None:
    async def work() -> None:
        store = Late()
        owner = await open_queue(store, heartbeat=1.0, snapshot_every=1e6)
        for _ in range(3):
            await owner.enqueue(message())
            await asyncio.sleep(2)
            await owner._keeper.snapshot()
        keys = await MemoryStore.list_after(store, snapshot_prefix(owner.stream))
        assert len(keys) == 2
        await store.delete([log_key(owner.stream, number_of(keys[0]) + 1)])
        with pytest.raises(MissingKey, match="being deleted"):
            await StreamReader(store, owner.stream, keep_corrupt=False).load()
        crash(owner)

    run(work())
