"""Which delivery is made next: ready queues by site, turns between sites, the limits kept.

The owner calls `offer` with what is due, `next` until it says None, `done` after each delivery, and `next`
again after every `offer`, `done`, `release` and at `wake_at`. What a dead site leaves behind is fetched by
`postponed`.

A lane is a site by one source. Lanes that could go on stand in the rotation and each has one delivery in its
turn. One that is refused leaves it for where it will be called back from: its site (a session must come
back), a source (which lets as many through as its rate allows), or the heap of times. So no call walks over
what waits, and each costs the logarithm of the waiting jobs at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import heappop, heappush

from mailqueue.schedule.limits import Limits, Rate
from mailqueue.schedule.rates import Bucket
from mailqueue.schedule.ready import AGE_STEP, Entry, ReadyQueue
from mailqueue.schedule.sites import Sites
from mailqueue.schedule.values import (
    Assignment,
    Busy,
    Dead,
    Job,
    Later,
    Postponed,
    Result,
    SiteStats,
    Token,
)

ACTIVE_JOBS = 20_000
"""Jobs in the dispatcher; what is due beyond waits outside. About 700 octets each, so 14 MB."""
SITE_JOBS = 0.25
"""Of them, for one site: a slow one must not take the places of all the others. Nor may one have more than
are free, so that several slow ones leave places for those that have none."""
FULL_PAUSE = 5.0
"""Seconds after which an offer that found no place is made again."""


class _Lane:
    """The jobs for one site by one source, and where the lane stands: in turn, or waiting to be called."""

    __slots__ = ("queue", "site", "source", "standing")

    def __init__(self, site: str, source: str) -> None:
        self.site = site
        self.source = source
        self.queue = ReadyQueue()
        self.standing = False
        """In the rotation, or with one who will put it back there."""


class _Source:
    """A source that has a rate, and the lanes that wait for it."""

    __slots__ = ("bucket", "called", "lanes")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.lanes: deque[_Lane] = deque()
        self.called = False
        """Stands in the heap of times."""


class Dispatcher:
    """The order of work of one worker. See the module.

    `limits_for` gives a site's limits by its name, `connections` is the most sessions to all sites together
    (first tries included), `active` the most jobs in memory, `source_rates` the rates of sources that have
    one.
    """

    def __init__(
        self,
        limits_for: Callable[[str], Limits] = lambda site: Limits(),
        *,
        connections: int = 500,
        active: int = ACTIVE_JOBS,
        source_rates: Mapping[str, Rate] | None = None,
    ) -> None:
        self._sites = Sites(limits_for, connections, source_rates)
        self._active = active
        self._for_site = max(1, int(active * SITE_JOBS))
        self._entries: dict[int, list[Entry]] = {}
        self._count = 0
        self._numbers = 0
        self._lanes: dict[str, dict[str, _Lane]] = {}
        self._rotation: deque[_Lane] = deque()
        self._at_site: dict[str, list[_Lane]] = {}
        """Lanes that wait for a session to come back, by site."""
        self._sources: dict[str, _Source] = {}
        self._times: list[tuple[float, int, _Lane | _Source]] = []
        self._postponed: list[Postponed] = []

    # Work

    @property
    def room(self) -> int:
        """How many jobs may be offered before the answer is "full"."""
        return max(0, self._active - self._count)

    @property
    def has_work(self) -> bool:
        """Whether anything waits here or is under way, first tries not meant, or a site is `failing`."""
        return self._count > 0 or self._sites.has_news

    def busy(self, handle: int, site: str) -> bool:
        """Whether anything of a message waits here or is under way for a site."""
        return any(entry.job.site == site for entry in self._entries.get(handle, ()))

    def taken(self, handle: int) -> Collection[int]:
        """The recipients of a message that wait here or are under way, whatever their site."""
        entries = self._entries.get(handle)
        if entries is None:
            return ()
        if len(entries) == 1 and entries[0].total == 1:
            return entries[0].job.recipients
        return {position for entry in entries for position in entry.job.recipients}

    def offer(self, job: Job, now: float) -> Later | None:
        """Take a job in; None if it was taken, else when to offer it again.

        As long as anything of a message waits or is under way for a site, it is not taken for that site
        again, so no recipient is given out twice, whatever was postponed, cancelled or asked for meanwhile.
        """
        if job.handle in self._entries and self.busy(job.handle, job.site):
            return Later(now + FULL_PAUSE, "under_way", "an earlier delivery of it is still under way")
        dead = self._sites.dead(job.site, now)
        if dead is not None:
            return Later(dead.until, "dead", dead.reason)
        if self._count >= self._active:
            return Later(now + FULL_PAUSE, "full", "too many messages are being worked on")
        lanes = self._lanes.get(job.site)
        if lanes is None:
            lanes = self._lanes[job.site] = {}
        elif sum(lane.queue.jobs for lane in lanes.values()) >= min(self._for_site, self.room):
            return Later(now + FULL_PAUSE, "site_full", "many messages wait for this destination")
        self._numbers += 1
        group = self._sites.get(job.site).limits.recipients
        entry = Entry(job, group, min(job.due, now) - AGE_STEP * job.priority, self._numbers)
        self._entries.setdefault(job.handle, []).append(entry)
        self._count += 1
        lane = lanes.get(job.source)
        if lane is None:
            lane = lanes[job.source] = _Lane(job.site, job.source)
        lane.queue.push(entry)
        self._stand(lane)
        return None

    def next(self, now: float) -> Assignment | None:
        """The delivery to make now, or None if there is nothing that may be done."""
        self._call(now)
        rotation = self._rotation
        while rotation and not self._sites.full():
            lane = rotation.popleft()
            if not lane.queue.jobs:
                lane.standing = False
                self._drop(lane)
                self._pass_on(lane.source, now)
                continue
            got = self._sites.try_acquire(lane.site, lane.source, now, queued=True)
            if isinstance(got, Token):
                entry, start, end = lane.queue.pick()
                entry.open += 1
                if lane.queue.jobs:
                    rotation.append(lane)
                else:
                    lane.standing = False
                    self._drop(lane)
                return Assignment(entry.job, entry.job.recipients[start:end], got, entry)
            if isinstance(got, Dead):
                lane.standing = False
                self._vacate(lane.site, got.until, got.reason)
            else:
                self._wait(lane, got)
            self._pass_on(lane.source, now)
        return None

    def done(self, assignment: Assignment, result: Result, now: float, reason: str = "") -> bool:
        """Report a delivery; True if nothing more of its job is waiting or under way here.

        `result` and `reason` speak of the site, unless `free` has said it. A job whose rest was postponed or
        cancelled is finished with its last delivery. Raises ValueError for an assignment that was reported
        before.
        """
        if assignment.over:
            raise ValueError(f"a delivery to {assignment.job.site} was reported twice")
        assignment.over = True
        if assignment.token.open:
            self.release(assignment.token, result, now, reason)
        entry = assignment.entry
        assert isinstance(entry, Entry)
        entry.open -= 1
        if entry.open or entry.waiting:
            return False
        self._forget(entry)
        return True

    def free(self, assignment: Assignment, result: Result, now: float, reason: str = "") -> None:
        """The session of a delivery has come back; the delivery is not over before `done`.

        So what has to be written down about a delivery does not keep the next one waiting. Raises ValueError
        the second time.
        """
        self.release(assignment.token, result, now, reason)

    def wake_at(self, now: float) -> float | None:
        """When `next` is to be called although nothing else happens; None: not before something does."""
        if self._sites.full():
            return None
        if self._rotation:
            return now
        return max(now, self._times[0][0]) if self._times else None

    def postponed(self) -> list[Postponed]:
        """What was given back untried because its site died, since the last call."""
        given, self._postponed = self._postponed, []
        return given

    # First tries

    def try_acquire(self, site: str, now: float, source: str = "") -> Token | Busy | Dead:
        """Ask for a session for a first try, under the same limits; a `Token` must come back by `release`."""
        return self._sites.try_acquire(site, source, now, queued=False)

    def release(self, token: Token, result: Result, now: float, reason: str = "") -> None:
        """Give a session back with what it taught. Raises ValueError the second time."""
        if self._sites.release(token, result, now, reason):
            dead = self._sites.dead(token.site, now)
            if dead is not None:
                self._vacate(token.site, dead.until, dead.reason)
        waiting = self._at_site.pop(token.site, None)
        if waiting is not None:
            self._rotation.extend(waiting)

    def any_dead(self) -> bool:
        """False when all sites answer, as far as is known."""
        return self._sites.any_dead()

    def dead(self, site: str, now: float) -> Dead | None:
        """Whether a site is known not to answer, without asking for anything."""
        return self._sites.dead(site, now)

    # Sites that are recalled

    @property
    def failing(self) -> Collection[str]:
        """Sites with `Limits.recalled` that could not be reached, until they answer."""
        return self._sites.failing

    def suspect(self, site: str) -> None:
        """Take a site for `failing` that others could not reach, if it has `Limits.recalled`."""
        self._sites.suspect(site)

    def returned(self) -> list[str]:
        """Those that were `failing` and have answered since the last call.

        When the messages that wait for them are due is the caller's to move.
        """
        return self._sites.returned()

    # Administration

    def cancel(self, handle: int) -> list[tuple[str, Sequence[int]]]:
        """Give out nothing more of a message (delete, hold, redirect): the recipients not given out, by site.

        What is under way goes on and is reported by `done` as ever.
        """
        left = []
        for entry in list(self._entries.get(handle, ())):
            if entry.waiting:
                left.append((entry.job.site, self._withdraw(entry)))
        return left

    def flush_site(self, site: str, now: float) -> None:
        """Let a dead site be probed now. The due times of its messages are the caller's to move."""
        self._sites.revive(site, now)

    def set_back(self, seconds: float) -> None:
        """The clock that all times here are of was set back: nothing waits until it is there again."""
        self._sites.set_back(seconds)
        self._times = [(when - seconds, number, what) for when, number, what in self._times]

    def stats(self) -> list[SiteStats]:
        """All sites with work or a history, by name."""
        names = {name for name, lanes in self._lanes.items() if lanes}.union(self._sites.names())
        return [self._stats(name) for name in sorted(names)]

    def _stats(self, name: str) -> SiteStats:
        site = self._sites.get(name)
        queues = [lane.queue for lane in self._lanes.get(name, {}).values()]
        return SiteStats(
            site=name,
            jobs=sum(queue.jobs for queue in queues),
            recipients=sum(queue.recipients for queue in queues),
            in_flight=site.in_flight,
            window=site.window.size,
            dead_until=site.dead_until,
            reason=site.reason,
        )

    # Lanes

    def _stand(self, lane: _Lane) -> None:
        """Put a lane into the rotation if it stands nowhere."""
        if not lane.standing:
            lane.standing = True
            self._rotation.append(lane)

    def _drop(self, lane: _Lane) -> None:
        """Forget a lane that has no jobs and stands nowhere."""
        lanes = self._lanes.get(lane.site)
        if lanes is None or lane.queue.jobs or lanes.get(lane.source) is not lane:
            return
        del lanes[lane.source]
        if not lanes:
            del self._lanes[lane.site]

    def _wait(self, lane: _Lane, busy: Busy) -> None:
        """Put a lane that was refused where it will be called from; that sessions are left is known."""
        if busy.cause == "source":
            source = self._sources.get(lane.source)
            if source is None:
                bucket = self._sites.source(lane.source)
                assert bucket is not None
                source = self._sources[lane.source] = _Source(bucket)
            source.lanes.append(lane)
            if not source.called:
                source.called = True
                self._at(source.bucket.ready_at(), source)
        elif busy.until is not None:
            self._at(busy.until, lane)
        else:
            self._at_site.setdefault(lane.site, []).append(lane)

    def _pass_on(self, name: str, now: float) -> None:
        """A lane could not use what its source allows now: call the next one that waits for it."""
        source = self._sources.get(name)
        if source is not None and source.lanes and source.bucket.ready_at() <= now:
            self._rotation.append(source.lanes.popleft())

    def _at(self, when: float, what: _Lane | _Source) -> None:
        """Have it called at a time."""
        self._numbers += 1
        heappush(self._times, (when, self._numbers, what))

    def _call(self, now: float) -> None:
        """Put into the rotation what waited for a time that has come."""
        while self._times and self._times[0][0] <= now:
            what = heappop(self._times)[2]
            if isinstance(what, _Lane):
                self._rotation.append(what)
                continue
            what.called = False
            ready = int((now - what.bucket.ready_at()) / what.bucket.interval) + 1
            for _ in range(min(ready, len(what.lanes))):
                self._rotation.append(what.lanes.popleft())
            if what.lanes:
                what.called = True
                self._at(max(now, what.bucket.ready_at()) + what.bucket.interval, what)

    # Jobs

    def _vacate(self, site: str, until: float, reason: str) -> None:
        """Give back all that waits for a site that has died."""
        for lane in list(self._lanes.get(site, {}).values()):
            for entry in lane.queue.entries():
                self._postponed.append(Postponed(entry.job, self._withdraw(entry), until, reason))

    def _withdraw(self, entry: Entry) -> Sequence[int]:
        """Take a waiting job out; the recipients it had not given out."""
        lane = self._lanes[entry.job.site][entry.job.source]
        lane.queue.remove(entry)
        if not lane.standing:
            self._drop(lane)
        if not entry.open:
            self._forget(entry)
        return entry.job.recipients[entry.given :]

    def _forget(self, entry: Entry) -> None:
        """Take a job off the books."""
        entries = self._entries[entry.job.handle]
        entries.remove(entry)
        self._count -= 1
        if not entries:
            del self._entries[entry.job.handle]
