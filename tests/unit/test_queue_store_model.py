"""Any sequence of calls has the same results on every store as on a dictionary."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import obstore.store
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailqueue.store.base import SEAL_MARK, MissingKey, SealResult, Store
from mailqueue.store.file import FileStore
from mailqueue.store.memory import MemoryStore
from mailqueue.store.objects import ObjectsStore
from mailqueue.store.replicated import Member, Replicated
from tests.peers.storecontract import Pieces

KINDS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda path: MemoryStore(),
    "file": lambda path: FileStore(path / "queue", threads=2),
    "objects": lambda path: ObjectsStore("objects:", [obstore.store.MemoryStore()]),
    "replicated": lambda path: Replicated([Member(MemoryStore(name)) for name in "abc"], 2, 0),
    "replicated and private": lambda path: Replicated(
        [Member(FileStore(path / "own", threads=2), private=True), Member(MemoryStore("b"))], 2, 1
    ),
}
KEYS = st.builds(
    "log/{}/{}".format, st.sampled_from(["a", "A", "a0", "_"]), st.sampled_from(["0", "1", "10", "Z", "z"])
)
PREFIXES = st.sampled_from(["", "log/", "log/a/", "log/a0/", "log/b/"])
DATA = st.one_of(st.sampled_from([b"", b"1", b"2", b"12", SEAL_MARK + b"1"]), st.binary(max_size=40))
CALLS = st.one_of(
    st.tuples(st.just("put_new"), KEYS, DATA, st.booleans()),
    st.tuples(st.just("seal"), KEYS, st.sampled_from([SEAL_MARK + b"1", SEAL_MARK + b"2"])),
    st.tuples(st.just("get"), KEYS, st.integers(0, 6), st.one_of(st.none(), st.integers(0, 50))),
    st.tuples(
        st.just("list"), PREFIXES, st.one_of(st.just(""), KEYS), st.one_of(st.none(), st.integers(0, 4))
    ),
    st.tuples(st.just("delete"), st.lists(KEYS, max_size=4)),
)


class Model:
    """What should be."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def do(self, call: tuple[object, ...]) -> object:
        match call:
            case ("put_new", str(key), bytes(data), _):
                return self.objects.setdefault(key, data) == data
            case ("seal", str(key), bytes(seal)):
                found = self.objects.setdefault(key, seal)
                return SealResult(found.startswith(SEAL_MARK), found)
            case ("get", str(key), int(start), int() | None as end):
                return self.objects[key][start:end] if key in self.objects else MissingKey
            case ("list", str(prefix), str(after), int() | None as limit):
                return sorted(key for key in self.objects if key.startswith(prefix) and key > after)[:limit]
            case ("delete", list(keys)):
                for key in keys:
                    self.objects.pop(key, None)
                return None
        raise AssertionError(call)


class ReplicatedModel(Model):
    """Several stores: of a seal no part behind its beginning is read, for an entry may be meant."""

    def do(self, call: tuple[object, ...]) -> object:
        found = super().do(call)
        match call:
            case ("get", _, int(start), _) if start and isinstance(self.objects.get(str(call[1])), bytes):
                whole = self.objects[str(call[1])]
                return MissingKey if whole.startswith(SEAL_MARK) else found
        return found


class PrivateModel(ReplicatedModel):
    """With a private store, which seals do not reach: an entry that only it took is read there."""

    def __init__(self) -> None:
        super().__init__()
        self.own: dict[str, bytes] = {}

    def do(self, call: tuple[object, ...]) -> object:
        match call:
            case ("put_new", str(key), bytes(data), _):
                mine = self.own.setdefault(key, data) == data
                return super().do(call) and mine
            case ("get", str(key), int(start), int() | None as end):
                copies = [copies[key] for copies in (self.own, self.objects) if key in copies]
                entries = [found for found in copies if not found.startswith(SEAL_MARK)]
                found = next(iter(entries + copies[::-1]), None)
                sealed = found is not None and found.startswith(SEAL_MARK)
                return MissingKey if found is None or (sealed and start) else found[start:end]
            case ("delete", list(keys)):
                for key in keys:
                    self.own.pop(key, None)
        return super().do(call)


MODELS = {"replicated": ReplicatedModel, "replicated and private": PrivateModel}


async def settled(store: Store) -> None:
    """Wait for writes that go on although the answer is known."""
    if isinstance(store, Replicated):
        for tasks in store._pending.values():
            await asyncio.gather(*tasks)


async def do(store: Store, call: tuple[object, ...]) -> object:
    match call:
        case ("put_new", str(key), bytes(data), bool(blob)):
            return await store.put_new(key, Pieces(data) if blob else data)
        case ("seal", str(key), bytes(seal)):
            return await store.seal_new(key, seal)
        case ("get", str(key), int(start), int() | None as end):
            try:
                return await store.get(key, start, end)
            except MissingKey:
                return MissingKey
        case ("list", str(prefix), str(after), int() | None as limit):
            return await store.list_after(prefix, after, limit)
        case ("delete", list(keys)):
            await store.delete(keys)
            return None
    raise AssertionError(call)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(calls=st.lists(CALLS, min_size=5, max_size=30))
def test_same_results_as_a_dictionary(kind: str, calls: list[tuple[object, ...]]) -> None:
    async def main(folder: Path) -> None:
        model = MODELS.get(kind, Model)()
        store = KINDS[kind](folder)
        try:
            for call in calls:
                assert await do(store, call) == model.do(call), call
                await settled(store)
            assert await store.list_after("") == sorted(model.objects)
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
