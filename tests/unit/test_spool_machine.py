"""The whole life of queued mail with random answers, deaths and administrators, against a ledger.

For each recipient, whatever happens: it is delivered, or its sender is told, or an administrator has taken
it out; never two of these, never none. Twice delivered may be only what was on its way when a process died.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from mailqueue.schedule import Limits, RetryPolicy
from mailqueue.store.memory import MemoryStore
from mta.reply import Reply
from tests.simulation.loop import run
from tests.simulation.queues import crash
from tests.unit.spool_kit import DOWN, LATER, NO, OK, Work

SEEDS = range(12)
MESSAGES = 25
RETRY = RetryPolicy(delays=(30.0, 120.0), jitter=0.1, expire=1200.0, warn=400.0)
LIMITS = {"backend:back": Limits(concurrency=4, initial=2, dead_first=5.0, dead_most=60.0, recipients=3)}


@dataclass
class Ledger:
    """What the outside world saw."""

    delivered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    """Recipients named as failed in reports."""
    cancelled: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    """On their way when a process died."""


def life(chance: random.Random, ledger: Ledger, store: MemoryStore) -> Work:
    """One process life."""
    work = Work(store, retry=RETRY, limits=LIMITS)

    def answer(address: str, call: int) -> Reply:
        kind = address[0]
        reply = OK
        if kind == "n":
            reply = NO
        elif kind == "e":
            reply = LATER
        elif kind == "f":
            reply = chance.choice([OK, LATER, DOWN, LATER])
        if reply.is_positive:
            ledger.delivered[address] += 1
        return reply

    def reported(address: str, call: int) -> Reply:
        text = home.seen[call].octets
        if b"Action: failed" in text:
            for line in text.split(b"\r\n"):
                if line.startswith(b"Final-Recipient: rfc822; "):
                    ledger.failed[line.removeprefix(b"Final-Recipient: rfc822; ").decode()] += 1
        return OK

    for name in ("back", "relay"):
        hop = work.hops[name]
        hop.answer = answer
        hop.seconds = chance.choice([0.01, 0.5, 3.0])
    home = work.hops["home"]
    home.answer = reported
    return work


async def interfere(work: Work, chance: random.Random, ledger: Ledger) -> None:
    """An administrator does something to some message."""
    handles = list(work.queue.live.handles())
    if not handles:
        return
    name = work.queue.live.id_of(chance.choice(handles))
    message = await work.queue.load(name)
    if message.sender == "":
        return  # a report
    match chance.choice(["hold", "hold", "release", "release", "retry", "retry", "flush", "flush", "delete"]):
        case "delete":
            before = {s.position for s in work.queue.live.recipients(message.handle) if s.status.is_live}
            busy = set(work.runner.withdraw(message.handle))
            if await work.acts.act("delete", name):
                ledger.cancelled.update(message.recipients[p].address for p in before - busy)
        case "flush":
            await work.acts.flush("")
        case "hold":
            if await work.acts.act("hold", name):
                await asyncio.sleep(chance.random() * 60)
                await work.acts.act("release", name)
        case action:
            await work.acts.act(action, name)


async def story(seed: int) -> None:
    chance, ledger, store = random.Random(seed), Ledger(), MemoryStore()
    random.seed(seed)  # the jitter of retries
    everyone: set[str] = set()
    number = 0
    for end in ("crash", "close", "crash", "drain"):
        work = life(chance, ledger, store)
        await work.__aenter__()
        for _ in range(MESSAGES):
            people = []
            for _ in range(chance.choice([1, 1, 1, 2, 8])):
                number += 1
                people.append(f"{chance.choice('ooofne')}{number}@{chance.choice(['back', 'relay'])}.test")
            everyone.update(people)
            await work.add(*people, due=work.now() + chance.choice([0.0, 0.0, 5.0]))
            await asyncio.sleep(chance.random() * 3)
            if chance.random() < 0.2:
                await interfere(work, chance, ledger)
        if end == "drain":
            await asyncio.sleep(30)  # the messages of the last life
            await work.idle(10_000.0)
            await asyncio.sleep(5)  # the last reports
            await work.idle(10_000.0)
        elif end == "crash":
            await asyncio.sleep(chance.random() * 200)
            crash(work.queue)
            for flight in work.runner._flights.values():
                if flight.loaded is not None:
                    people = [who.address.text for who in flight.loaded.recipients]
                    ledger.doubtful.update(people[position] for position in flight.positions)
            work.task.cancel()
            await work.runner._tries.stop(0.0)
            await asyncio.gather(work.task, return_exceptions=True)
            await asyncio.sleep(20)  # so that the next life takes it for dead
            assert not work.journal.failures, work.journal.failures
            continue
        await work.runner.stop(1.0)
        await work.task
        await work.queue.close()
        assert not work.journal.failures, work.journal.failures
    check(everyone, ledger)


def check(everyone: set[str], ledger: Ledger) -> None:
    for address in everyone:
        ends = [
            ledger.delivered[address] > 0,
            ledger.failed[address] > 0,
            address in ledger.cancelled,
        ]
        assert any(ends), f"{address} is lost"
        if address not in ledger.doubtful:
            assert sum(ends) == 1, (address, ends)
            assert ledger.delivered[address] <= 1, f"{address} came twice"
    assert set(ledger.failed) | set(ledger.delivered) | ledger.cancelled <= everyone


@pytest.mark.parametrize("seed", SEEDS)
def test_every_recipient_has_one_end(seed: int) -> None:
    run(story(seed))
