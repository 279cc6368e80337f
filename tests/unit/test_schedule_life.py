"""Timetable, retry policy and dispatcher together, as a runner uses them: days of simulated time."""

from __future__ import annotations

import random
from collections import Counter
from heapq import heappop, heappush

from mailqueue.schedule import (
    Assignment,
    Deadlines,
    Dispatcher,
    Job,
    Limits,
    Result,
    RetryPolicy,
    Timetable,
    next_step,
)

DAY = 86_400.0
POLICY = RetryPolicy(expire=5 * DAY)


class Runner:
    """The least that works a queue. Odd handles meet greylisting; some sites are down for a while."""

    def __init__(self, messages: int, down: dict[str, float], seed: int) -> None:
        self.dice = random.Random(seed)
        self.table = Timetable(0.0)
        self.dispatcher = Dispatcher(lambda site: Limits(), active=300)
        self.down = down
        self.attempts = [0] * messages
        self.created = [self.dice.random() * 600 for _ in range(messages)]
        self.ended: dict[int, tuple[str, float]] = {}
        self.running: list[tuple[float, int, Assignment, Result]] = []
        self.begun: list[tuple[float, int]] = []
        self.wakes = 0
        self.now = 0.0
        for handle in range(messages):
            self.table.add(handle, self.created[handle])

    def site(self, handle: int) -> str:
        return f"s{handle % 20}"

    def fail(self, handle: int) -> None:
        self.attempts[handle] += 1
        deadlines = Deadlines(self.created[handle])
        step = next_step(POLICY, deadlines, self.attempts[handle], self.now, self.dice.random)
        if step.action == "retry":
            self.table.add(handle, step.at)
        else:
            self.ended[handle] = (step.action, self.now)

    def start(self) -> None:
        while (assignment := self.dispatcher.next(self.now)) is not None:
            handle, site = assignment.job.handle, assignment.job.site
            self.begun.append((self.now, handle))
            if self.now < self.down.get(site, 0.0):
                takes, result = 30.0, Result.UNREACHABLE
            else:
                takes, result = 0.1 + self.dice.random(), Result.ANSWERED
            heappush(self.running, (self.now + takes, len(self.begun), assignment, result))

    def finish(self) -> None:
        while self.running and self.running[0][0] <= self.now:
            _, _, assignment, result = heappop(self.running)
            handle = assignment.job.handle
            assert self.dispatcher.done(assignment, result, self.now, "timeout")
            greylisted = handle % 2 == 1 and self.now < self.created[handle] + 240
            if result is Result.ANSWERED and not greylisted:
                assert handle not in self.ended
                self.ended[handle] = ("delivered", self.now)
            else:
                self.fail(handle)
        for back in self.dispatcher.postponed():
            self.put_off(back.job.handle, back.until)

    def put_off(self, handle: int, until: float) -> None:
        """An offer refused, or work given back: not an attempt, but the end may have come meanwhile."""
        if self.now >= self.created[handle] + POLICY.expire:
            self.ended[handle] = ("expire", self.now)
        else:
            self.table.add(handle, until)

    def offer(self) -> None:
        for handle in self.table.take_due(self.now, self.dispatcher.room):
            job = Job(handle, self.site(handle), range(1), self.now)
            later = self.dispatcher.offer(job, self.now)
            if later is not None:
                self.put_off(handle, later.until)

    def run(self) -> None:
        while True:
            self.wakes += 1
            self.finish()
            self.offer()
            self.start()
            times = [self.dispatcher.wake_at(self.now)]
            times.append(self.running[0][0] if self.running else None)
            times.append(self.table.next_due() if self.dispatcher.room else None)
            known = [at for at in times if at is not None]
            if not known:
                return
            assert self.running or min(known) > self.now
            self.now = max(self.now, min(known))


def test_every_message_ends_once_and_in_time() -> None:
    down = {"s3": 2 * DAY, "s4": 3600.0, "s5": 99 * DAY}
    runner = Runner(2000, down, seed=1)
    runner.run()
    assert len(runner.ended) == 2000
    assert len(runner.table) == 0
    assert runner.dispatcher.room == 300
    for handle, (how, when) in runner.ended.items():
        age = when - runner.created[handle]
        site = runner.site(handle)
        if site == "s5":
            assert how == "expire"
            assert 5 * DAY <= age <= 5 * DAY + 2 * 1800 + 60
        elif site in down:
            assert how == "delivered"
            # Life is found by the next probe, and each message comes after its own delay at the latest.
            assert when <= down[site] + 1.1 * 14_400 + 1800 + 60
        else:
            assert how == "delivered"
            assert age <= (330 + 60 if handle % 2 else 60)
    tries = Counter(runner.site(handle) for _, handle in runner.begun)
    assert tries["s0"] == 100
    assert tries["s1"] == 200  # greylisted: twice, and no more
    # A site down for ever is tried by one delivery every half hour, whatever waits for it.
    assert tries["s5"] <= 5 * 48 + 30
    assert runner.wakes < 100_000
