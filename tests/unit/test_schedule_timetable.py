"""The timetable against a plain dictionary, its memory, and long waits."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mailqueue.schedule import timetable
from mailqueue.schedule.timetable import TICK, Timetable


def drain(table: Timetable, now: float, limit: int = 1000) -> list[int]:
    """All that is due, as the runner takes it."""
    taken = []
    while (at := table.next_due()) is not None and at <= now:
        taken += table.take_due(now, limit)
    return taken


def test_due_in_order() -> None:
    table = Timetable(1000.0)
    for handle, due in enumerate([1900.0, 1001.0, 90_000.0, 1500.0, 4_000_000.0]):
        table.add(handle, due)
    assert len(table) == 5
    assert table.take_due(1000.75, 10) == []
    assert table.take_due(1001.0, 10) == [1]
    assert drain(table, 100_000.0) == [3, 0, 2]
    assert drain(table, 5_000_000.0) == [4]
    assert len(table) == 0
    assert table.next_due() is None


def test_never_early_and_at_most_a_tick_late() -> None:
    table = Timetable(0.0)
    table.add(0, 10.01)
    assert table.due(0) == 10.25
    assert drain(table, 10.2) == []
    assert drain(table, 10.25) == [0]


def test_a_limit_leaves_the_rest() -> None:
    table = Timetable(0.0)
    for handle in range(10):
        table.add(handle, 5.0)
    assert table.take_due(6.0, 4) == [0, 1, 2, 3]
    assert table.next_due() == 6.0
    assert table.take_due(6.0, 100) == [4, 5, 6, 7, 8, 9]


def test_moving_and_removing() -> None:
    table = Timetable(0.0)
    table.add(7, 50.0)
    table.add(7, 5.0)
    assert len(table) == 1
    assert 7 in table
    assert drain(table, 5.0) == [7]
    assert 7 not in table
    table.add(7, 50.0)
    assert table.remove(7)
    assert not table.remove(7)
    assert not table.remove(123_456)
    assert drain(table, 100.0) == []
    with pytest.raises(KeyError):
        table.due(7)
    with pytest.raises(ValueError, match="negative"):
        table.add(-1, 0.0)
    assert -1 not in table


def test_times_outside_the_wheel() -> None:
    table = Timetable(1e9)
    table.add(0, -5.0)
    table.add(1, math.inf)
    table.add(2, 1e30)
    assert drain(table, 1e9) == [0]
    assert drain(table, 1e9 + 30 * 365 * 86_400) == []
    assert sorted(drain(table, 1e9 + 2**32 * TICK)) == [1, 2]


def test_empty_time_costs_nothing() -> None:
    """A table with one message ten years off is asked a handful of times, not once a tick."""
    table = Timetable(0.0)
    table.add(0, 3e8)
    calls = 0
    while len(table):
        at = table.next_due()
        assert at is not None
        table.take_due(at, 10)
        calls += 1
    assert calls <= 4


def test_a_full_slot_comes_down_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timetable, "PORTION", 100)
    table = Timetable(0.0)
    for handle in range(1000):
        table.add(handle, 20_000.0 + handle * 0.25)
    assert table.take_due(20_100.0, 1000) == []
    assert table.next_due() is not None
    table.add(5000, 20_050.0)
    taken = drain(table, 20_100.0)
    assert sorted(taken) == [*range(401), 5000]
    assert taken.index(5000) in (200, 201)
    assert drain(table, 30_000.0) == list(range(401, 1000))


def test_octets_a_handle() -> None:
    """Counted on the arrays themselves, for what the process takes varies with the rest of the run."""
    table = Timetable(0.0)
    dice = random.Random(5)
    for handle in range(100_000):
        table.add(handle, dice.random() * 432_000)
    size = sum(numbers.buffer_info()[1] * 4 for numbers in (table._prev, table._next, table._tick))
    assert size / 100_000 <= 16


class AgainstDictionary(RuleBasedStateMachine):
    """The same calls on a table and on a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Timetable(100.0)
        self.model: dict[int, int] = {}
        self.now = 100.0

    @rule(
        handle=st.integers(0, 40),
        wait=st.one_of(st.floats(-50, 100), st.floats(0, 20_000), st.floats(0, 1e7), st.floats(0, 1e9)),
    )
    def add(self, handle: int, wait: float) -> None:
        self.table.add(handle, self.now + wait)
        self.model[handle] = min(max(0, math.ceil((self.now + wait - 100.0) / TICK)), 2**32 - 1)

    @rule(handle=st.integers(0, 45))
    def remove(self, handle: int) -> None:
        assert self.table.remove(handle) == (self.model.pop(handle, None) is not None)

    @rule(step=st.one_of(st.floats(0, 3), st.floats(0, 500), st.floats(0, 1e6)), limit=st.integers(1, 20))
    def take(self, step: float, limit: int) -> None:
        self.now += step
        present = math.floor((self.now - 100.0) / TICK)
        due = {handle for handle, tick in self.model.items() if tick <= present}
        taken = self.table.take_due(self.now, limit)
        assert len(taken) == min(limit, len(due))
        assert set(taken) <= due
        for handle in taken:
            del self.model[handle]

    @rule()
    def take_at_the_time_it_names(self) -> None:
        at = self.table.next_due()
        if at is not None and at > self.now:
            self.now = at
            for handle in self.table.take_due(at, 100):
                assert self.model.pop(handle) * TICK + 100.0 <= at

    @invariant()
    def same(self) -> None:
        assert len(self.table) == len(self.model)
        at = self.table.next_due()
        if not self.model:
            assert at is None
        else:
            assert at is not None
            assert at <= max(self.now, min(self.model.values()) * TICK + 100.0)
        for handle, tick in self.model.items():
            assert self.table.due(handle) == 100.0 + tick * TICK


TestAgainstDictionary: Any = AgainstDictionary.TestCase
TestAgainstDictionary.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
