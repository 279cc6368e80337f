"""The dispatcher as a state machine: nothing lost, nothing twice, no limit broken, nobody forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from mailqueue.schedule.dispatcher import Dispatcher
from mailqueue.schedule.limits import Limits, Rate
from mailqueue.schedule.values import Assignment, Busy, Job, Result, Token

LIMITS = {
    "plain": Limits(recipients=3),
    "narrow": Limits(concurrency=1, initial=1, recipients=2, failures=1),
    "rated": Limits(rate=Rate(1, 5.0, 2), recipients=4),
    "wide": Limits(concurrency=8, initial=8, recipients=1),
}
SOURCES = {"slow": Rate(1, 3.0)}
sites = st.sampled_from(sorted(LIMITS))
results = st.sampled_from(Result) | st.just(Result.ANSWERED)
Recipient = tuple[int, str, int]


class Machine(RuleBasedStateMachine):
    """Every recipient is in one place: waiting, under way, given back or done."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher = Dispatcher(LIMITS.__getitem__, connections=7, active=12, source_rates=SOURCES)
        self.now = 1000.0
        self.handle = 0
        self.waiting: set[Recipient] = set()
        self.jobs: dict[tuple[int, str], Job] = {}
        self.running: list[Assignment] = []
        self.tokens: list[Token] = []

    @rule(
        site=sites,
        more=st.sampled_from(sorted(LIMITS)) | st.none(),
        count=st.integers(1, 12),
        priority=st.integers(-9, 9),
        source=st.sampled_from(["", "slow"]),
        age=st.floats(0, 5000),
    )
    def offer(self, site: str, more: str | None, count: int, priority: int, source: str, age: float) -> None:
        self.handle += 1
        for name in {site, more} - {None}:
            assert name is not None
            job = Job(self.handle, name, range(count), self.now - age, priority, source)
            room = self.dispatcher.room
            later = self.dispatcher.offer(job, self.now)
            if later is not None:
                assert later.until > self.now
                assert (later.cause == "full") == (room == 0) or later.cause == "dead"
                continue
            self.jobs[job.handle, name] = job
            self.waiting |= {(job.handle, name, recipient) for recipient in job.recipients}
        self._collect()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def offer_what_is_under_way(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.running)).job
        assert self.dispatcher.busy(job.handle, job.site)
        later = self.dispatcher.offer(job, self.now)
        assert later is not None
        assert later.cause == "under_way"

    @rule(most=st.integers(1, 10))
    def work(self, most: int) -> None:
        for _ in range(most):
            assignment = self.dispatcher.next(self.now)
            if assignment is None:
                self._nobody_is_forgotten()
                break
            self._take(assignment)
        self._collect()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), result=results)
    def finish(self, data: st.DataObject, result: Result) -> None:
        assignment = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        finished = self.dispatcher.done(assignment, result, self.now, "bad")
        self._collect()
        job = assignment.job
        if finished:
            assert not any(a.job is job for a in self.running)
            if self.jobs.get((job.handle, job.site)) is job:
                assert not any(w[:2] == (job.handle, job.site) for w in self.waiting)
                del self.jobs[job.handle, job.site]

    @rule(site=sites)
    def first_try(self, site: str) -> None:
        got = self.dispatcher.try_acquire(site, self.now)
        if isinstance(got, Token):
            self.tokens.append(got)
            self._within_limits(site, got.probe)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), result=results)
    def first_try_ends(self, data: st.DataObject, result: Result) -> None:
        token = self.tokens.pop(data.draw(st.integers(0, len(self.tokens) - 1)))
        self.dispatcher.release(token, result, self.now, "bad")
        self._collect()

    @rule(step=st.floats(0.01, 4) | st.floats(0, 2000))
    def wait(self, step: float) -> None:
        self.now += step

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        handle = data.draw(st.integers(0, self.handle + 1))
        for site, left in self.dispatcher.cancel(handle):
            self._gone(handle, site, left)
        assert not any(w[0] == handle for w in self.waiting)

    @rule(site=sites)
    def flush(self, site: str) -> None:
        self.dispatcher.flush_site(site, self.now)

    def teardown(self) -> None:
        """In the end all that waits is given out, whatever state the machine was left in."""
        for token in self.tokens:
            self.dispatcher.release(token, Result.ANSWERED, self.now)
        self.tokens.clear()
        for _ in range(2000):
            self._collect()
            while (assignment := self.dispatcher.next(self.now)) is not None:
                self._take(assignment)
            for assignment in self.running:
                self.dispatcher.done(assignment, Result.ANSWERED, self.now)
            self.running.clear()
            at = self.dispatcher.wake_at(self.now)
            if at is None:
                break
            assert at >= self.now
            self.now = at
        assert not self.waiting
        assert self.dispatcher.room == 12
        assert all(
            stats.jobs == stats.recipients == stats.in_flight == 0 for stats in self.dispatcher.stats()
        )

    def _take(self, assignment: Assignment) -> None:
        """What is given out was waiting, is within the limits, and not more than goes in one delivery."""
        job = assignment.job
        given = {(job.handle, job.site, recipient) for recipient in assignment.recipients}
        assert 0 < len(given) == len(assignment.recipients) <= LIMITS[job.site].recipients
        assert given <= self.waiting
        self.waiting -= given
        self.running.append(assignment)
        self._within_limits(job.site, assignment.token.probe)

    def _within_limits(self, site: str, probe: bool) -> None:
        used = Counter(token.site for token in self.tokens)
        used.update(assignment.job.site for assignment in self.running)
        assert used.total() <= 7
        [stats] = [stats for stats in self.dispatcher.stats() if stats.site == site]
        assert stats.in_flight == used[site]
        if not probe:
            assert used[site] <= stats.window <= LIMITS[site].concurrency

    def _nobody_is_forgotten(self) -> None:
        """`next` said no: then each site with work is refused when asked directly, and will be called."""
        wake = self.dispatcher.wake_at(self.now)
        assert wake is None or wake > self.now
        used = Counter(token.site for token in self.tokens)
        used.update(assignment.job.site for assignment in self.running)
        for handle, site, _ in self.waiting:
            source = self.jobs[handle, site].source
            got = self.dispatcher._sites.try_acquire(site, source, self.now, queued=True)
            assert isinstance(got, Busy), f"{site} could go on: {got}"
            if got.cause == "connections":
                assert used.total() > 0
            elif got.until is None:
                assert used[site] > 0
            elif wake is not None:
                # Where both site and source have a rate, only the first that refuses is named.
                assert wake <= got.until + (3.0 if source == "slow" else 0.0)
            else:
                assert self.dispatcher._sites.full()

    def _collect(self) -> None:
        for back in self.dispatcher.postponed():
            assert back.until > self.now
            self._gone(back.job.handle, back.job.site, back.recipients)

    def _gone(self, handle: int, site: str, recipients: Sequence[int]) -> None:
        given = {(handle, site, recipient) for recipient in recipients}
        assert given
        assert len(given) == len(recipients)
        assert given == {w for w in self.waiting if w[:2] == (handle, site)}
        self.waiting -= given
        del self.jobs[handle, site]


TestMachine: Any = Machine.TestCase
TestMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
