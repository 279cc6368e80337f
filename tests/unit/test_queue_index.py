"""The index against a model of dictionaries, and what it costs."""

from __future__ import annotations

import os
import tracemalloc
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailqueue.cache import PayloadCache
from mailqueue.idtable import IdTable
from mailqueue.index import Index, Location
from mailqueue.intern import Interner
from mailqueue.live import Live
from mailqueue.model import Status, UnknownMessage
from mailqueue.recipients import HELD, LIVE_MAX
from mailqueue.records import State

OWN, OTHER = bytes(16), b"o" * 16

state = st.builds(
    State,
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 6),
    st.integers(0, 1000).map(float),
    st.integers(0, 70_000),
    st.sampled_from(["", "451 x", "550 y"]),
    st.integers(0, 1000).map(float),
)
step = st.one_of(
    st.tuples(
        st.just("add"),
        st.integers(0, 30),
        st.lists(state, min_size=1, max_size=3),
        st.sampled_from([OWN, OTHER]),
        st.integers(0, 3),
    ),
    st.tuples(st.just("remove"), st.integers(0, 30)),
    st.tuples(st.just("set"), st.integers(0, 30), st.integers(0, 2), state),
    st.tuples(st.just("move"), st.integers(0, 30), st.sampled_from([OWN, OTHER]), st.integers(0, 3)),
)


def id_of(number: int) -> bytes:
    # Few different hashes, so that they collide.
    return bytes([number]) * 8 + bytes([0, 0, 0, number % 3]) + bytes([0, 0, 0, number % 2])


def kept(found: State, *, alone: bool) -> State:
    due = 0.0 if alone and found.status == HELD else found.due
    return State(found.site, found.status, due, min(found.attempts, 65535), found.reply, found.last)


@given(st.lists(step, max_size=60))
@settings(max_examples=150, deadline=None)
def test_the_index_is_a_dictionary(steps: list[Any]) -> None:
    index = Index(OWN)
    model: dict[bytes, tuple[list[State], Location]] = {}
    for what, number, *rest in steps:
        id = id_of(number)
        slot = index.find(id)
        assert (slot >= 0) == (id in model)
        if what == "add" and slot < 0:
            states, stream, entry = rest
            model[id] = list(states), Location(stream, entry, 64, 10)
            index.add(id, 1.0, 2.0, 0, 5, model[id][1], None, states)
        elif slot < 0:
            continue
        elif what == "remove":
            index.remove(slot)
            del model[id]
            assert not index.is_live(slot)
        elif what == "set" and rest[0] < len(model[id][0]):
            index.set_states(slot, [(rest[0], rest[1])])
            model[id][0][rest[0]] = rest[1]
        elif what == "set":
            with pytest.raises(IndexError):
                index.set_states(slot, [(rest[0], rest[1])])
        elif what == "move":
            model[id] = model[id][0], Location(rest[0], rest[1], 99, 10)
            index.move(slot, model[id][1], None)
    assert len(index) == len(model) == len(list(index.slots()))
    uses: dict[tuple[bytes, int], int] = {}
    live = 0
    for id, (states, place) in model.items():
        slot = index.find(id)
        assert index.states(slot) == [kept(s, alone=len(states) == 1) for s in states]
        assert index.location(slot) == place
        uses[place.stream, place.number] = uses.get((place.stream, place.number), 0) + 1
        live += sum(s.status <= LIVE_MAX for s in states)
        due = [s.due for s in states if s.status < HELD]
        if any(s.status <= LIVE_MAX for s in states):
            sites = {s.site for s in states if s.status <= LIVE_MAX}
            site = sites.pop() if len(sites) == 1 else ""
            assert index.summary(slot)[1:] == (min(due, default=float("inf")), site)
    found = {
        (stream, entry): count
        for stream, entries in zip(index.streams, index.uses, strict=True)
        for entry, count in entries.items()
    }
    assert found == uses
    assert index.live_recipients == live
    assert index.total_size == 5 * len(model)
    for id in list(model):
        index.remove(index.find(id))
    assert len(index.sites) == len(index.replies) == 1, "no string is left behind"


def test_a_message_costs_less_than_200_octets() -> None:
    index = Index(OWN)
    count = 50_000
    found = State("site", 1, 1e9, 1, "451 later", 1e9)
    tracemalloc.start()
    for number in range(count):
        place = Location(OWN, number // 16, 64, 4000)
        index.add(os.urandom(16), 1.8e9, 1.9e9, 0, 30_000, place, None, [found])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / count < 130


def test_a_list_of_ten_thousand_costs_little_more_than_its_columns() -> None:
    index = Index(OWN)
    states = [State(f"site{n % 50}", 0, 1.0, 0, "", 0.0) for n in range(10_000)]
    tracemalloc.start()
    slot = index.add(b"i" * 16, 1.0, 2.0, 0, 5, Location(OWN, 0, 64, 5), None, states)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 10_000 * 32 + 200_000
    assert index.live_in(slot) == 10_000
    assert index.summary(slot) == (Status.QUEUED, 1.0, "")


def test_slots_rest_before_they_are_used_again() -> None:
    index = Index(OWN)
    first = index.add(b"a" * 16, 1.0, 2.0, 0, 5, Location(OWN, 0, 64, 5), None, [State("", 0, 1, 0, "", 0)])
    index.remove(first)
    for number in range(1000):
        id = number.to_bytes(16, "big")
        slot = index.add(id, 1.0, 2.0, 0, 5, Location(OWN, 0, 64, 5), None, [State("", 0, 1, 0, "", 0)])
        assert slot != first
    with pytest.raises(UnknownMessage, match="there is no message"):
        Live(index).row(first)


def test_a_table_of_ids_that_come_and_go_stays_small() -> None:
    ids = bytearray()
    table = IdTable(ids)
    for _ in range(50):
        names = [os.urandom(16) for _ in range(500)]
        ids[:] = b"".join(names)
        for slot, name in enumerate(names):
            table.add(name, slot)
        assert [table.find(name) for name in names] == list(range(500))
        for name in names:
            table.remove(name)
            assert table.find(name) == -1
    assert sum(len(shard) for shard in table._shards) < 512 * 32
    assert all(isinstance(shard, array) for shard in table._shards)


def test_strings_are_counted() -> None:
    table = Interner()
    first = table.take("a")
    assert table.take("a") == first
    table.drop(first)
    assert table.text(first) == "a"
    table.drop(first)
    assert len(table) == 1
    assert table.take("b") == first
    assert table.take("") == 0
    table.drop(0)
    assert table.text(0) == ""


def test_the_cache_keeps_the_newest() -> None:
    cache = PayloadCache(100)
    for number in range(10):
        cache.put(bytes([number]), bytes(30))
    assert [cache.get(bytes([n])) is not None for n in range(10)] == [False] * 7 + [True] * 3
    cache.put(b"x", bytes(101))
    assert cache.get(b"x") is None
    cache.drop(bytes([9]))
    cache.put(b"y", bytes(40))
    assert cache.get(bytes([7])) is not None


def test_statuses_are_numbered_for_ever() -> None:
    assert [status.value for status in Status] == list(range(7))
    assert [status.is_live for status in Status] == [True] * (LIVE_MAX + 1) + [False] * 4
    assert Status.HELD == HELD
