"""A back end that comes back: what has failed meanwhile does not wait for its schedule."""

from __future__ import annotations

import asyncio
from collections import Counter

from mailqueue.schedule import Limits, RetryPolicy
from mta.address import parse_address
from mta.delivery.outcome import NextHop, Outcome
from mta.envelope import Recipient
from mta.reply import Reply
from tests.unit.spool_kit import DOWN, LATER, OK, Work, played, received

LONG = RetryPolicy(delays=(1000.0,), jitter=0.0, expire=36000.0, warn=None)
RECALLED = {"backend:back": Limits(dead_first=5.0, dead_most=60.0, recalled=True)}


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
        hop = NextHop("backend:back")
        recipient = Recipient(parse_address("new@back.test"))
        work.dispatcher.flush_site("backend:back", work.now())
        assert work.gate.enter(hop) is None
        work.gate.leave(hop, [Outcome(recipient, OK, "hop:25")])
        await asyncio.sleep(10)
        assert len(work.queue.live) == 1
        assert {*names, "both@back.test"} <= {*received(back)}
        assert len(work.hops["relay"].seen) == 1, "a neighbour was hurried as well"
        assert work.states(both)[0].is_live is False
        assert work.journal.recalls == [("backend:back", 21)]

    played(main, Work(limits=RECALLED, retry=LONG))


def test_what_takes_connections_and_then_fails_costs_one_try_a_look() -> None:
    async def main(work: Work) -> None:
        back = work.hops["back"]
        back.answer = lambda address, call: DOWN
        back.looks = lambda: None
        for number in range(5):  # all of them under way when it dies, so that each has its schedule
            await work.add(f"u{number}@back.test")
        await asyncio.sleep(600)
        assert len(back.seen) == 5 + len(back.looked)
        assert 10 <= len(back.looked) <= 14
        tries = Counter(received(back))
        assert max(tries.values()) - min(tries.values()) <= 1, "one message bore all the tries"

    work = Work(limits=RECALLED, retry=LONG)
    work.hops["back"].looks = lambda: None
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
