"""Several stores as one: what is acknowledged, read, sealed and repaired, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from mailqueue.store import asking, catchup, replicated
from mailqueue.store.base import (
    SEAL_MARK,
    MissingKey,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from mailqueue.store.memory import MemoryStore
from mailqueue.store.probe import probe
from mailqueue.store.replicated import Member, Replicated
from tests.peers.faultstore import Fault, FaultStore, Kind, ScriptedFaults
from tests.peers.storecontract import Pieces
from tests.simulation.loop import run as run_virtual

T = TypeVar("T")
SEAL, OTHER_SEAL = SEAL_MARK + b"1", SEAL_MARK + b"2"


class World:
    """Stores named a, b, c ...; a small letter is shared, and the first of those is the authority."""

    def __init__(self, kinds: str, copies: int, *, lossy: bool = False) -> None:
        self.inner = [MemoryStore(kind) for kind in kinds]
        self.faulty = [FaultStore(store) for store in self.inner]
        members = [
            Member(store, private=kind.isupper()) for store, kind in zip(self.faulty, kinds, strict=True)
        ]
        authority = next(index for index, kind in enumerate(kinds) if kind.islower())
        self.store = Replicated(members, copies, authority, lossy=lossy)

    def down(self, *indices: int) -> None:
        for index, store in enumerate(self.faulty):
            store.down = index in indices

    async def keys(self) -> list[list[str]]:
        return [await store.list_after("") for store in self.inner]


def run(main: Coroutine[Any, Any, T]) -> T:
    return run_virtual(main)


@pytest.mark.parametrize(
    ("kinds", "copies", "lossy", "words"),
    [
        ("a", 1, True, "two stores or more"),
        ("ab", 3, False, "copies: 3; expected 1 to 2"),
        ("ab", 0, True, "copies: 0; expected 1 to 2"),
        ("ab", 1, False, "copies: 1; expected at least 2"),
        ("Ab", 1, False, "copies: 1; expected at least 2"),
        ("ABc", 2, False, "copies: 2; expected at least 3"),
    ],
)
def test_what_would_lose_mail_is_refused(kinds: str, copies: int, lossy: bool, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        World(kinds, copies, lossy=lossy)


def test_the_authority_is_shared() -> None:
    members = [Member(MemoryStore(), private=True), Member(MemoryStore())]
    with pytest.raises(ValueError, match="all nodes share"):
        Replicated(members, 2, 0)


def test_what_goes_where() -> None:
    async def main() -> None:
        world = World("ab", 2)
        for key in ("log/s/0", "snap/s/0", "body/1/a", "corrupt/s/0"):
            assert await world.store.put_new(key, b"x")
        for key in ("format", "stream/s", "lease/s/00/1", "retired/s/00", "uses/s/t"):
            assert await world.store.put_new(key, b"x")
        await world.store.put("hb/s", b"1")
        with pytest.raises(ValueError, match="never overwritten"):
            await world.store.put("log/s/0", b"x")
        both = ["body/1/a", "corrupt/s/0", "log/s/0", "snap/s/0"]
        alone = ["format", "hb/s", "lease/s/00/1", "retired/s/00", "stream/s", "uses/s/t"]
        assert await world.keys() == [sorted(both + alone), both]
        world.down(1)
        assert await world.store.get("hb/s") == b"1"
        assert await world.store.list_after("lease/s/") == ["lease/s/00/1"]
        world.down(0)
        for call in (
            world.store.get("hb/s"),
            world.store.list_after("lease/"),
            world.store.put("hb/s", b"2"),
        ):
            with pytest.raises(StoreUnavailable):
                await call
        world.down()
        await world.store.delete([*both, *alone])
        assert await world.keys() == [[], []]

    run(main())


@pytest.mark.parametrize(("down", "good"), [((), True), ((0,), True), ((2,), True), ((0, 1), False)])
def test_two_of_three_copies(down: tuple[int, ...], good: bool) -> None:
    async def main() -> None:
        world = World("abc", 2)
        world.down(*down)
        if good:
            assert await world.store.put_new("log/s/0", b"entry")
            assert world.store.missed == {"abc"[index]: 1 for index in down}
        else:
            with pytest.raises(StoreUnavailable, match=r"writing log/s/0: a: put_new.*; b: put_new"):
                await world.store.put_new("log/s/0", b"entry")

    run(main())


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((Kind.FULL, Kind.BEFORE), StoreFull),
        ((Kind.REFUSED, Kind.FULL), StoreRefused),
        ((Kind.LOST, Kind.BEFORE), StoreUnavailable),
    ],
)
def test_the_gravest_error_counts(kinds: tuple[Kind, Kind], expected: type[StoreError]) -> None:
    async def main() -> None:
        world = World("abc", 2)
        for store, kind in zip(world.faulty, kinds, strict=False):
            store.faults = ScriptedFaults(("put_new", "", kind))
        with pytest.raises(StoreError) as caught:
            await world.store.put_new("log/s/0", b"x")
        assert type(caught.value) is expected

    run(main())


def test_other_octets_on_too_many_stores() -> None:
    async def main() -> None:
        world = World("abc", 2)
        await world.inner[0].put_new("log/s/0", SEAL)
        assert await world.store.put_new("log/s/0", b"entry")  # two are enough
        await world.inner[0].put_new("log/s/1", SEAL)
        await world.inner[2].put_new("log/s/1", SEAL)
        assert not await world.store.put_new("log/s/1", b"entry")

    run(main())


def test_a_slow_store_delays_nobody_and_gets_it_in_the_end() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        world = World("abc", 2)
        world.faulty[1].faults = ScriptedFaults(("put_new", "", Fault(before=20)))
        assert await world.store.put_new("log/s/0", b"x")
        assert loop.time() - begun < 1
        assert await world.keys() == [["log/s/0"], [], ["log/s/0"]]
        await asyncio.sleep(25)
        assert await world.keys() == [["log/s/0"]] * 3
        assert world.store.missed == {}

    run(main())


def test_a_store_that_is_too_slow_falls_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicated, "PENDING_COUNT", 3)

    async def main() -> None:
        world = World("abc", 2)
        world.faulty[2].faults = ScriptedFaults(*[("put_new", "", Fault(before=50))] * 5)
        for number in range(5):
            assert await world.store.put_new(f"log/s/{number}", b"x")
        assert world.store.missed == {"c": 2}
        world.down(0)
        with pytest.raises(StoreUnavailable, match="c: writing log/s/5: it is too far behind"):
            await world.store.put_new("log/s/5", b"x")
        world.down()
        await world.store.close()
        # What was too late when the store was closed is missed as well.
        assert world.store.missed["c"] == 6

    run(main())


def test_pending_octets_are_bounded_but_one_large_write_is_not_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replicated, "PENDING_OCTETS", 100)

    async def main() -> None:
        world = World("abc", 2)
        world.faulty[2].faults = ScriptedFaults(("put_new", "", Fault(before=5)))
        assert await world.store.put_new("log/s/0", b"x" * 1000)
        assert await world.store.put_new("log/s/1", b"x" * 10)
        assert world.store.missed == {"c": 1}
        await asyncio.sleep(10)
        assert await world.store.put_new("log/s/2", b"x" * 10)
        # The one that was let pass was caught up meanwhile.
        assert await world.keys() == [[f"log/s/{number}" for number in range(3)]] * 3

    run(main())


class Watched(Pieces):
    """A Blob that must not be read after it was closed."""

    closed = False

    def chunks(self) -> Iterator[bytes]:
        for piece in super().chunks():
            assert not self.closed
            yield piece


class SlowReader(MemoryStore):
    """Reads a Blob piece by piece, slowly."""

    async def put_new(self, key: str, data: object) -> bool:
        if isinstance(data, bytes):  # caught up
            return await super().put_new(key, data)
        assert isinstance(data, Watched)
        octets = b""
        for piece in data.chunks():
            octets += piece
            await asyncio.sleep(3)
        return await super().put_new(key, octets)


@pytest.mark.parametrize(("pieces", "complete"), [(1, True), (10, False)])
def test_nothing_reads_a_blob_any_more_when_put_new_returns(pieces: int, complete: bool) -> None:
    async def main() -> None:
        stores = [MemoryStore("a"), MemoryStore("b"), SlowReader("c")]
        store = Replicated([Member(member) for member in stores], 2, 0)
        blob = Watched(b"x" * 10, pieces)
        assert await store.put_new("body/1/a", blob)
        blob.closed = True
        assert await stores[2].list_after("") == (["body/1/a"] if complete else [])
        await asyncio.sleep(60)
        assert await stores[2].get("body/1/a") == b"x" * 10 * pieces
        assert store.missed == ({} if complete else {"c": 1})

    run(main())


def test_a_cancelled_write_leaves_no_task_with_its_blob() -> None:
    async def main() -> None:
        stores = [SlowReader("a"), SlowReader("b")]
        store = Replicated([Member(member) for member in stores], 2, 0)
        blob = Watched(b"x", 10)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await store.put_new("body/1/a", blob)
        blob.closed = True
        await asyncio.sleep(60)

    run(main())


def test_reads_fall_back_and_a_denial_needs_all_stores() -> None:
    async def main() -> None:
        world = World("abc", 2)
        await world.inner[2].put_new("log/s/0", b"entry")
        assert await world.store.get("log/s/0") == b"entry"
        assert await world.store.get("log/s/0", 1, 3) == b"nt"
        world.down(0)
        assert await world.store.get("log/s/0") == b"entry"
        assert await world.store.list_after("log/s/") == ["log/s/0"]
        # What was never acknowledged, and taken over all the same, may be on one store only.
        with pytest.raises(StoreUnavailable, match=r"reading log/s/1: a: get"):
            await world.store.get("log/s/1")
        world.down()
        with pytest.raises(MissingKey):
            await world.store.get("log/s/1")
        world.down(0, 2)
        with pytest.raises(StoreUnavailable, match=r"reading log/s/0: c: get.*; a: get"):
            await world.store.get("log/s/0")
        with pytest.raises(StoreUnavailable, match="listing log/s/"):
            await world.store.list_after("log/s/")

    run(main())


def test_after_an_error_reads_ask_others_first() -> None:
    async def main() -> None:
        world = World("ab", 2)
        await world.store.put_new("log/s/0", b"entry")
        world.down(0)
        for _ in range(5):
            assert await world.store.get("log/s/0") == b"entry"
        assert world.faulty[0].calls.count(("get", "log/s/0")) == 1
        world.down()
        await asyncio.sleep(replicated.SUSPECT + 1)
        await world.store.get("log/s/0")
        assert world.faulty[0].calls.count(("get", "log/s/0")) == 2

    run(main())


def test_a_read_turns_from_a_store_that_hangs_to_another() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        world = World("ab", 2)
        await world.store.put_new("log/s/0", b"entry")
        world.faulty[0].faults = ScriptedFaults(("get", "", Fault(before=1000)))
        assert await world.store.get("log/s/0") == b"entry"
        assert loop.time() - begun == pytest.approx(replicated.PATIENCE)
        # Nobody else has it: then the slow one is waited for.
        world = World("abc", 2)
        await world.inner[0].put_new("log/s/0", b"entry")
        slow = Fault(before=30)
        world.faulty[0].faults = ScriptedFaults(("get", "", slow), ("get", "", slow))
        assert await world.store.get("log/s/0") == b"entry"

    run(main())


def test_lists_are_merged_up_to_the_limit() -> None:
    async def main() -> None:
        world = World("ab", 2)
        for number in (1, 3, 5):
            await world.inner[0].put_new(f"log/s/{number}", b"x")
        for number in (2, 3, 4):
            await world.inner[1].put_new(f"log/s/{number}", b"x")
        assert await world.store.list_after("log/s/") == [f"log/s/{number}" for number in range(1, 6)]
        assert await world.store.list_after("log/s/", "log/s/1", 2) == ["log/s/2", "log/s/3"]

    run(main())


def test_who_hangs_delays_no_listing_and_no_seal_for_long() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        world = World("abc", 2)
        await world.store.put_new("log/s/0", b"x")
        hangs = Fault(before=1000)
        world.faulty[1].faults = ScriptedFaults(("list_after", "", hangs), ("put_new", "", hangs))
        assert await world.store.list_after("log/s/") == ["log/s/0"]
        assert (await world.store.seal_new("log/s/1", SEAL)).sealed
        assert loop.time() - begun == pytest.approx(2 * asking.GRACE)
        world.down(0)
        world.faulty[1].faults = ScriptedFaults(("list_after", "", hangs))
        await world.store.list_after("log/s/")  # two have to answer, however long it takes
        assert loop.time() - begun > 1000

    run(main())


def test_a_folder_of_this_node_is_read_first_but_denies_nothing() -> None:
    async def main() -> None:
        world = World("Ab", 2)
        await world.inner[1].put_new("log/other/0", b"entry")
        assert await world.store.get("log/other/0") == b"entry"
        await world.store.put_new("log/own/0", b"entry")
        world.down(1)
        assert await world.store.get("log/own/0") == b"entry"
        with pytest.raises(StoreUnavailable):
            await world.store.get("log/other/0")

    run(main())


class TestSealing:
    def test_enough_stores(self) -> None:
        async def main() -> None:
            world = World("abc", 2)
            world.down(1)
            assert await world.store.seal_new("log/s/5", SEAL) == (True, SEAL)
            assert await world.keys() == [["log/s/5"], [], ["log/s/5"]]
            world.down(0, 1)
            with pytest.raises(StoreUnavailable, match="sealing log/s/6 on 2 stores"):
                await world.store.seal_new("log/s/6", SEAL)

        run(main())

    def test_an_entry_counts_where_the_seal_is_not_complete(self) -> None:
        """Two stores have it: it may be acknowledged, whatever the third says."""

        async def main() -> None:
            world = World("abc", 2)
            await world.inner[0].put_new("log/s/5", SEAL)
            await world.inner[1].put_new("log/s/5", b"entry")
            await world.inner[2].put_new("log/s/5", b"entry")
            assert await world.store.seal_new("log/s/5", OTHER_SEAL) == (False, b"entry")
            assert await world.store.get("log/s/5") == b"entry"
            world.down(1)
            assert await world.store.seal_new("log/s/5", OTHER_SEAL) == (False, b"entry")

        run(main())

    def test_a_complete_seal_beats_an_entry_that_was_never_acknowledged(self) -> None:
        async def main() -> None:
            world = World("abc", 2)
            await world.inner[0].put_new("log/s/5", SEAL)
            await world.inner[2].put_new("log/s/5", b"entry")
            assert await world.store.seal_new("log/s/5", OTHER_SEAL) == (True, SEAL)
            assert not await world.store.put_new("log/s/5", b"entry")

        run(main())

    def test_parts_of_an_entry_are_not_read_from_a_seal(self) -> None:
        async def main() -> None:
            world = World("abc", 2)
            entry = bytes(range(256)) * 4
            await world.inner[0].put_new("log/s/5", SEAL)
            await world.inner[1].put_new("log/s/5", entry)
            await world.inner[2].put_new("log/s/5", entry)
            for start, end in ((0, 3), (2, 5), (2, None), (600, 700), (900, 5000), (5000, 6000)):
                assert await world.store.get("log/s/5", start, end) == entry[start:end], (start, end)

        run(main())

    def test_a_seal_elsewhere_does_not_stand_for_an_entry_out_of_reach(self) -> None:
        """One taker has seen the entry and has its messages; a later one could not see it and has sealed."""

        async def main() -> None:
            world = World("abc", 2)
            entry = bytes(range(256)) * 4
            for number in (0, 1):
                await world.inner[number].put_new("log/s/5", SEAL)
            await world.inner[2].put_new("log/s/5", entry)
            assert await world.store.get("log/s/5", 100, 200) == entry[100:200]
            world.down(2)
            for start, end in ((100, 200), (3, 5), (600, None)):
                with pytest.raises(StoreUnavailable):
                    await world.store.get("log/s/5", start, end)
            assert await world.store.get("log/s/5") == SEAL
            world.down()
            await world.inner[2].delete(["log/s/5"])
            with pytest.raises(MissingKey):
                await world.store.get("log/s/5", 100, 200)

        run(main())

    def test_a_seal_is_short(self) -> None:
        with pytest.raises(ValueError, match="at most 512 octets"):
            run(World("ab", 2).store.seal_new("log/s/1", SEAL * 100))

    def test_a_seal_is_read_when_no_entry_can_be_there(self) -> None:
        async def main() -> None:
            world = World("abc", 2)
            await world.inner[0].put_new("log/s/5", SEAL)
            assert await world.store.get("log/s/5") == SEAL
            world.down(1)
            assert await world.store.get("log/s/5") == SEAL
            world.down(1, 2)
            with pytest.raises(StoreUnavailable):
                await world.store.get("log/s/5")

        run(main())

    def test_a_seal_of_another_taker_counts(self) -> None:
        async def main() -> None:
            world = World("abc", 2)
            await world.inner[0].put_new("log/s/5", SEAL)
            world.down(2)
            result = await world.store.seal_new("log/s/5", OTHER_SEAL)
            assert result.sealed

        run(main())

    def test_a_folder_of_the_taker_proves_nothing(self) -> None:
        """It has a disk of its own: sealing there must not count, or the dead one goes on without it."""

        async def main() -> None:
            world = World("Ab", 2)
            world.down(1)
            with pytest.raises(StoreUnavailable):
                await world.store.seal_new("log/s/5", SEAL)
            world.down()
            assert (await world.store.seal_new("log/s/5", SEAL)).sealed
            assert await world.keys() == [[], ["log/s/5"]]

        run(main())

    def test_deleted_meanwhile(self) -> None:
        class Deletes(MemoryStore):
            async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
                raise MissingKey(self.name, key)

        async def main() -> None:
            gone = Deletes("a")
            await gone.put_new("log/s/5", b"entry")
            store = Replicated([Member(gone), Member(MemoryStore())], 2, 0)
            with pytest.raises(MissingKey):
                await store.seal_new("log/s/5", SEAL)

        run(main())

    def test_only_logs(self) -> None:
        with pytest.raises(ValueError, match="only logs are sealed"):
            run(World("ab", 2).store.seal_new("lease/s/1", SEAL))

    def test_with_one_copy_all_stores_are_needed(self) -> None:
        async def main() -> None:
            world = World("ab", 1, lossy=True)
            world.down(1)
            assert await world.store.put_new("log/s/0", b"entry")
            with pytest.raises(StoreUnavailable):
                await world.store.seal_new("log/s/1", SEAL)
            world.down()
            assert (await world.store.seal_new("log/s/1", SEAL)).sealed

        run(main())

    def test_with_a_local_copy_only_its_node_can_seal(self) -> None:
        async def main() -> None:
            owner, stranger = World("Ab", 1, lossy=True), World("Ab", 1, lossy=True)
            owner.down(1)
            assert await owner.store.put_new("log/s/0", b"entry")
            with pytest.raises(StoreRefused, match="only the node that wrote a log"):
                await stranger.store.seal_new("log/s/1", SEAL)
            with pytest.raises(StoreUnavailable):
                await owner.store.seal_new("log/s/1", SEAL)
            owner.down()
            assert await owner.store.list_after("log/s/") == ["log/s/0", "log/s/1"]
            assert (await owner.store.seal_new("log/s/1", SEAL)).sealed
            owner.down(0)
            for call in (
                owner.store.list_after("log/s/"),
                owner.store.get("log/s/2"),
                owner.store.seal_new("log/s/1", SEAL),
            ):
                with pytest.raises(StoreUnavailable):
                    await call

        run(main())


class TestCatchUp:
    def test_a_store_that_was_away_gets_what_it_missed(self) -> None:
        async def main() -> None:
            world = World("abc", 2)
            world.down(1)
            for number in range(5):
                await world.store.put_new(f"log/s/{number}", b"%d" % number)
            await world.store.put_new("body/1/a", Pieces(b"body", 3))
            await world.store.delete(["log/s/0", "log/s/3"])
            assert world.store.behind() == {"a": 0, "b": 4, "c": 0}
            await asyncio.sleep(100)
            world.down()
            await asyncio.sleep(catchup.LONGEST)
            assert world.store.behind() == {"a": 0, "b": 0, "c": 0}
            assert (await world.keys())[1] == ["body/1/a", "log/s/1", "log/s/2", "log/s/4"]
            assert await world.inner[1].get("body/1/a") == b"body" * 3
            await world.store.close()

        run(main())

    def test_the_others_may_be_away_when_it_is_back(self) -> None:
        async def main() -> None:
            world = World("abc", 2)
            world.down(1)
            await world.store.put_new("log/s/0", b"x")
            world.down(0, 2)
            await asyncio.sleep(100)
            assert (await world.keys())[1] == []
            world.down(2)
            await asyncio.sleep(2 * catchup.LONGEST)
            assert (await world.keys())[1] == ["log/s/0"]

        run(main())

    def test_what_is_deleted_while_it_is_copied_does_not_come_back(self) -> None:
        async def main() -> None:
            world = World("ab", 2)
            world.down(1)
            for key in ("log/s/0", "log/s/1"):
                with pytest.raises(StoreUnavailable):
                    await world.store.put_new(key, b"x")
            world.down()
            world.faulty[0].faults = ScriptedFaults(("get", "log/s/0", Fault(after=10)))
            world.faulty[1].faults = ScriptedFaults(("put_new", "log/s/1", Fault(before=10)))
            await asyncio.sleep(catchup.FIRST + 1)
            await world.store.delete(["log/s/0"])
            await asyncio.sleep(10)
            await world.store.delete(["log/s/1"])
            await asyncio.sleep(1000)
            assert await world.keys() == [[], []]

        run(main())

    def test_what_nobody_has_is_forgotten_and_a_seal_stays(self) -> None:
        async def main() -> None:
            world = World("ab", 2)
            world.down(0, 1)
            with pytest.raises(StoreUnavailable):
                await world.store.put_new("log/s/0", b"x")
            world.down(1)
            with pytest.raises(StoreUnavailable):
                await world.store.put_new("log/s/1", b"x")
            world.down()
            await world.inner[1].put_new("log/s/1", SEAL)
            await asyncio.sleep(1000)
            assert world.store.behind() == {"a": 0, "b": 0}
            assert await world.inner[1].get("log/s/1") == SEAL

        run(main())

    def test_the_number_of_keys_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(catchup, "MISSED_MAX", 3)

        async def main() -> None:
            world = World("abc", 2)
            world.down(2)
            for number in range(5):
                await world.store.put_new(f"log/s/{number}", b"x")
            assert world.store.behind()["c"] == 3
            assert world.store.missed["c"] == 5

        run(main())


class TestRepair:
    def test_what_was_missed_is_copied(self) -> None:
        async def main() -> None:
            world = World("abc", 2)
            world.down(1)
            for number in range(5):
                await world.store.put_new(f"log/s/{number}", b"%d" % number)
            await world.store.put_new("body/1/a", b"body")
            assert (await world.store.repair("log/s/")).failed == 1
            world.down()
            assert await world.store.repair("log/s/", "log/s/1") == (3, 0)
            assert await world.store.repair("body/1/") == (1, 0)
            assert await world.inner[1].list_after("") == ["body/1/a", "log/s/2", "log/s/3", "log/s/4"]
            assert await world.inner[1].get("log/s/3") == b"3"
            assert await world.store.repair("log/s/", "log/s/1") == (0, 0)

        run(main())

    def test_where_an_entry_and_a_seal_stand_nothing_is_touched(self) -> None:
        async def main() -> None:
            world = World("abc", 2)
            await world.inner[0].put_new("log/s/5", SEAL)
            await world.inner[1].put_new("log/s/5", b"entry")
            await world.inner[0].put_new("log/s/6", SEAL)
            assert await world.store.repair("log/s/") == (2, 0)
            assert await world.keys() == [["log/s/5", "log/s/6"], ["log/s/5", "log/s/6"], ["log/s/6"]]

        run(main())

    def test_a_folder_of_this_node_gets_only_its_own_logs(self) -> None:
        async def main() -> None:
            world = World("Abc", 2)
            world.down(2)
            await world.store.put_new("log/own/0", b"x")
            world.down(0)
            await world.store.put_new("log/own/1", b"x")
            await world.store.put_new("body/1/a", b"x")
            await world.store.put_new("log/other/0", b"x")
            world.down()
            for prefix in ("log/own/", "log/other/", "body/1/"):
                await world.store.repair(prefix)
            own = ["log/own/0", "log/own/1"]
            everything = ["body/1/a", "log/other/0", *own]
            assert await world.keys() == [own, everything, everything]

        run(main())

    def test_failures_are_counted(self) -> None:
        async def main() -> None:
            world = World("ab", 2)
            for number in range(3):
                await world.inner[0].put_new(f"log/s/{number}", b"x")
            world.faulty[0].faults = ScriptedFaults(("get", "log/s/1", Kind.BEFORE))
            world.faulty[1].faults = ScriptedFaults(("put_new", "log/s/2", Kind.FULL))
            assert await world.store.repair("log/s/") == (1, 2)
            assert await world.store.repair("log/s/") == (2, 0)

        run(main())

    def test_only_what_is_on_all_stores(self) -> None:
        with pytest.raises(ValueError, match="only log/, snap/, body/, corrupt/"):
            run(World("ab", 2).store.repair("lease/"))


def test_deletes_reach_what_can_be_reached() -> None:
    async def main() -> None:
        world = World("ab", 2)
        await world.store.put_new("log/s/0", b"x")
        world.down(1)
        await world.store.delete(["log/s/0"])
        assert await world.keys() == [[], ["log/s/0"]]
        world.down()
        # What was left is listed again, so whoever collects deletes it again.
        assert await world.store.list_after("log/s/") == ["log/s/0"]
        world.down(0, 1)
        with pytest.raises(StoreUnavailable, match="removing log/s/0"):
            await world.store.delete(["log/s/0"])

    run(main())


def test_the_probe_tries_each_store() -> None:
    async def main() -> None:
        heard: list[str] = []
        await probe(World("abc", 2).store, heard.append)
        assert {line.partition(": ")[0] for line in heard} == {"a", "b", "c"}

    run(main())
