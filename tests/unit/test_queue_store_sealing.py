"""No acknowledged entry escapes a seal: an owner and takers on stores that fail, in thousands of seeded runs.

One owner appends entries, several at the same time, and calls entry n committed when all of 0..n are
acknowledged. Takers read and seal the same log while it does. Stores lose answers, answer late, act late, and
cannot be reached for a while, for each node on its own. Whatever happens: who has sealed a log at n has all
that was or ever will be committed below n, and can read it.

The last tests break the rules on purpose: the runs have to notice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from mailqueue.store.base import SEAL_MARK, StoreError, StoreUnavailable, is_seal
from mailqueue.store.memory import MemoryStore
from mailqueue.store.replicated import Member, Replicated
from tests.peers.faultstore import FaultStore, Kind, RandomFaults
from tests.simulation.loop import run as run_virtual

SEEDS = 16
"""Runs of each layout."""
LAYOUTS = [
    ("ab", 2),
    ("abc", 2),
    ("abc", 3),
    ("abcde", 3),
    ("abcd", 2),
    ("Ab", 2),
    ("Abc", 2),
    ("Abc", 3),
    ("ABcd", 3),
]
"""Stores, capital letters for those that only the node itself sees; and copies."""
PREFIX = "log/s/"
GIVE_UP = 150.0
"""Seconds of virtual time after which everybody stops."""
RATES = {Kind.BEFORE: 0.1, Kind.LOST: 0.1, Kind.LATE: 0.1}

Sabotage = Callable[[Replicated], None]


@dataclass
class Run:
    """One world, and what was seen in it."""

    seed: int
    layout: str
    copies: int
    sabotage: Sabotage = lambda store: None
    committed: int = 0
    """Entries that the owner calls committed."""
    fenced: bool = False
    sealed: dict[int, list[bytes]] = field(default_factory=dict)
    """By taker: the entries it read below its seal."""
    takers: dict[int, Replicated] = field(default_factory=dict)
    unreadable: str = ""
    """What a taker could not read after its seal, in good weather."""
    shared: dict[str, MemoryStore] = field(default_factory=dict)
    networks: list[FaultStore] = field(default_factory=list)
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.layout} {self.copies} {self.seed}")

    def node(self) -> tuple[Replicated, list[FaultStore]]:
        """The stores as one node sees them."""
        faulty = []
        for name in self.layout:
            inner = MemoryStore(name) if name.isupper() else self.shared.setdefault(name, MemoryStore(name))
            faults = RandomFaults(self.random, RATES, delay=0.2, writes_only=True)
            faulty.append(FaultStore(inner, faults, generator=self.random, lateness=30.0))
        members = [
            Member(store, private=name.isupper()) for store, name in zip(faulty, self.layout, strict=True)
        ]
        authority = next(index for index, name in enumerate(self.layout) if name.islower())
        self.networks += faulty
        store = Replicated(members, self.copies, authority)
        self.sabotage(store)
        return store, faulty

    async def main(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + GIVE_UP
        owner, stores = self.node()
        tasks = [asyncio.ensure_future(self.own(owner, end))]
        networks = [asyncio.ensure_future(self.weather(stores, end))]
        for number in range(2):
            store, stores = self.node()
            networks.append(asyncio.ensure_future(self.weather(stores, end)))
            tasks.append(asyncio.ensure_future(self.take(number, store, self.random.uniform(0, 30), end)))
        await asyncio.gather(*tasks)
        for task in networks:
            task.cancel()
        await asyncio.gather(*networks, return_exceptions=True)
        for faulty in self.networks:
            faulty.faults, faulty.down = None, False
        for taker, store in self.takers.items():
            for number in range(self.committed):
                try:
                    found = await store.get(f"{PREFIX}{number:04}")
                except StoreError as error:
                    found = str(error).encode()
                if found != b"entry %d" % number:
                    self.unreadable = f"taker {taker} reads {found!r} instead of entry {number}"

    async def weather(self, stores: list[FaultStore], end: float) -> None:
        """Stores cannot be reached for a while, each node for itself."""
        while True:
            await asyncio.sleep(self.random.expovariate(1 / 10))
            store = self.random.choice(stores)
            store.down = True
            await asyncio.sleep(self.random.expovariate(1 / 3))
            store.down = False

    async def own(self, store: Replicated, end: float) -> None:
        """Append, four entries at a time, until fenced."""
        acknowledged: set[int] = set()

        async def append(first: int) -> None:
            for number in range(first, 1000, 4):
                await asyncio.sleep(self.random.expovariate(1 / 2))
                while True:
                    if self.fenced or asyncio.get_running_loop().time() > end:
                        return
                    try:
                        good = await store.put_new(f"{PREFIX}{number:04}", b"entry %d" % number)
                    except StoreUnavailable:
                        await asyncio.sleep(0.5)
                        continue
                    break
                if not good:
                    self.fenced = True
                    return
                acknowledged.add(number)
                while self.committed in acknowledged:
                    self.committed += 1

        await asyncio.gather(*(append(first) for first in range(4)))

    async def take(self, taker: int, store: Replicated, wait: float, end: float) -> None:
        """Read the log, seal it at the first missing number, and read on when something is there."""
        await asyncio.sleep(wait)
        entries: list[bytes] = []
        while asyncio.get_running_loop().time() < end:
            try:
                if await self.follow(store, entries):
                    continue
                result = await store.seal_new(f"{PREFIX}{len(entries):04}", SEAL_MARK + b"%d" % taker)
                if not result.sealed:
                    entries.append(result.found)
                    continue
            except StoreError:
                await asyncio.sleep(1.0)
                continue
            self.sealed[taker] = entries
            self.takers[taker] = store
            return

    async def follow(self, store: Replicated, entries: list[bytes]) -> bool:
        """Read the entries that follow those we have, as far as they are dense; False when there is none."""
        keys = set(await store.list_after(PREFIX, f"{PREFIX}{len(entries) - 1:04}" if entries else ""))
        first = last = len(entries)
        while f"{PREFIX}{last:04}" in keys:
            last += 1
        found = await asyncio.gather(
            *(store.get(f"{PREFIX}{number:04}") for number in range(first, last)), return_exceptions=True
        )
        for entry in found:
            if isinstance(entry, BaseException) or is_seal(entry):
                break
            entries.append(entry)
        return len(entries) > first

    def lost(self) -> str:
        """What is wrong after the run, "" when all is well."""
        for taker, entries in self.sealed.items():
            if entries != [b"entry %d" % number for number in range(len(entries))]:
                return f"taker {taker} read {entries}"
            if len(entries) < self.committed:
                return f"taker {taker} sealed at {len(entries)}, but {self.committed} entries are committed"
        return self.unreadable


def runs(layout: str, copies: int, seeds: int, sabotage: Sabotage = lambda store: None) -> Iterator[Run]:
    """Runs with these many seeds, ended."""
    for seed in range(seeds):
        run = Run(seed, layout, copies, sabotage)
        run_virtual(run.main())
        yield run


@pytest.mark.parametrize(("layout", "copies"), LAYOUTS)
def test_no_committed_entry_escapes_a_seal(layout: str, copies: int) -> None:
    done = list(runs(layout, copies, SEEDS))
    assert [(run.seed, run.lost()) for run in done if run.lost()] == []
    # Else nothing was tried.
    assert sum(bool(run.sealed) for run in done) > SEEDS * 0.9
    assert sum(run.committed for run in done) > SEEDS * 2


def _one_store_fewer(store: Replicated) -> None:
    store._needed -= 1


def _folders_count(store: Replicated) -> None:
    """The seals on the taker's own disk count as if all nodes saw it."""
    store._shared = tuple(range(len(store.members)))


@pytest.mark.parametrize(
    ("layout", "copies", "sabotage"),
    [("abc", 2, _one_store_fewer), ("abcde", 3, _one_store_fewer), ("Ab", 2, _folders_count)],
)
def test_broken_rules_are_noticed(layout: str, copies: int, sabotage: Sabotage) -> None:
    assert any(run.lost() for run in runs(layout, copies, 20 * SEEDS, sabotage))
