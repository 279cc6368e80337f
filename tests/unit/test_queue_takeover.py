"""Takeover, one decision at a time; `tests/simulation` does the same with everything at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest

from mailqueue.batch import Haste
from mailqueue.heartbeat import read_beat
from mailqueue.ids import PARTS, id_octets, part_of
from mailqueue.inspect import Inspection, list_streams
from mailqueue.keys import lease_key, log_key, retired_key
from mailqueue.model import Change, Status
from mailqueue.process import ProcessIdentity, start_ticks
from mailqueue.queue import MailQueue
from mailqueue.reader import read_retired
from mailqueue.records import Adopt, encode_record
from mailqueue.rows import encode_rows
from mailqueue.seal import Seal, encode_seal
from mailqueue.store.base import Blob, StoreUnavailable
from mailqueue.store.memory import MemoryStore
from mailqueue.store.replicated import Member, Replicated
from mailqueue.takeover import LeftBehind
from tests.peers.faultstore import FaultStore
from tests.simulation.loop import run
from tests.simulation.queues import LoopClock, crash, message, open_queue, settings, until

DONE = Change(0, Status.DELIVERED, attempted=1.0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def dead_stream(store: MemoryStore, count: int, **changes: Any) -> tuple[str, list[str]]:
    """A stream of a process that has just died, with messages."""
    queue = await open_queue(store, **changes)
    ids = list(await asyncio.gather(*(queue.enqueue(message(b"%d" % n)) for n in range(count))))
    crash(queue)
    return queue.stream, ids


def held(queue: MailQueue, patch: pytest.MonkeyPatch) -> asyncio.Event:
    """Keep a queue from adopting what it has claimed until this is set."""
    goes_on, adopt = asyncio.Event(), queue._watcher._adopt

    async def wait(*arguments: Any) -> int:
        await goes_on.wait()
        return await adopt(*arguments)

    patch.setattr(queue._watcher, "_adopt", wait)
    return goes_on


def live_ids(*queues: MailQueue) -> list[str]:
    return sorted(queue.live.id_of(handle) for queue in queues for handle in queue.live.handles())


async def parts_of(store: MemoryStore, dead: str, *queues: MailQueue) -> list[int]:
    """How many parts of a dead stream each has taken over."""
    takers = Counter([await read_retired(store, retired_key(dead, part)) for part in range(PARTS)])
    assert set(takers) <= {queue.stream for queue in queues}
    return [takers[queue.stream] for queue in queues]


def test_survivors_share_what_the_dead_left() -> None:
    async def work() -> None:
        store = MemoryStore()
        survivors = [await open_queue(store, node=f"n{n}") for n in range(3)]
        await asyncio.sleep(3)
        dead, ids = await dead_stream(store, 400)
        await until(lambda: sum(len(queue.live) for queue in survivors) == 400)
        assert live_ids(*survivors) == sorted(ids)
        # Whichever of them looks first, or twice before another has looked once.
        assert sorted(await parts_of(store, dead, *survivors)) == [4, 6, 6]
        for queue in survivors:
            for id in live_ids(queue)[:1]:
                await queue.settle(id, [DONE], urgent=True)
            await queue.close()

    run(work())


@pytest.mark.parametrize("starts", [2, 1])
def test_processes_that_start_together_share_what_they_find(starts: int) -> None:
    """After a stop or a crash of all: the first sees nobody else, and would work on all of it alone."""

    async def work() -> None:
        store = MemoryStore()
        for number in range(2):
            old = await open_queue(store, node=f"old{number}")
            await asyncio.gather(*(old.enqueue(message(b"%d" % n)) for n in range(100)))
            await old.close()
            dead = old.stream
        began, queues = now(), []
        for number in range(starts):
            queues.append(await open_queue(store, node=f"n{number}", processes=2))
            await asyncio.sleep(1)
        await until(lambda: sum(len(queue.live) for queue in queues) == 200, 60)
        assert await parts_of(store, dead, *queues) == [PARTS // starts] * starts
        # Who comes alone has it later: by then it is clear that nobody else does.
        assert now() - began < 15
        for queue in queues:
            await queue.close()

    run(work())


def test_nobody_waits_for_others_while_there_is_more_to_take() -> None:
    """As after a reload: several streams end at once, and who has his share of one goes on with the next."""

    async def work() -> None:
        store = MemoryStore()
        old = [await open_queue(store, node=f"old{n}") for n in range(4)]
        new = [await open_queue(store, node=f"new{n}") for n in range(4)]
        await asyncio.sleep(3)
        for queue in old:
            for n in range(50):
                await queue.enqueue(message(b"%d" % n))
        for queue in old:
            await queue.close()
        await until(lambda: sum(len(queue.live) for queue in new) == 200, 6)
        for queue in new:
            await queue.close()

    run(work())


def test_what_is_left_behind_is_told_until_somebody_has_it() -> None:
    async def work() -> None:
        store = MemoryStore()
        watching = await open_queue(store, node="w")
        empty, living = await open_queue(store), await open_queue(store)
        await living.enqueue(message())
        await empty.close()
        assert await watching.left_behind() == []
        owner = await open_queue(store)
        for n in range(32):
            await owner.enqueue(message(b"%d" % n))
        await owner.close()
        assert await watching.left_behind() == [LeftBehind(owner.stream, 32, failing=False)]
        await living.close()
        took = await open_queue(store)
        await until(lambda: len(took.live) + len(watching.live) == 33, 20)
        assert await watching.left_behind() == []
        assert not took.is_adopting
        await took.close()
        await watching.close()

    run(work())


def test_what_cannot_be_taken_over_is_told_as_such() -> None:
    async def work() -> None:
        store = MemoryStore()
        stream, _ = await dead_stream(store, 3)
        head = bytearray(store._objects[log_key(stream, 0)])
        head[4:6] = (99).to_bytes(2, "little")  # a version of which nothing is known
        head[60:64] = crc32(bytes(head[:60])).to_bytes(4, "little")
        store._objects[log_key(stream, 0)] = bytes(head)
        queue = await open_queue(store)
        await asyncio.sleep(20)
        assert [(one.stream, one.failing) for one in await queue.left_behind()] == [(stream, True)]
        await queue.close()

    run(work())


def test_a_takeover_that_lasts_is_none_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """One has its share, finds nothing left to claim, and waits for another that adopts slowly."""

    async def work() -> None:
        store = MemoryStore()
        first, slow = await open_queue(store, node="a"), await open_queue(store, node="b")
        look = slow._watcher.look
        monkeypatch.setattr(slow._watcher, "look", asyncio.Event().wait)
        slow._watcher._listed = float("-inf")
        goes_on = held(slow, monkeypatch)
        owner = await open_queue(store)
        await asyncio.sleep(3)
        for n in range(64):
            await owner.enqueue(message(b"%d" % n))
        await owner.close()
        await until(lambda: len(first.live) > 0)
        second = asyncio.create_task(look())
        for _ in range(20):
            assert await first.left_behind() == [LeftBehind(owner.stream, 32, failing=False)]
            await asyncio.sleep(1)
        goes_on.set()
        await second
        assert len(first.live) + len(slow.live) == 64
        assert await first.left_behind() == []
        await first.close()
        await slow.close()

    run(work())


def test_what_failed_is_told_as_such_until_another_takes_it_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        store = MemoryStore()
        failing, slow = await open_queue(store, node="a"), await open_queue(store, node="b", takeover=30)
        goes_on = held(slow, monkeypatch)

        async def refuse(*_: object) -> Any:
            raise StoreUnavailable("memory", "not now")

        async def late(*_: object) -> list[int]:
            return []

        async def told(seconds: int) -> list[list[bool]]:
            every = []
            for _ in range(seconds):
                await asyncio.sleep(1)
                every.append([one.failing for one in await failing.left_behind()])
            return every

        monkeypatch.setattr(failing._watcher, "_decide", refuse)
        await asyncio.sleep(3)
        await dead_stream(store, 64)
        await asyncio.sleep(25)
        # Its claims keep others away for a minute, in which it finds nothing to claim itself.
        assert await told(35) == [[True]] * 35
        monkeypatch.setattr(failing._watcher._leases, "claim", late)
        await asyncio.sleep(40)
        assert await told(10) == [[False]] * 10
        goes_on.set()
        await failing.close()
        await slow.close()

    run(work())


@pytest.mark.parametrize(
    "key",
    [
        "stream/README",
        "stream/old/x",
        "retired/x",
        "retired/x/y",
        "lease/x",
        "lease/x/y/z",
        "hb/x",
        "log/x/y",
    ],
)
def test_what_somebody_has_put_there_holds_nobody_up(key: str) -> None:
    async def work() -> None:
        store = MemoryStore()
        await store.put_new(key, b"")
        survivor = await open_queue(store)
        dead, ids = await dead_stream(store, 3)
        await until(lambda: len(survivor.live) == 3)
        await asyncio.sleep(60)
        assert not any(task.done() for task in survivor._tasks)
        assert {info.name for info in await list_streams(store)} == {dead, survivor.stream}
        inspection = await Inspection.open(store)
        assert sorted(inspection._readers) == [survivor.stream]
        assert len(inspection) == len(ids)
        await survivor.close()

    run(work())


def test_the_share_of_a_survivor_that_takes_nothing_goes_to_the_others() -> None:
    async def work() -> None:
        store = MemoryStore()
        takers = [await open_queue(store, node=f"n{n}") for n in range(2)]
        idle = [await open_queue(store, node=f"n{n}", takeover=1e9) for n in range(2, 5)]
        await asyncio.sleep(3)
        dead, ids = await dead_stream(store, 400)
        await until(lambda: sum(len(queue.live) for queue in takers) == 400, 40)
        assert live_ids(*takers) == sorted(ids)
        assert min(await parts_of(store, dead, *takers)) >= 4, "their own shares at least"
        for queue in (*takers, *idle):
            await queue.close()

    run(work())


def test_a_living_stream_is_left_alone() -> None:
    async def work() -> None:
        store = MemoryStore()
        first, second = await open_queue(store), await open_queue(store)
        id = await first.enqueue(message())
        await asyncio.sleep(120)
        assert live_ids(first) == [id]
        assert len(second.live) == 0
        assert not first.fenced
        assert await store.list_after("lease/") == []
        await first.close()
        await second.close()

    run(work())


@pytest.mark.parametrize(
    ("change", "waits"),
    [
        ({}, True),
        ({"ticks": 1}, False),
        ({"pid": 4_000_000}, False),
        ({"namespace": "pid:[other]", "pid": 4_000_000}, True),
        ({"boot": "another"}, False),
        ({"boot": "another", "machine": "another"}, True),
        ({"node": "other", "pid": 4_000_000}, True),
    ],
    ids=["lives", "number used again", "gone", "another container", "restarted", "cloned", "another node"],
)
def test_only_a_process_that_is_provably_gone_needs_no_waiting(change: dict[str, Any], waits: bool) -> None:
    async def work() -> None:
        store = MemoryStore()
        me = ProcessIdentity.current()._replace(machine="m")
        node = change.get("node", "n")
        identity = me._replace(**{key: value for key, value in change.items() if key != "node"})
        await dead_stream(store, 1, identity=identity, node=node)
        began = now()
        queue = await open_queue(store, identity=me, node="n")
        await until(lambda: len(queue.live) == 1)
        assert (now() - began > 9) == waits
        await queue.close()

    run(work())


def test_two_machines_from_one_image_do_not_take_each_other_for_dead() -> None:
    """They have one machine id and, with the same configuration, one name."""

    async def work() -> None:
        store = MemoryStore()
        me = ProcessIdentity.current()._replace(machine="m")
        queues = [
            await open_queue(store, identity=me._replace(boot=boot), node="n", takeover=10.0, deliver_for=6.0)
            for boot in ("one", "other")
        ]
        ids = [await queue.enqueue(message()) for queue in queues]
        await asyncio.sleep(300)
        assert [live_ids(queue) for queue in queues] == [[id] for id in ids]
        assert not any(queue.fenced for queue in queues)
        for queue in queues:
            await queue.close()

    run(work())


def test_this_process_lives() -> None:
    me = ProcessIdentity.current()
    assert me.ticks > 0
    assert start_ticks(me.pid) == me.ticks
    assert not me.is_gone(me)


class Slept(MemoryStore):
    """The first seal attempt finds the owner awake again."""

    before_seal: Callable[[], Any] | None = None

    async def seal_new(self, key: str, seal: bytes) -> Any:
        if self.before_seal is not None:
            call, self.before_seal = self.before_seal, None
            await call()
        return await super().seal_new(key, seal)


def test_an_entry_that_lands_before_the_seal_counts() -> None:
    async def work() -> None:
        store = Slept()
        stream, ids = await dead_stream(store, 3)
        late = await open_queue(MemoryStore())
        await late.enqueue(message(b"late"))
        # An entry that was under way when its owner died, now at the number that the taker wants to seal.
        other = MemoryStore()
        twin = await MailQueue.open(other, settings(), LoopClock(), random=lambda count: bytes(count))
        del twin
        octets = store._objects[log_key(stream, 0)]
        data = bytearray(octets)
        data[24:32] = (1).to_bytes(8, "little")
        data[60:64] = crc32(bytes(data[:60])).to_bytes(4, "little")

        async def land() -> None:
            await store.put_new(log_key(stream, 1), bytes(data))

        store.before_seal = land
        queue = await open_queue(store)
        await until(lambda: len(queue.live) == 3)
        assert live_ids(queue) == sorted(ids)
        assert log_key(stream, 2) in store._objects
        for handle in queue.live.handles():
            assert queue._index.location(handle).number == 1, "the later ENQ of an id counts"
        await queue.close()
        await late.close()

    run(work())


async def half_adopted(
    store: MemoryStore, chunks: int, of: int, *, sealed: bool = True
) -> tuple[str, str, list[str]]:
    """A stream with messages of one part, and the stream of a taker that died while it adopted them."""
    owner = await open_queue(store)
    ids: list[str] = []
    while len(ids) < of:
        id = owner.new_id()
        if part_of(id_octets(id)) == 5:
            ids.append(await owner.enqueue(message(id=id)))
    taker = await open_queue(store)
    for task in (*owner._tasks, *taker._tasks):
        task.cancel()
    await asyncio.sleep(0)
    if sealed:
        number = owner._log.committed + 1
        seal = Seal(1, owner._index.own, number, taker._index.own, 0.0, b"")
        await store.seal_new(log_key(owner.stream, number), encode_seal(seal))
    slots = list(owner._index.slots())
    for chunk in range(chunks):
        rows = encode_rows(owner._index, slots[chunk : chunk + 1])
        record = Adopt(owner._index.own, 5, chunk, chunk == of - 1, rows)
        taker._log.append(encode_record(record), haste=Haste.NOW)
    await taker._log.barrier()
    crash(owner)
    crash(taker)
    return owner.stream, taker.stream, ids


@pytest.mark.parametrize(
    ("chunks", "retired", "by_taker"),
    [
        (3, None, None),
        (3, "taker", True),
        (3, "another", False),
        (2, None, False),
        (2, "taker", True),
        (0, None, False),
    ],
    ids=["complete", "decided", "lost", "incomplete", "damaged", "not begun"],
)
def test_what_a_dead_taker_had_begun(chunks: int, retired: str | None, by_taker: bool | None) -> None:
    async def work() -> None:
        store = MemoryStore()
        stream, taker, ids = await half_adopted(store, chunks, 3)
        other = None
        if retired == "taker":
            await store.put_new(retired_key(stream, 5), taker.encode())
        elif retired == "another":
            other = await open_queue(store, takeover=1e9)
            await store.put_new(retired_key(stream, 5), other.stream.encode())
        queue = await open_queue(store)
        if other is None:
            # Of what the taker won, damage may have taken a part.
            wanted = ids[:chunks] if retired else ids
            await until(lambda: len(queue.live) == len(wanted))
            assert live_ids(queue) == sorted(wanted)
        await asyncio.sleep(30)
        winner = (await store.get(retired_key(stream, 5))).decode()
        # When it is complete and nobody has decided, either way is right.
        assert by_taker is None or (winner == taker) == by_taker
        if other is not None:
            assert winner == other.stream
            assert len(queue.live) == 0, "they are another's"
            crash(other)
        for info in await list_streams(store):
            if info.name in (stream, taker):
                assert info.is_retired
        await queue.close()

    run(work())


def test_a_claim_that_comes_to_nothing_is_overtaken() -> None:
    async def work() -> None:
        store = MemoryStore()
        stream, ids = await dead_stream(store, 200)
        for part in range(0, 16, 2):
            await store.put_new(lease_key(stream, part, 1), b"somebody who died")
        began = now()
        queue = await open_queue(store)
        await until(lambda: 60 < len(queue.live) < 140)
        assert now() - began < 15
        await until(lambda: len(queue.live) == 200, 120)
        assert 60 < now() - began < 90
        assert live_ids(queue) == sorted(ids)
        await queue.close()

    run(work())


def test_two_takers_of_one_part_agree_who_has_it() -> None:
    async def work() -> None:
        store = MemoryStore()
        # Leases that hold nobody back: all takers adopt everything at once.
        takers = [await open_queue(store, lease=0.0, node=f"n{n}") for n in range(4)]
        await asyncio.sleep(2)
        _, ids = await dead_stream(store, 100)
        await until(lambda: sum(len(queue.live) for queue in takers) >= 100)
        await asyncio.sleep(30)
        assert live_ids(*takers) == sorted(ids)
        for queue in takers:
            await queue.close()

    run(work())


def test_an_interrupted_adoption_is_not_hidden_by_a_snapshot() -> None:
    async def work() -> None:
        class Stuck(MemoryStore):
            stuck = False

            async def put_new(self, key: str, data: bytes | Blob) -> bool:
                if self.stuck and key.startswith("retired/"):
                    # It takes effect, and the answer never comes.
                    await super().put_new(key, data)
                    await asyncio.sleep(1e6)
                return await super().put_new(key, data)

        store = Stuck()
        _, ids = await dead_stream(store, 50)
        store.stuck = True
        first = await open_queue(store)
        await asyncio.sleep(20)
        assert len(first.live) == 0
        assert await store.list_after("retired/") != []
        await first.close()
        store.stuck = False
        second = await open_queue(store)
        await until(lambda: len(second.live) == 50)
        assert live_ids(second) == sorted(ids)
        await second.close()

    run(work())


def test_messages_go_from_hand_to_hand_with_their_octets() -> None:
    async def work() -> None:
        store = MemoryStore()
        stream, ids = await dead_stream(store, 30)
        seen: Counter[str] = Counter()
        for life in range(4):
            queue = await open_queue(store, cache_max=0)
            await until(lambda: len(queue.live) == 30)  # noqa: B023
            for id in ids:
                found = await queue.load(id)
                seen[b"".join((await found.body.fetch()).chunks()).decode()] += 1
            if life % 2:
                crash(queue)
            else:
                await queue.close()
        assert seen == Counter({str(n): 4 for n in range(30)})
        assert log_key(stream, 0) in store._objects, "the payloads are still where they were written"
        assert len(await Inspection.open(store)) == 30

    run(work())


def test_heartbeats_say_who_lives_and_how_far_it_is() -> None:
    async def work() -> None:
        store = MemoryStore()
        queue = await open_queue(store)
        await queue.enqueue(message())
        await asyncio.sleep(5)
        _, beat = await read_beat(store, queue.stream)
        assert beat is not None
        assert (beat.committed, beat.closed, beat.messages) == (0, False, 1)
        await queue.close()
        _, beat = await read_beat(store, queue.stream)
        assert beat is not None
        assert beat.closed

    run(work())


def test_a_seal_that_is_on_too_few_stores_is_completed() -> None:
    async def work() -> None:
        stores = [MemoryStore(f"memory:{n}") for n in range(3)]
        store = Replicated([Member(one) for one in stores], 2, 0)
        owner = await open_queue(store)
        await owner.enqueue(message())
        await asyncio.sleep(1)
        crash(owner)
        # A taker died when it had sealed one store of the two that it takes.
        seal = Seal(1, owner._index.own, 1, bytes(16), 0.0, b"n")
        await stores[0].seal_new(log_key(owner.stream, 1), encode_seal(seal))
        queue = await open_queue(store)
        await until(lambda: len(queue.live) == 1)
        sealed = [one for one in stores if log_key(owner.stream, 1) in one._objects]
        assert len(sealed) >= 2
        await queue.close()
        await store.close()

    run(work())


def test_what_a_store_missed_when_its_owner_died_is_copied_by_the_taker() -> None:
    """Of three stores one is away, and its owner dies before it is back: soon all have all again, but for
    what was deleted meanwhile."""

    async def work() -> None:
        stores = [MemoryStore(f"memory:{n}") for n in range(3)]
        away = FaultStore(stores[2])
        store = Replicated([Member(stores[0]), Member(stores[1]), Member(away)], 2, 0)
        owner = await open_queue(store)
        gone = await owner.enqueue(message())
        away.down = True
        ids = [await owner.enqueue(message(b"%d" % number)) for number in range(5)]
        ids.append(await owner.enqueue(message(b"large" * 100_000)))
        await owner.settle(gone, [DONE], urgent=True)
        await store._catch_up.close()  # the process dies
        crash(owner)
        again = Replicated([Member(stores[0]), Member(stores[1]), Member(away)], 2, 0)
        taker = await open_queue(again, compact_after=1e6)
        await until(lambda: len(taker.live) == 6)
        await asyncio.sleep(60)
        away.down = False
        await asyncio.sleep(400)
        needed = {log_key(owner.stream, taker._index.location(h).number) for h in taker.live.handles()}
        needed.update(await again.list_after("body/"))
        assert len(needed) == 7
        for one in stores:
            assert needed <= set(one._objects)
        assert log_key(owner.stream, 7) not in stores[2]._objects, "the DONE is nobody's business any more"
        for one in stores[:2]:
            one._objects = {k: v for k, v in one._objects.items() if not k.startswith(("log/", "body/"))}
        assert {await body_of(taker, id) for id in ids} == {
            *(b"%d" % number for number in range(5)),
            b"large" * 100_000,
        }
        crash(taker)

    run(work())


async def body_of(queue: MailQueue, id: str) -> bytes:
    found = await queue.load(id)
    return b"".join((await found.body.fetch()).chunks())
