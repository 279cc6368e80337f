"""The queue's runner when the store fails, entries are damaged, nodes take over, and handles come again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mailqueue.model import Change, QueuedMessage, QueueError, Status, UnknownMessage
from mailqueue.schedule import Limits
from mailqueue.store.memory import MemoryStore
from mta.smtp.mailing import NOT_WANTED
from tests.peers.faultstore import Fault, FaultStore, Kind
from tests.simulation.queues import until
from tests.unit.spool_kit import LATER, OK, Work, played, received


def test_a_message_that_is_damaged_goes_on_hold_and_the_rest_flows() -> None:
    async def main(work: Work) -> None:
        bad = await work.add("bad@back.test", due=work.now() + 30)
        good = [await work.add(f"good{number}@back.test", due=work.now() + 30) for number in range(5)]
        store = work.store
        assert isinstance(store, MemoryStore)
        place = work.queue._index.location(work.queue._index.find(work.queue._index.id_of(0)))
        assert work.queue.live.id_of(0) == bad
        key = next(
            key for key in store._keys if key.startswith("log/") and key.endswith(f"{place.number:016d}")
        )
        octets = bytearray(store._objects[key])
        octets[place.offset + place.length // 2] ^= 4
        store._objects[key] = bytes(octets)
        await asyncio.sleep(60)
        assert work.journal.unreadables == [bad]
        assert work.states(bad) == [Status.HELD]
        assert len(received(work.hops["back"])) == len(good)
        await asyncio.sleep(10_000)
        assert work.journal.unreadables == [bad], "it is looked at once"
        assert await work.acts.act("delete", bad)

    played(main, Work(cache_max=0))


@pytest.mark.parametrize("what", ["record", "recipient", "sender"])
def test_what_we_cannot_read_of_an_envelope_goes_on_hold(what: str) -> None:
    async def main(work: Work) -> None:
        new = work.message("bob@back.test")
        if what == "record":
            new.envelope = b"\xff"
        elif what == "recipient":
            new.recipients[0].data = b"\xff"
        else:
            new.sender = "no address"
        name = await work.queue.enqueue(new)
        work.runner.added(name)
        await asyncio.sleep(5)
        assert work.journal.unreadables == [name]
        assert work.states(name) == [Status.HELD]
        assert work.hops["back"].seen == []

    played(main)


class NoEntries:
    """Entries of the log cannot be read."""

    def next(self, call: str, key: str) -> Fault:
        return Fault(Kind.BEFORE if call == "get" and key.startswith("log/") else Kind.NONE)


def test_a_store_that_does_not_answer_during_a_try() -> None:
    """The try counts as not made; when the store is back it is."""
    under = FaultStore(MemoryStore())

    async def main(work: Work) -> None:
        name = await work.add("bob@back.test", due=work.now() + 10)
        under.faults = NoEntries()
        await asyncio.sleep(60)
        assert work.hops["back"].seen == []
        assert work.states(name) == [Status.QUEUED]
        assert work.queue.live.recipients(work.queue.live.handle_of(name))[0].attempts == 0
        assert len(work.journal.not_tries) > 5
        assert {told for told, _ in work.journal.not_tries} == {name}
        under.faults = None
        await work.idle(10)
        assert received(work.hops["back"]) == ["bob@back.test"]

    played(main, Work(under, cache_max=0))


def test_a_message_that_finds_no_room_for_its_temporary_file_is_spoken_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at every few seconds, and nothing else tells why it is not tried."""
    folder = tmp_path / "spill"

    async def main(work: Work) -> None:
        name = await work.queue.enqueue(work.message("bob@back.test", body=b"x" * 300_000))
        work.runner.added(name)
        await asyncio.sleep(30)
        assert work.hops["back"].seen == []
        assert set(work.journal.not_tries) == {
            (name, f"temporary file in {folder}: No such file or directory")
        }
        folder.mkdir()
        await work.idle(10)
        assert received(work.hops["back"]) == ["bob@back.test"]

    played(main, Work(spill_dir=str(folder)))


class NoRoomForNotes:
    """Entries of the log find the disk full; what replaces files, as heartbeats do, goes on."""

    def next(self, call: str, key: str) -> Fault:
        return Fault(Kind.FULL if call == "put_new" and key.startswith("log/") else Kind.NONE)


def test_no_more_is_delivered_than_may_come_twice_while_nothing_can_be_noted() -> None:
    under = FaultStore(MemoryStore())

    async def main(work: Work) -> None:
        for number in range(200):
            await work.add(f"u{number}@back.test", due=work.now() + 60 + number / 10)
        under.faults = NoRoomForNotes()
        await asyncio.sleep(150)
        assert 0 < len(received(work.hops["back"])) < 60
        under.faults = None
        await work.idle(120)
        assert sorted(received(work.hops["back"])) == sorted(f"u{number}@back.test" for number in range(200))

    played(main, Work(under))


def test_nothing_is_sent_while_others_may_take_us_for_dead() -> None:
    """The store is out of reach, so our heartbeat stands still: tries begin again when it beats."""
    under = FaultStore(MemoryStore())

    async def main(work: Work) -> None:
        for number in range(5):
            await work.add(f"u{number}@back.test", due=work.now() + 20)
        under.down = True
        await asyncio.sleep(60)
        assert work.hops["back"].seen == []
        under.down = False
        await work.idle(20)
        assert len(received(work.hops["back"])) == 5

    played(main, Work(under))


def test_a_try_that_our_own_doubt_has_ended_is_no_try() -> None:
    """It is made again soon, not counted, and not the reason of a bounce."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        fresh = work.queue.may_deliver
        doubt = False

        async def lose_heart() -> None:
            nonlocal doubt
            doubt = len(back.seen) == 1

        back.during = lose_heart
        back.answer = lambda address, call: NOT_WANTED if call == 0 else OK
        work.queue.may_deliver = lambda: not doubt and fresh()  # type: ignore[method-assign]
        name = await work.add("bob@back.test")
        await asyncio.sleep(3)
        assert work.states(name) == [Status.QUEUED]
        assert work.queue.live.recipients(work.queue.live.handle_of(name))[0].attempts == 0
        doubt = False
        await work.idle(10)
        assert len(back.seen) == 2
        assert work.journal.reports == []

    played(main)


def test_another_node_goes_on_where_we_were() -> None:
    """Recipients that are done stay done; the schedule of the others goes on."""
    store = MemoryStore()

    async def main(first: Work) -> None:
        first.hops["back"].answer = lambda address, call: OK if address.startswith("done") else LATER
        await first.add("done@back.test", "later@back.test")
        await asyncio.sleep(2)
        await first.runner.stop(0.0)
        await first.queue.close()
        second = Work(store)
        async with second:
            await until(lambda: len(second.queue.live) == 1)
            await second.idle(200)
            assert received(second.hops["back"]) == ["later@back.test"]
            assert 55 < second.at("back")[0] < 65, "when it was due"

    played(main, Work(store))


def test_a_fenced_queue_delivers_nothing_any_more() -> None:
    store = MemoryStore()

    async def main(first: Work) -> None:
        for number in range(20):
            await first.add(f"u{number}@back.test", due=first.now() + 5)
        first.queue._log.fence()
        await asyncio.sleep(30)
        assert first.hops["back"].seen == []

    played(main, Work(store))


def test_a_handle_that_is_used_again_is_another_message() -> None:
    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.seconds = 5.0
        first = await work.add("first@back.test")
        handle = work.queue.live.handle_of(first)
        await asyncio.sleep(1)
        # Settled behind the runner's back, as by a takeover that came late.
        await work.queue.settle(first, [Change(0, Status.CANCELLED)], urgent=True)
        index = work.queue._index
        index._free.append(index._rest.popleft())  # as after a thousand others
        second = await work.add("second@back.test")
        assert work.queue.live.handle_of(second) == handle
        await work.idle(300)
        assert received(back) == ["first@back.test", "second@back.test"]
        with pytest.raises(UnknownMessage):
            work.queue.live.row(handle)

    played(main)


def test_an_administrator_is_faster_than_a_try() -> None:
    async def main(work: Work) -> None:
        load = work.queue.load

        async def slow(message: int | str) -> QueuedMessage:
            await asyncio.sleep(2)
            return await load(message)

        work.queue.load = slow  # type: ignore[method-assign]
        name = await work.add("bob@back.test", "carol@relay.test")
        await asyncio.sleep(1)
        await work.acts.act("delete", name)  # both are under way: nothing is done to them
        await work.idle(20)
        assert sorted(received(work.hops["back"]) + received(work.hops["relay"])) == [
            "bob@back.test",
            "carol@relay.test",
        ]

    played(main)


def test_what_is_deleted_while_it_waits_for_its_turn() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        names = [await work.add(f"u{number}@back.test") for number in range(10)]
        await asyncio.sleep(30)
        for name in names[5:]:
            assert await work.acts.act("delete", name)
            assert not await work.acts.act("delete", name)
        work.hops["back"].answer = lambda address, call: OK
        before = len(work.hops["back"].seen)
        await work.idle(100)
        assert sorted(received(work.hops["back"])[before:]) == [f"u{number}@back.test" for number in range(5)]

    played(main)


class Full:
    """No room for entries of the log until a time of the loop."""

    def __init__(self, until: float) -> None:
        self.until = until

    def next(self, call: str, key: str) -> Fault:
        is_full = key.startswith("log/") and asyncio.get_running_loop().time() < self.until
        return Fault(Kind.FULL if is_full and call == "put_new" else Kind.NONE)


@pytest.mark.parametrize("action", ["retry", "hold", "delete", "bounce", "redirect"])
def test_an_order_that_is_not_durable_is_not_done(action: str) -> None:
    """The administrator hears why, and it is done when there is room again."""
    store = FaultStore(MemoryStore())

    async def main(work: Work) -> None:
        name = await work.add("bob@back.test", due=work.now() + 3000)
        await asyncio.sleep(1)
        store.faults = Full(asyncio.get_running_loop().time() + 30)
        with pytest.raises(QueueError, match=r"no room.*; it will be done when the store takes it"):
            await work.acts.act(action, name, "ann@back.test")
        await asyncio.sleep(40)
        await work.queue.written()
        if action == "hold":
            assert work.states(name) == [Status.HELD]
        elif action != "retry":
            with pytest.raises(UnknownMessage):
                work.queue.live.handle_of(name)

    played(main, Work(store))


def test_a_message_that_is_sent_to_somebody_else() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        name = await work.add("bob@back.test")
        await asyncio.sleep(5)
        assert await work.acts.act("redirect", name, to="carol@relay.test")
        await work.idle(10)
        (seen,) = work.hops["relay"].seen
        assert seen.recipients == ["carol@relay.test"]
        assert seen.octets.endswith(b"hi\r\n")
        assert work.journal.reports == []

    played(main)


def test_a_message_that_is_returned_by_hand() -> None:
    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: LATER
        name = await work.add("bob@back.test")
        await asyncio.sleep(5)
        assert await work.acts.act("bounce", name)
        await work.idle(10)
        (report,) = work.hops["home"].seen
        assert b"returned by an administrator" in report.octets

    played(main)


@pytest.mark.parametrize("action", ["redirect", "bounce"])
def test_what_could_not_be_done_to_a_message_leaves_it_in_its_turn(action: str) -> None:
    """It waits in the dispatcher for a session that another message has, and the store is away."""
    under = FaultStore(MemoryStore())

    async def main(work: Work) -> None:
        work.hops["back"].seconds = 60.0
        await work.add("slow@back.test")
        await asyncio.sleep(1)
        name = await work.add("bob@back.test")
        await asyncio.sleep(1)
        under.faults = NoEntries()
        with pytest.raises(QueueError):
            await work.acts.act(action, name, to="carol@relay.test")
        under.faults = None
        await work.idle(200)
        assert received(work.hops["back"]) == ["slow@back.test", "bob@back.test"]

    limits = {"backend:back": Limits(concurrency=1, initial=1)}
    played(main, Work(under, limits=limits, cache_max=0))


class SlowReads:
    """The first two times, entries of the log are read slowly."""

    def __init__(self) -> None:
        self.left = 2

    def next(self, call: str, key: str) -> Fault:
        if not self.left or call != "get" or not key.startswith("log/"):
            return Fault()
        self.left -= 1
        return Fault(Kind.NONE, 20.0)


@pytest.mark.parametrize("action", ["redirect", "bounce"])
def test_a_message_that_is_read_to_be_changed_is_not_tried_meanwhile(action: str) -> None:
    """Neither when it falls due, nor when everybody is told to try what waits."""
    under = FaultStore(MemoryStore())

    async def main(work: Work) -> None:
        work.hops["back"].seconds = 30.0
        name = await work.add("bob@back.test", due=work.now() + 5)
        other = await work.add("dan@back.test", due=work.now() + 500)
        under.faults = SlowReads()
        acts = [
            asyncio.create_task(work.acts.act(action, one, to="carol@relay.test")) for one in (name, other)
        ]
        await asyncio.sleep(1)
        await work.acts.flush("")
        assert await asyncio.gather(*acts) == [True, True]
        under.faults = None
        await work.idle(200)
        assert work.hops["back"].seen == []
        assert len(work.hops["relay" if action == "redirect" else "home"].seen) == 2

    played(main, Work(under, cache_max=0))
