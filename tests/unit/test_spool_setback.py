"""The clock is set back while mail waits: nothing waits until it is there again."""

from __future__ import annotations

import asyncio

import pytest

from mailqueue.schedule import Dispatcher, Job, Limits, Rate, Result, Token
from mailqueue.store.memory import MemoryStore
from mta.delivery.outcome import NextHop
from mta.spool.setback import AHEAD, Setbacks
from tests.simulation.loop import run
from tests.unit.spool_kit import DOWN, LATER, OK, Work, played

DAY = 86400.0


def near(found: list[float], wanted: list[float]) -> bool:
    """Times agree but for ticks, and seconds that are rounded down."""
    return len(found) == len(wanted) and all(-1.1 < f - w < 1.5 for f, w in zip(found, wanted, strict=True))


@pytest.mark.parametrize("back", [3600.0, 365 * DAY])
def test_what_was_tried_before_keeps_its_schedule_and_so_does_what_comes_after(back: float) -> None:
    async def main(work: Work) -> None:
        for hop in work.hops.values():
            hop.answer = lambda address, call: LATER if work.age < 2000 else OK
        await work.add("bob@back.test")
        await asyncio.sleep(30)
        work.clock.offset -= back
        await asyncio.sleep(70)
        await work.add("carol@relay.test")
        await work.idle(3000)
        before = [at for at in work.at("back") if at < 2000]
        assert near(before[:2], [0, 60]), before
        # Its age is not known any more, so the first delay of the schedule is used again and again.
        assert 1 < len(before) <= 2000 / 60 + 1
        assert near(work.at("relay")[:3], [100, 160, 460]), work.at("relay")

    played(main)


def test_many_that_wait_do_not_keep_the_loop_busy() -> None:
    async def main(work: Work) -> None:
        await asyncio.sleep(10)
        work.clock.offset -= DAY
        due = work.now() + 600
        for number in range(600):
            await work.add(f"u{number}@back.test", due=due)
        looks = 0
        offer = work.runner._offer

        def counted(handle: int, now: float) -> None:
            nonlocal looks
            looks += 1
            offer(handle, now)

        work.runner._offer = counted  # type: ignore[method-assign]
        await asyncio.sleep(500)
        assert looks < 5 * 600, "what is not due was looked at over and over"
        assert not work.at("back")
        await work.idle(200)
        assert min(work.at("back")) >= 609

    played(main)


def test_a_dead_next_hop_is_looked_for_again() -> None:
    """By mail of the queue and by first tries, at the time that it would have been."""

    async def main(work: Work) -> None:
        relay = work.hops["relay"]
        relay.answer = lambda address, call: DOWN if work.age < 40 else OK
        for number in range(6):
            await work.add(f"u{number}@relay.test")
        await asyncio.sleep(20)
        assert work.gate.is_dead(NextHop("relay:relay"))
        work.clock.offset -= DAY
        await work.add("new@relay.test")
        await asyncio.sleep(50)
        assert not work.gate.is_dead(NextHop("relay:relay"))
        await work.idle(400)

    played(main)


def test_a_process_that_takes_over_goes_on_with_what_was_tried_by_a_clock_that_was_ahead() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with Work(store) as first:
            first.clock.offset += 365 * DAY
            first.hops["back"].answer = lambda address, call: LATER
            await first.add("bob@back.test")
            await asyncio.sleep(10)
        async with Work(store) as second:
            await asyncio.sleep(100)
            assert second.at("back")
            assert not len(second.queue.live)

    run(main())


def test_mail_for_a_later_time_is_not_sent_before_it() -> None:
    """FUTURERELEASE: it came while the clock was ahead, and names a time that is right."""

    async def main(work: Work) -> None:
        release = work.now() + 1000
        work.clock.offset += 500
        await work.add("bob@back.test", due=release)
        await asyncio.sleep(10)
        work.clock.offset -= 500
        await asyncio.sleep(980)
        assert not work.at("back")
        await asyncio.sleep(20)
        assert len(work.at("back")) == 1

    played(main)


def test_rates_and_dead_sites_of_a_dispatcher_go_back_with_the_clock() -> None:
    dispatcher = Dispatcher(
        lambda site: Limits(concurrency=1, initial=1, rate=Rate(1, 60.0)) if site == "slow" else Limits(),
        source_rates={"bulk": Rate(1, 60.0)},
    )
    now = DAY
    for handle, site, source in ((1, "slow", ""), (2, "slow", ""), (3, "other", "bulk"), (4, "more", "bulk")):
        assert dispatcher.offer(Job(handle, site, [0], now, source=source), now) is None
    given = []
    while (assignment := dispatcher.next(now)) is not None:
        given.append(assignment.job.handle)
        dispatcher.done(assignment, Result.ANSWERED, now)
    assert len(given) == 2
    for _ in range(3):
        token = dispatcher.try_acquire("gone", now)
        assert isinstance(token, Token)
        for _ in range(2):
            dispatcher.release(token, Result.UNREACHABLE, now) if token.open else None
    dispatcher.set_back(DAY)
    now = 61.0
    assert dispatcher.dead("gone", now) is None
    while (assignment := dispatcher.next(now)) is not None:
        given.append(assignment.job.handle)
        dispatcher.done(assignment, Result.ANSWERED, now)
    assert sorted(given) == [1, 2, 3, 4]


def test_small_corrections_and_clocks_set_forward_do_not_count() -> None:
    async def main(work: Work) -> None:
        setbacks = Setbacks(work.queue, work.now, work.runner.changed)
        assert setbacks.seconds(1000.0, 1.0) == 0.0
        assert setbacks.seconds(1000.0 - AHEAD + 1, 2.0) == 0.0
        assert setbacks.seconds(50_000.0, 3.0) == 0.0
        assert setbacks.seconds(40_001.0, 4.0) == 10_000.0
        assert setbacks.seconds(40_002.0, 5.0) == 0.0

    played(main)


@pytest.mark.parametrize("forward", [3000.0, 50 * 365 * DAY])
def test_a_clock_that_was_behind_is_seen_when_it_is_set(forward: float) -> None:
    """A small machine without a clock starts in the past and hears of the time after that."""

    async def main(work: Work) -> None:
        await work.add("bob@back.test", due=work.now() + forward)
        await asyncio.sleep(100)
        work.clock.offset += forward
        await work.idle(70)
        assert work.at("back")

    played(main)
