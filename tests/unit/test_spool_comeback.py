"""A back end that comes back: what has failed meanwhile does not wait for its schedule."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from mailqueue.schedule import Limits, RetryPolicy
from mailqueue.store.memory import MemoryStore
from mta.address import parse_address
from mta.delivery.outcome import NextHop, Outcome
from mta.envelope import Envelope, Recipient
from mta.reply import Reply
from mta.spool.comeback import EXTRA
from mta.spool.gate import Permit
from tests.simulation.loop import run
from tests.unit.spool_kit import DOWN, LATER, OK, Work, played, received

LONG = RetryPolicy(delays=(1000.0,), jitter=0.0, expire=36000.0, warn=None)
SOONER = RetryPolicy(delays=(500.0,), jitter=0.0, expire=36000.0, warn=None)
RECALLED = {"backend:back": Limits(dead_first=5.0, dead_most=60.0, recalled=True)}


async def first_try(work: Work, reply: Reply = OK) -> bool:
    """New mail comes in and is delivered, or meets another reply; False when it is not let through."""
    hop = NextHop("backend:back")
    permit = work.gate.enter(hop)
    if not isinstance(permit, Permit):
        return False
    await asyncio.sleep(0.05)
    permit.leave([Outcome(Recipient(parse_address("new@back.test")), reply, "hop:25")])
    return True


def test_one_message_alone_does_not_wait_for_its_schedule() -> None:
    """Fewer failures than make a next hop dead; looks find out, which are no tries."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: DOWN if work.age < 50 else OK
        back.looks = lambda: DOWN if work.age < 50 else None
        await work.add("bob@back.test")
        await work.idle(100)
        assert work.age < 90
        assert len(back.seen) == 2, "the looks were counted as tries"
        assert work.journal.recalls == []

    work = Work(limits=RECALLED, retry=LONG)
    work.hops["back"].looks = lambda: DOWN
    played(main, work)


def test_all_that_waits_goes_when_a_first_try_is_answered() -> None:
    """Also what was over its limit of dead ones, and nothing that waits for somebody else."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: DOWN if work.age < 100 else OK
        work.hops["relay"].answer = lambda address, call: LATER
        names = [f"u{number}@back.test" for number in range(20)]
        for name in names:
            await work.add(name)
        both = await work.add("both@back.test", "carol@relay.test")
        await asyncio.sleep(101)
        work.dispatcher.flush_site("backend:back", work.now())
        assert await first_try(work)
        await asyncio.sleep(10)
        assert len(work.queue.live) == 1
        assert {*names, "both@back.test"} <= {*received(back)}
        assert len(work.hops["relay"].seen) == 1, "a neighbour was hurried as well"
        assert work.states(both)[0].is_live is False
        assert work.journal.recalls == [("backend:back", 21)]

    played(main, Work(limits=RECALLED, retry=LONG))


def test_what_takes_connections_and_then_fails_costs_few_tries() -> None:
    """One message at each look, and none of them more than its share."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: DOWN
        back.looks = lambda: None
        for number in range(5):  # all of them under way when it dies, so that each has its schedule
            await work.add(f"u{number}@back.test")
        await asyncio.sleep(900)
        assert len(back.looked) >= 12
        assert set(Counter(received(back)).values()) == {1 + EXTRA}

    work = Work(limits=RECALLED, retry=LONG)
    work.hops["back"].looks = lambda: None
    played(main, work)


LOST = Reply(451, "4.4.2", "The next server did not answer", "closed after the end of data")


@pytest.mark.parametrize(("sent", "tries"), [(True, 1), (False, 1 + EXTRA)])
def test_a_message_that_breaks_its_connection_is_not_sent_again_and_again(sent: bool, tries: int) -> None:
    """While other mail is answered: each try of it may have left a copy in the mail store."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.sent = sent
        back.answer = lambda address, call: LOST if address.startswith("poison") else OK
        back.looks = lambda: None
        await work.add("poison@back.test")
        for _ in range(600):
            await asyncio.sleep(1)
            await first_try(work)
        assert len(back.seen) == tries
        assert len(work.journal.recalls) <= EXTRA

    work = Work(limits=RECALLED, retry=LONG)
    work.hops["back"].looks = lambda: None
    played(main, work)


def test_a_message_that_was_handed_over_is_no_reason_to_look_after_a_takeover() -> None:
    store = MemoryStore()
    works = [Work(store, limits=RECALLED, retry=LONG) for _ in range(2)]

    async def both() -> None:
        for work in works:
            work.hops["back"].sent = True
            work.hops["back"].answer = lambda address, call: LOST
            work.hops["back"].looks = lambda: None
        async with works[0] as first:
            await first.add("poison@back.test")
            await asyncio.sleep(2)
        async with works[1] as second:
            while not len(second.queue.live):  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.1)
            await asyncio.sleep(300)
            assert (second.hops["back"].seen, second.hops["back"].looked) == ([], [])

    run(both(), 1e6)


def test_one_that_comes_back_for_a_moment_only() -> None:
    """What was recalled, and then had no turn, is recalled once more."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        up = [False]
        back.answer = lambda address, call: OK if up[0] else DOWN
        back.looks = lambda: None if up[0] else DOWN
        for number in range(100):
            await work.add(f"u{number}@back.test")
        while len(set(received(back))) < 100:  # each has failed, and has its schedule
            await work.acts.flush("backend:back")
            await asyncio.sleep(1)
        await asyncio.sleep(60)
        up[0] = True
        work.dispatcher.flush_site("backend:back", work.now())
        await first_try(work)
        await asyncio.sleep(0.35)
        up[0] = False
        await asyncio.sleep(90)
        left = len(work.queue.live)
        assert 0 < left < 100
        up[0] = True
        await work.idle(120)

    work = Work(limits=RECALLED, retry=LONG)
    work.hops["back"].looks = lambda: DOWN
    played(main, work)


@pytest.mark.parametrize("up_at", [9, 30], ids=["found well", "found dead"])
def test_mail_that_comes_while_a_look_takes_long_has_its_turn_after_it(up_at: float) -> None:
    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: DOWN if work.age < up_at else OK
        work.hops["relay"].answer = lambda address, call: LATER
        await work.add("w@relay.test")
        for _ in range(5):
            assert await first_try(work, DOWN)
            if work.gate.is_dead(NextHop("backend:back")):
                break
        while not back.looked:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        await work.add("n@back.test")
        await asyncio.sleep(up_at + 80)
        assert received(back)[-1:] == ["n@back.test"]
        assert len(work.queue.live) == 1

    work = Work(limits=RECALLED, retry=LONG)
    back = work.hops["back"]
    back.looks = lambda: DOWN if work.age < up_at else None
    back.look_seconds = 8.0
    played(main, work)


@pytest.mark.parametrize("news", ["a look", "new mail"])
def test_who_takes_the_queue_over_looks_for_what_others_could_not_reach(news: str) -> None:
    """What a process knew of its next hops ends with it: at a reload, a restart, a crash."""
    store = MemoryStore()

    async def before(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: DOWN
        work.hops["relay"].answer = lambda address, call: DOWN
        for number in range(6):
            await work.add(f"u{number}@back.test", "carol@relay.test")
        await asyncio.sleep(4)

    async def after(work: Work) -> None:
        while len(work.queue.live) < 6:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        if news == "new mail":
            await first_try(work)
        await asyncio.sleep(30)
        assert sorted({*received(work.hops["back"])}) == [f"u{number}@back.test" for number in range(6)]
        assert len(work.hops["back"].seen) == 6
        # What was put off untried is due; one of others is left to the schedule.
        assert len(work.hops["relay"].seen) < 3

    first = Work(store, limits=RECALLED, retry=LONG)
    first.hops["back"].looks = lambda: DOWN
    second = Work(store, limits=RECALLED, retry=LONG)
    second.hops["back"].looks = lambda: DOWN if news == "new mail" else None

    async def both() -> None:
        async with first:
            await before(first)
        async with second:
            await after(second)
        assert not first.journal.failures + second.journal.failures

    run(both(), 1e6)


def test_what_may_still_be_answered_is_left_alone() -> None:
    """The next hop had it all at the deadline: a second try would bring a copy."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: LOST if work.age < 10 else OK
        name = await work.add("late@back.test")
        work.runner.awaited(name)
        await asyncio.sleep(5)
        assert await first_try(work, DOWN)
        await asyncio.sleep(5)
        for _ in range(80):
            await first_try(work)
            await first_try(work, DOWN)
            await asyncio.sleep(1)
        assert len(back.seen) == 1
        for _ in range(20):
            await first_try(work)
            await first_try(work, DOWN)
            await asyncio.sleep(1)
        assert len(back.seen) == 2, "it is like others when no answer came"

    work = Work(limits=RECALLED, retry=LONG)
    work.hops["back"].sent = True
    work.hops["back"].looks = lambda: None
    played(main, work)


@pytest.mark.parametrize("hold", [0, 259200])
def test_a_message_that_was_held_has_no_more_tries_than_others(hold: int) -> None:
    """FUTURERELEASE: its schedule begins at its release."""

    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: LOST if address.startswith("poison") else OK
        start = work.now() + hold
        envelope = Envelope(parse_address("alice@home.test"))
        envelope.hold_for = hold or None
        message = work.message("poison@back.test", envelope=envelope, due=start)
        message.expires = start + LONG.expire
        work.runner.added(await work.queue.enqueue(message))
        await asyncio.sleep(hold)
        for _ in range(600):
            await asyncio.sleep(1)
            await first_try(work)
        assert len(back.seen) == 1 + EXTRA

    work = Work(limits=RECALLED, retry=LONG)
    work.hops["back"].looks = lambda: None
    played(main, work, 1e7)


def test_who_takes_over_looks_at_once_although_other_mail_waits() -> None:
    """What was taken over is due later than what its taker has: nothing else wakes it."""
    store = MemoryStore()
    first, second = Work(store, limits=RECALLED, retry=LONG), Work(store, limits=RECALLED, retry=SOONER)
    for work in (first, second):
        work.hops["back"].looks = lambda: None
    first.hops["back"].answer = lambda address, call: DOWN
    second.hops["relay"].answer = lambda address, call: LATER

    async def both() -> None:
        async with second:
            await second.add("carol@relay.test")
            await asyncio.sleep(5)
            async with first:
                await first.add("bob@back.test")
                await asyncio.sleep(2)
            while len(second.queue.live) < 2:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.1)
            await asyncio.sleep(30)
            assert received(second.hops["back"]) == ["bob@back.test"]

    run(both(), 1e6)


def test_our_own_pool_that_is_full_says_nothing_of_the_next_hop() -> None:
    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: DOWN
        back.looks = lambda: Reply(451, "4.4.5", "busy", "no place in the pool")
        await work.add("bob@back.test")
        await asyncio.sleep(600)
        assert len(back.looked) >= 8
        assert not work.dispatcher.any_dead()

    work = Work(limits=RECALLED, retry=LONG)
    work.hops["back"].looks = lambda: DOWN
    played(main, work)


def test_a_reply_of_the_next_hop_itself_is_waited_out() -> None:
    """452, and what the world refuses: the schedule is the policy's."""

    async def main(work: Work) -> None:
        work.hops["back"].answer = lambda address, call: Reply(452, "4.2.2", "over quota")
        work.hops["relay"].answer = lambda address, call: DOWN
        await work.add("bob@back.test")
        await work.add("carol@relay.test")
        await asyncio.sleep(900)
        assert [len(work.hops[name].seen) for name in ("back", "relay")] == [1, 1]

    played(main, Work(limits=RECALLED, retry=LONG))


def test_nothing_is_looked_for_when_nothing_waits() -> None:
    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: DOWN
        back.looks = lambda: DOWN
        name = await work.add("bob@back.test")
        await asyncio.sleep(60)
        assert len(back.looked) >= 3
        assert await work.acts.act("delete", name, "")
        await asyncio.sleep(60)
        before = len(back.looked)
        await asyncio.sleep(600)
        assert len(back.looked) == before

    work = Work(limits=RECALLED, retry=LONG)
    work.hops["back"].looks = lambda: DOWN
    played(main, work)
