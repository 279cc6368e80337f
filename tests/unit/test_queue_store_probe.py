"""The probe lets good stores pass and refuses liars by name, with what they did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from mailqueue.store.base import Blob, MissingKey, Store, StoreFull, StoreRefused, StoreUnavailable
from mailqueue.store.file import FileStore
from mailqueue.store.memory import MemoryStore
from mailqueue.store.probe import CHECKS, probe, probe_what_answers
from tests.peers.faultstore import Fault, FaultStore, Kind, ScriptedFaults


class Overwriter(MemoryStore):
    """As a server that ignores If-None-Match: every PUT is answered 200."""

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        assert isinstance(data, bytes)
        await self.put(key, data)
        return True


class Racy(MemoryStore):
    """Looks first, then writes: right one at a time, wrong in a race."""

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        assert isinstance(data, bytes)
        try:
            return await self.get(key) == data
        except MissingKey:
            await asyncio.sleep(0)
            await self.put(key, data)
            return True


class Loser(MemoryStore):
    """Says no to the second one, and overwrites nevertheless."""

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        assert isinstance(data, bytes)
        result = await super().put_new(key, data)
        await self.put(key, data)
        return result


class Nobody(MemoryStore):
    """In a race nobody wins."""

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        return "race" not in key and await super().put_new(key, data)


class Prophet(MemoryStore):
    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        await super().put_new(key, data)
        return False


class Corrupter(MemoryStore):
    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        assert isinstance(data, bytes)
        return await super().put_new(key, data.upper())


class LateLister(MemoryStore):
    """Eventually consistent: the newest key is not listed."""

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        return (await super().list_after(prefix, after, limit))[:-1]


class Unsorted(MemoryStore):
    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        return list(reversed(await super().list_after(prefix, after, limit)))


class Deaf(MemoryStore):
    """Ignores where a listing has to begin."""

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        return await super().list_after(prefix)


class Whole(MemoryStore):
    """Ignores ranges."""

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return await super().get(key)


class Cached(MemoryStore):
    """Shows what was there before the last overwrite."""

    __slots__ = ("_old",)

    def __init__(self) -> None:
        super().__init__("cached:")
        self._old: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes) -> None:
        if key in self._old:
            return
        self._old[key] = data
        await super().put(key, data)


class Keeper(MemoryStore):
    async def delete(self, keys: Iterable[str]) -> None:
        """Deletes nothing."""


class Ghost(MemoryStore):
    """What was deleted can still be read."""

    __slots__ = ("_dead",)

    def __init__(self) -> None:
        super().__init__("ghost:")
        self._dead: dict[str, bytes] = {}

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in await self.list_after(""):
                self._dead[key] = await super().get(key)
        await super().delete(self._dead)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self._dead[key] if key in self._dead else await super().get(key, start, end)


class Gateways(MemoryStore):
    """One bucket with several gateways."""

    __slots__ = ("endpoints", "used")

    def __init__(self, *endpoints: Store) -> None:
        super().__init__("gateways:")
        self.endpoints = endpoints
        self.used: list[list[int]] = []

    def use(self, endpoints: list[int]) -> None:
        self.used.append(endpoints)


class Away(MemoryStore):
    """Nobody is there."""

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        raise StoreUnavailable(self.name, "no connection")

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        raise StoreUnavailable(self.name, "no connection")


@pytest.mark.parametrize(
    ("store", "sin"),
    [
        (Overwriter("liar:"), "ignores the condition of a conditional write"),
        (Racy("liar:"), "of 8 writers that created one key at the same time, 8 won"),
        (Nobody("liar:"), "of 8 writers that created one key at the same time, 0 won"),
        (Loser("liar:"), "does not return what was written first"),
        (Prophet("liar:"), "a key exists which nobody has written"),
        (Corrupter("liar:"), "does not return what was written through one endpoint"),
        (LateLister("liar:"), "does not show what was just written"),
        (Unsorted("liar:"), "does not show what was just written, sorted"),
        (Deaf("liar:"), "begins after a key"),
        (Whole("liar:"), "octets from 0 to 1"),
        (Cached(), "overwritten object's new octets"),
        (Keeper("liar:"), "shows what was deleted"),
        (Ghost(), "can still be read"),
    ],
)
def test_a_liar_is_refused_by_name(store: Store, sin: str) -> None:
    with pytest.raises(StoreRefused) as caught:
        asyncio.run(probe(store))
    assert str(caught.value).startswith(f"{store.name}: ")
    assert sin in str(caught.value)


def test_two_buckets_behind_two_gateways_are_noticed() -> None:
    gateways = Gateways(MemoryStore("one:"), MemoryStore("two:"))
    with pytest.raises(StoreRefused, match="two:: it does not return what was written through one endpoint"):
        asyncio.run(probe(gateways))


def test_gateways_that_only_lie_in_races_are_noticed() -> None:
    shared = Racy("racy:")
    with pytest.raises(StoreRefused, match="at the same time through 2 endpoints, 8 won"):
        asyncio.run(probe(Gateways(shared, shared)))


def test_good_stores_pass_and_keep_nothing_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        for store in (MemoryStore(), FileStore(tmp_path / "queue")):
            heard: list[str] = []
            await probe(store, heard.append)
            assert heard == [f"{store.name}: {name}" for name in CHECKS]
            assert await store.list_after("") == []
            await store.close()

    asyncio.run(main())


def test_a_store_that_cannot_be_reached_is_not_called_a_liar() -> None:
    async def main() -> None:
        inner = MemoryStore()
        store = FaultStore(inner, ScriptedFaults(("put_new", "race1", Kind.BEFORE)))
        with pytest.raises(StoreUnavailable):
            await probe(store)
        assert await inner.list_after("") == []

    asyncio.run(main())


def test_the_same_trouble_is_told_in_the_same_words() -> None:
    """Who tries again every few seconds tells of it when it changes."""

    class Full:
        def next(self, call: str, key: str) -> Fault:
            return Fault(Kind.FULL if call == "put_new" else Kind.NONE)

    async def work() -> None:
        store = FaultStore(MemoryStore(), Full())
        told = set()
        for _ in range(2):
            with pytest.raises(StoreFull, match="probe/create") as found:
                await probe(store)
            told.add(str(found.value))
        assert len(told) == 1

    asyncio.run(work())


def test_a_gateway_that_is_away_does_not_keep_the_others_from_being_used() -> None:
    async def main() -> None:
        bucket = MemoryStore("bucket:")
        gateways = Gateways(Away("away:"), bucket, bucket)
        with pytest.raises(StoreUnavailable, match="away:: no connection"):
            await probe(gateways)
        assert gateways.used == []
        assert await probe_what_answers(gateways) == ["away:: no connection"]
        assert gateways.used == [[1, 2]]
        gateways = Gateways(bucket, bucket)
        assert await probe_what_answers(gateways) == []
        assert gateways.used == [[0, 1]]
        assert await bucket.list_after("") == []

    asyncio.run(main())


def test_gateways_that_answer_are_tried_against_each_other() -> None:
    for store, sin in (
        (Gateways(Away("away:"), Overwriter("liar:")), "ignores the condition"),
        (Gateways(MemoryStore("one:"), Away("away:"), MemoryStore("two:")), "two:: it does not return what"),
        (Overwriter("liar:"), "ignores the condition"),
    ):
        with pytest.raises(StoreRefused, match=sin):
            asyncio.run(probe_what_answers(store))
    with pytest.raises(StoreUnavailable, match="one:: no connection"):
        asyncio.run(probe_what_answers(Gateways(Away("one:"), Away("two:"))))
