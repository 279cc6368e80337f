"""Seeded runs of a cluster in which everything goes wrong: no accepted message is lost.

`SIMULATION_RUNS` (default 40) says how many seeds are tried, `SIMULATION_FIRST` which one is the first. A
failing seed fails again: `play(seed, 2 + seed % 4, **STORES[kind])`. The first number counts for each kind of
store.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.simulation.loop import Deadlock
from tests.simulation.world import World

RUNS = int(os.environ.get("SIMULATION_RUNS", "40"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))
SHARE = 20
WINDOWS = {"done, not yet durable", "at the same time"}
"""What the documentation names: the owner ended, or was cut off, between a delivery and its record's
commit."""


STORES: dict[str, dict[str, int]] = {
    "one store": {},
    "two, both": {"stores": 2, "copies": 2},
    "three, two of them": {"stores": 3, "copies": 2},
}


def play(seed: int, machines: int, **stores: int) -> World:
    world = World(seed, machines, **stores)
    try:
        world.play(60.0)
    except Deadlock as error:
        world.ledger.errors.append(str(error))
    return world


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("first", range(FIRST, FIRST + RUNS, SHARE))
def test_nothing_accepted_is_lost_and_nothing_settled_comes_back(first: int, kind: str) -> None:
    windows: Counter[str] = Counter()
    accepted = 0
    for seed in range(first, min(first + SHARE, FIRST + RUNS)):
        world = play(seed, 2 + seed % 4, **STORES[kind])
        problems = world.check()
        world.timeline.close()
        assert not problems, f"seed {seed}: {problems[:5]}"
        windows += world.ledger.windows
        accepted += len(world.ledger.accepted)
    assert accepted > SHARE * 5
    assert set(windows) <= WINDOWS
    assert sum(windows.values()) < accepted / 50, windows


def test_a_run_depends_on_its_seed_only() -> None:
    runs = [play(7, 3) for _ in range(2)]
    assert runs[0].ledger.accepted == runs[1].ledger.accepted
    assert runs[0].timeline.now == runs[1].timeline.now
    assert runs[0].memories[0]._objects == runs[1].memories[0]._objects
    for world in runs:
        world.timeline.close()
