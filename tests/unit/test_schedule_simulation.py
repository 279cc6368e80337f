"""The dispatcher in simulated time, with destinations that take, refuse, hang and limit: bounds."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from heapq import heappop, heappush

import pytest

from mailqueue.schedule.dispatcher import Dispatcher
from mailqueue.schedule.limits import Limits, Rate
from mailqueue.schedule.ready import AGE_STEP, PASS_COST, PASS_CREDIT
from mailqueue.schedule.values import Assignment, Job, Result

Answer = Callable[[Assignment, float], tuple[float, Result]]
"""How long a delivery takes and how it ends."""


def in_one_second(assignment: Assignment, now: float) -> tuple[float, Result]:
    return 1.0, Result.ANSWERED


class World:
    """Offers jobs when they come due, works them off, and offers again what was put off."""

    def __init__(self, dispatcher: Dispatcher, answer: Answer = in_one_second) -> None:
        self.dispatcher = dispatcher
        self.answer = answer
        self.now = 0.0
        self.begun: list[tuple[float, Assignment]] = []
        self.finished: dict[int, float] = {}
        self._events: list[tuple[float, int, Job | tuple[Assignment, Result]]] = []
        self._number = 0

    def at(self, when: float, what: Job | tuple[Assignment, Result]) -> None:
        self._number += 1
        heappush(self._events, (when, self._number, what))

    def run(self, until: float = float("inf")) -> None:
        dispatcher = self.dispatcher
        while True:
            while (assignment := dispatcher.next(self.now)) is not None:
                self.begun.append((self.now, assignment))
                takes, result = self.answer(assignment, self.now)
                self.at(self.now + takes, (assignment, result))
            for back in dispatcher.postponed():
                old = back.job
                self.at(
                    back.until, Job(old.handle, old.site, back.recipients, old.due, old.priority, old.source)
                )
            wake = dispatcher.wake_at(self.now)
            following = self._events[0][0] if self._events else None
            times = [moment for moment in (wake, following) if moment is not None]
            if not times or min(times) > until:
                self.now = max(self.now, until) if until != float("inf") else self.now
                return
            self.now = min(times)
            while self._events and self._events[0][0] <= self.now:
                what = heappop(self._events)[2]
                if isinstance(what, Job):
                    later = dispatcher.offer(what, self.now)
                    if later is not None:
                        self.at(later.until, what)
                else:
                    assignment, result = what
                    if dispatcher.done(assignment, result, self.now, "timeout"):
                        self.finished[assignment.job.handle] = self.now


def steady(width: int, **more: object) -> Dispatcher:
    """Windows that stand still, so that the capacity of a site is known; the queue has 4/5 of them."""
    limits = Limits(concurrency=width, initial=width, **more)  # type: ignore[arg-type]
    return Dispatcher(lambda site: limits, active=100_000)


LIST = 10_000
"""Recipients: 200 deliveries."""


@pytest.mark.parametrize("width", [1, 5, 20])
@pytest.mark.parametrize("load", [0.3, 0.9, 30.0])
def test_small_mail_passes_a_list_at_a_bounded_cost(width: int, load: float) -> None:
    """`load` is of what may pass: at 30 there is far more small mail than the list has to let through."""
    slots = max(1, -(-4 * width // 5))
    dice = random.Random(width)
    world = World(steady(width))
    world.at(0.0, Job(1, "a", range(LIST), 0.0))
    came: dict[int, float] = {}
    now, handle = 1.0, 10
    alone = 200 / slots
    while now < alone:
        now += dice.expovariate(load * slots / (PASS_COST + 1))
        handle += 1
        came[handle] = now
        world.at(now, Job(handle, "a", range(1), now))
    world.run()
    order = [assignment.job.handle for _, assignment in world.begun]
    assert order.count(1) == 200
    # The list loses a fifth and what was saved up, however much small mail there is.
    passed = len(order) - 1 - order[::-1].index(1) + 1 - 200
    assert passed <= 200 / PASS_COST + PASS_CREDIT
    assert world.finished[1] <= (200 + passed) / slots + 2
    # And in any stretch of its way, not only in all.
    places = [place for place, who in enumerate(order) if who == 1]
    for first in range(0, 200, 20):
        for last in range(first, 200):
            others = places[last] - places[first] - (last - first)
            assert others <= (last - first + 1) / PASS_COST + PASS_CREDIT
    if load < 1:
        # Small mail is served as by a server of its own with a sixth of the pace: none waits for the list.
        waits = sorted(world.finished[number] - 1 - when for number, when in came.items())
        assert waits[len(waits) // 2] <= (PASS_COST + 1) / slots * (1 if load < 0.5 else 6) + 1
        assert waits[-1] < alone / 2


def test_one_small_message_waits_for_five_deliveries_at_most() -> None:
    """The worst moment: the credit has just been used up."""
    world = World(steady(1))
    world.at(0.0, Job(1, "a", range(LIST), 0.0))
    for handle in range(2, 5):
        world.at(0.5, Job(handle, "a", range(1), 0.5))
    world.at(3.5, Job(9, "a", range(1), 3.5))
    world.run()
    order = [assignment.job.handle for _, assignment in world.begun]
    assert order[: order.index(9)] == [1, 2, 3, 4, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("priority", [-9, -1, 0])
def test_nobody_starves_under_a_flood_of_higher_priority(priority: int) -> None:
    """The flood takes all the site can do, for ever; the bound is what the levels are worth."""
    world = World(steady(1))
    bound = (9 - priority) * AGE_STEP
    world.at(0.0, Job(1, "a", range(1), 0.0, priority))
    for number in range(int(bound) + 200):
        world.at(float(number), Job(10 + number, "a", range(1), float(number), 9))
    world.run()
    assert bound - 5 <= world.finished[1] <= bound + 5


def test_turns_between_sites_when_sessions_are_short() -> None:
    """A backlog of one site, a little mail for fifty others: all get the same while they have work."""
    dispatcher = Dispatcher(lambda site: Limits(concurrency=20, initial=20, recipients=1), connections=25)
    world = World(dispatcher)
    for handle in range(3000):
        world.at(0.0, Job(handle, "huge", range(1), 0.0))
    for site in range(50):
        for number in range(20):
            world.at(0.0, Job(10_000 + 20 * site + number, f"s{site}", range(1), 0.0))
    world.run(until=20.0)
    share = Counter(assignment.job.site for _, assignment in world.begun)
    assert max(share.values()) - min(share.values()) <= 1
    world.run()
    assert len(world.finished) == 4000
    assert world.now <= 4000 / 10 + 5  # and the backlog has the rest for itself: half of all sessions


def test_a_dead_site_does_not_block_others_and_is_probed() -> None:
    up = {"at": 7200.0}

    def answer(assignment: Assignment, now: float) -> tuple[float, Result]:
        if assignment.job.site == "down" and now < up["at"]:
            return 30.0, Result.UNREACHABLE
        return 1.0, Result.ANSWERED

    limits = Limits(concurrency=10, initial=5)
    world = World(Dispatcher(lambda site: limits, connections=25, active=1000), answer)
    for handle in range(900):
        world.at(0.0, Job(handle, "down", range(1), 0.0))
        world.at(float(handle), Job(10_000 + handle, "up", range(1), float(handle)))
    world.run()
    late = max(world.finished[10_000 + handle] - handle for handle in range(900))
    assert late <= 2.0
    tries = [now for now, assignment in world.begun if assignment.job.site == "down" and now < up["at"]]
    # One window until it is found dead, then 60, 120, ... 1800 s from the end of one probe to the next.
    assert len(tries) <= 4 + 9
    after = min(now for now, assignment in world.begun if assignment.job.site == "down" and now >= up["at"])
    assert after <= up["at"] + limits.dead_most + 30
    # Once it is back the rest follows without a pause.
    assert len({world.finished[handle] for handle in range(900)}) > 10
    assert max(world.finished[handle] for handle in range(900)) <= after + 900 / 8 + 60


def test_rates_hold_over_any_stretch_and_are_used() -> None:
    """Sites with rates behind a source with one: neither is broken, the narrower one is used up."""
    site_rate, source_rate = Rate(30, 60.0, 3), Rate(120, 60.0, 2)
    dispatcher = Dispatcher(
        lambda site: Limits(rate=site_rate), source_rates={"pool": source_rate}, active=50_000
    )
    world = World(dispatcher)
    for handle in range(3000):
        world.at(0.0, Job(handle, f"s{handle % 10}", range(1), 0.0, source="pool"))
    world.run(until=600.0)
    times: dict[str, list[float]] = defaultdict(list)
    for now, assignment in world.begun:
        times[assignment.job.site].append(now)
        times["all"].append(now)
    for name, moments in times.items():
        rate = source_rate if name == "all" else site_rate
        for first in range(0, len(moments), 3):
            for last in range(first, len(moments), 5):
                allowed = rate.burst + (moments[last] - moments[first]) * rate.count / rate.seconds
                assert last - first + 1 <= allowed + 1e-6
    assert len(times["all"]) >= 0.95 * 600 * 2
    shares = [len(moments) for name, moments in times.items() if name != "all"]
    assert max(shares) - min(shares) <= 5


def test_a_site_that_takes_only_so_many_is_used_fully() -> None:
    """A site that refuses the ninth session: 8 are kept busy, and none of the rest is mistaken for death."""
    running: list[float] = []
    refused = 0

    def answer(assignment: Assignment, now: float) -> tuple[float, Result]:
        nonlocal refused
        running[:] = [end for end in running if end > now]
        if len(running) >= 8:
            refused += 1
            return 0.01, Result.OVERLOADED
        running.append(now + 1.0)
        return 1.0, Result.ANSWERED

    dispatcher = Dispatcher(active=100_000)
    world = World(dispatcher, answer)
    for handle in range(5000):
        world.at(0.0, Job(handle, "a", range(1), 0.0))
    world.run(until=500.0)
    answered = len(world.begun) - refused
    assert answered >= 0.85 * 8 * 500
    assert refused <= 0.08 * answered
    assert dispatcher.stats()[0].dead_until is None


def test_the_cost_does_not_grow_with_what_waits() -> None:
    """A job in a queue sixteen times as long costs about the same; three times is a busy machine's noise."""

    def cost(jobs: int) -> float:
        dispatcher = Dispatcher(active=10**6)
        for number in range(jobs):
            dispatcher.offer(Job(number, f"s{number % 7}", range(1 + number % 60), float(number)), 1e6)
        done = 0
        start = time.process_time()
        while done < 1000 and (assignment := dispatcher.next(1e6)) is not None:
            dispatcher.done(assignment, Result.ANSWERED, 1e6)
            done += 1
        return (time.process_time() - start) / done

    few = many = float("inf")
    for _ in range(10):
        few, many = min(few, cost(1000)), min(many, cost(16_000))
        if many <= 2 * few:
            break
    assert many <= 3 * few
