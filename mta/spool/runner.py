"""The loop that works the queue: what is due is tried, under the limits of its next hop.

A message that is due is offered to the dispatcher as one job for each next hop; what the dispatcher gives out
is tried (`mta.spool.attempt`). Failure:

* a next hop that does not answer is left alone (`mailqueue.schedule.sites`); its messages are due again when
  it is looked for;
* a store that does not answer: the try counts as not made and is repeated after `PAUSE`;
* another node may have taken our messages over: nothing is sent from then on (`MailQueue.may_deliver`, also
  asked before the final dot);
* a bug in one try is logged, and its message is tried again as after any temporary failure.

A handle names another message once its own has left the queue. So what is under way is known by its queue id,
and a job is withdrawn before somebody else settles its message.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from mailqueue.model import QueueError, UnknownMessage
from mailqueue.queue import MailQueue
from mailqueue.schedule import Assignment, Dispatcher, Job, Result, RetryPolicy, Timetable
from mta.spool.attempt import GIVEN_BACK, Attempts, Journal
from mta.spool.comeback import Comebacks, Look
from mta.spool.hops import PLAIN, Naming
from mta.spool.setback import LOOK, Setbacks
from mta.spool.underway import Flight, UnderWay
from mta.spool.walk import BURST, walk

PAUSE = 5.0
"""Seconds until a try is made again that the store, or our own doubt, has kept from being made; and until one
is given up for which there was no place."""
AGAIN = 0.75
"""Seconds after which it is looked again whether tries may begin that had no place, or were not ours."""


class Runner:
    """Works the queue of one process."""

    def __init__(
        self,
        queue: MailQueue,
        dispatcher: Dispatcher,
        attempts: Callable[[Runner], Attempts],
        journal: Journal,
        *,
        retry: RetryPolicy,
        now: Callable[[], float],
        naming: Naming = PLAIN,
        looks: Mapping[str, Look] | None = None,
    ) -> None:
        """`attempts` makes what makes the tries. `retry` is the usual schedule, which says when senders are
        told of a delay; `now` is seconds of the epoch; `looks` are those of `Comebacks`."""
        self._queue = queue
        self._dispatcher = dispatcher
        self._journal = journal
        self._warn_after = math.inf if retry.warn is None else retry.warn
        self._now = now
        self._naming = naming
        self._timetable = Timetable(now() - 1.0)
        self._setbacks = Setbacks(queue, now, self.changed)
        self._flights: dict[int, Flight] = {}
        self._crowded: dict[str, OrderedDict[int, None]] = {}
        """Messages that found no place in the dispatcher, by next hop, oldest first."""
        self._hurried: dict[int, str] = {}
        """Messages to be tried at their next look although they are not due: for this site, "" for all."""
        self._withheld: set[int] = set()
        """Messages that are withdrawn: somebody is about to change them."""
        self._news = asyncio.Event()
        self._tries = UnderWay(self._news.set)
        self._until = -math.inf
        """When the loop looks again though nothing has happened (loop time); the past while it is looking."""
        self._stopping = False
        self._comebacks = Comebacks(
            queue, dispatcher, self.due_now, naming, looks or {}, retry, now, journal, self.nudge
        )
        self.attempts = attempts(self)

    @property
    def under_way(self) -> int:
        """Tries being made."""
        return len(self._tries)

    def is_under_way(self, handle: int) -> bool:
        """True while a message is being tried."""
        return handle in self._flights

    # --- what the rest of the worker tells -----------------------------------------------------------

    def added(self, name: str) -> None:
        """A message is new in the queue."""
        try:
            self.changed(self._queue.live.handle_of(name))
        except UnknownMessage:
            return  # settled already

    def adopted(self, handles: Sequence[int]) -> None:
        """Messages of a dead stream are ours."""
        for handle in handles:
            self.changed(handle)
            if handle in self._queue.live:
                self._comebacks.hear_of(handle)
        self._tries.begin(self._setbacks.mend(handles))
        self._news.set()  # what is looked for from now on

    def awaited(self, name: str) -> None:
        """The next hop of a new message has it and may answer still (`Comebacks.await_answer`)."""
        self._comebacks.await_answer(name)

    def changed(self, handle: int) -> None:
        """When a message is due has changed, or it is gone; or it is not withdrawn any more."""
        self._plan(handle)
        if handle in self._withheld:
            self._withheld.discard(handle)
            if handle in self._hurried:
                self._wake(handle, self._now())

    def _plan(self, handle: int) -> None:
        due = self._queue.live.due(handle) if handle in self._queue.live else math.inf
        if math.isinf(due):
            self._timetable.remove(handle)
            self._hurried.pop(handle, None)
        elif handle in self._hurried:
            self._wake(handle, due)  # that it is wanted now still holds
        else:
            self._timetable.add(handle, due)
            if asyncio.get_running_loop().time() + due - self._now() >= self._until:
                return  # it is looked for in time anyway
        self._news.set()

    def nudge(self) -> None:
        """Something may go on: a session has come back."""
        self._news.set()

    def withdraw(self, handle: int) -> list[int]:
        """Give out nothing more of a message that is about to be changed; the recipients under way. `changed`
        must follow, whatever becomes of it."""
        self._withheld.add(handle)
        self._dispatcher.cancel(handle)
        if (flight := self._flights.get(handle)) is None:
            return []
        self._forget(handle, flight)
        return sorted(flight.positions)

    def due_now(self, handle: int, now: float, site: str = "") -> None:
        """Look at a message now whatever its time; what is not due is tried all the same, for all sites or
        for one."""
        live, taken = self._queue.live, self._dispatcher.taken(handle)
        self._news.set()
        if taken and handle in live and all(one[0] in taken for one in live.waiting(handle)):
            return  # it has its turn already
        self._hurry(handle, site)
        self._wake(handle, now)

    def flush(self, sites: Sequence[str]) -> None:
        """Let dead next hops be looked for at once."""
        for site in sites:
            for name in {site, self._naming.name(site)}:
                self._dispatcher.flush_site(name, self._now())
        self._news.set()

    # --- the loop ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`."""
        async for handle in walk(self._queue.live):
            self.changed(handle)
            self._comebacks.hear_of(handle)
        while not self._stopping:
            self._news.clear()
            now = self._now()
            if back := self._setbacks.seconds(now, self._queue.boottime()):
                await self._plan_anew(now, back)
            handles = self._timetable.take_due(now, BURST)
            for handle in handles:
                self._offer(handle, now)
            self._let_in()
            blocked = self._start(now)
            self._comebacks.watch()
            if len(handles) == BURST:
                await asyncio.sleep(0)
                continue
            await self._sleep(now, blocked)

    async def stop(self, seconds: float) -> None:
        """Begin no try any more; give those under way some time, then give them up."""
        self._stopping = True
        self._news.set()
        await self._comebacks.stop()
        await self._tries.stop(seconds)

    async def _plan_anew(self, now: float, back: float) -> None:
        """The clock was set back by some seconds: nothing may wait until it is there again."""
        self._dispatcher.set_back(back)
        self._comebacks.set_back(back)
        self._timetable = Timetable(now - 1.0)
        async for handle in walk(self._queue.live):
            self.changed(handle)
        await self._setbacks.mend(back=back)
        for handle in self._hurried:
            self._wake(handle, now)

    async def _sleep(self, now: float, blocked: bool) -> None:
        """Wait for news, or for the next time at which something is due."""
        times = [self._timetable.next_due()]
        if not blocked:
            times.append(self._dispatcher.wake_at(now))
        known = [time for time in times if time is not None]
        seconds = max(0.0, min(min(known) - self._now(), LOOK)) if known else None
        if blocked:
            seconds = AGAIN if seconds is None else min(AGAIN, max(seconds, 0.05))
        self._until = math.inf if seconds is None else asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._until = -math.inf

    def _hurry(self, handle: int, site: str) -> None:
        """Have a message tried at its next look, for a site or, "", for all."""
        self._hurried[handle] = site if self._hurried.get(handle, site) == site else ""

    def _wake(self, handle: int, when: float) -> None:
        """Look at a message at that time, or before if that was planned."""
        if handle in self._timetable:
            when = min(when, self._timetable.due(handle))
        self._timetable.add(handle, when)

    def _offer(self, handle: int, now: float) -> None:
        """Offer what is due of a message to the dispatcher."""
        live, dispatcher = self._queue.live, self._dispatcher
        if handle in self._withheld:
            return  # `changed` plans it
        hurried = self._hurried.pop(handle, None)
        if handle not in live:
            return
        flight = self._flights.get(handle)
        by_site: dict[str, list[int]] = {}
        hops: dict[str, str] = {}
        # Which site a next hop belongs to may have become known meanwhile: what waits stays where it is.
        taken = dispatcher.taken(handle)
        name = self._naming.name
        heard = now
        for position, hop, due, last in live.waiting(handle):
            if due > now and hurried != "" and (hurried is None or hurried != name(hop)):
                self._wake(handle, due)
            elif position not in taken and (flight is None or position not in flight.positions):
                by_site.setdefault(site := name(hop), []).append(position)
                hops.setdefault(site, hop)
                heard = min(heard, last)
        if not by_site:
            return
        due, created, expires, priority = live.terms(handle)  # in whole seconds, rounded down
        warn = created + self._warn_after + 1
        for site, positions in by_site.items():
            if taken and dispatcher.busy(handle, site):
                continue
            source = self._naming.source(hops[site])
            job = Job(handle, site, positions, min(due, now), priority, source)
            later = dispatcher.offer(job, now)
            if later is None:
                continue
            if later.cause != "dead":
                self._crowded.setdefault(site, OrderedDict())[handle] = None
                if hurried is not None:
                    self._hurry(handle, hurried)
            elif now < expires and not heard < warn <= now:
                self._wake(handle, min(later.until, expires, warn if now < warn else math.inf))
            elif self._tries.has_place():
                flight = self._flight(handle, live.id_of(handle))
                flight.positions.update(positions)
                self._tries.begin(self._suspend(handle, flight, positions, later.reason))
            else:
                self._wake(handle, now + PAUSE)

    def _start(self, now: float) -> bool:
        """Begin the tries that may be made now; True when they are ours to make only later."""
        if not self._queue.may_deliver() or not self._queue.takes_notes:
            return True
        while self._tries.has_place():
            assignment = self._dispatcher.next(now)
            self._take_back()
            if assignment is None:
                return False
            handle = assignment.job.handle
            try:
                flight = self._flight(handle, self._queue.live.id_of(handle))
            except UnknownMessage:
                self._dispatcher.done(assignment, Result.UNKNOWN, now)
                continue
            flight.positions.update(assignment.recipients)
            self._tries.begin(self._deliver(assignment, flight))
        return True

    def _flight(self, handle: int, name: str) -> Flight:
        """What is under way of a message; a new one when the handle was another message's."""
        flight = self._flights.get(handle)
        if flight is None or flight.name != name:
            flight = self._flights[handle] = Flight(name)
        return flight

    def _take_back(self) -> None:
        """Look anew at what was waiting for a next hop that has died: its time may be over already."""
        for left in self._dispatcher.postponed():
            self._wake(handle := left.job.handle, self._now())
            self._news.set()
            if (flight := self._flights.get(handle)) is not None:
                self._forget(handle, flight)

    # --- one try -------------------------------------------------------------------------------------

    async def _deliver(self, assignment: Assignment, flight: Flight) -> None:
        again: float | None = None
        try:
            if flight.loaded is None:
                flight.loaded = await self.attempts.load(flight.name)
            if flight.loaded is not None:
                learnt = partial(self._learnt, assignment)
                await self.attempts.make(flight.loaded, assignment.job.site, assignment.recipients, learnt)
        except UnknownMessage:
            pass  # an administrator was faster
        except GIVEN_BACK:
            again = self._now() + PAUSE
        except Exception as error:  # noqa: BLE001 - contained: one message must not stop the queue
            self._journal.failed(flight.name, error)
            again = self._now() + PAUSE
            with suppress(QueueError):
                await self.attempts.put_off(flight.name, assignment.recipients)
                again = None
        finally:
            self._done(assignment, flight, again)

    def _learnt(self, assignment: Assignment, result: Result, reason: str) -> None:
        """The session of a try is free again, before all is written down that has come of it."""
        self._dispatcher.free(assignment, result, self._now(), reason)
        self._take_back()
        self._news.set()

    def _done(self, assignment: Assignment, flight: Flight, again: float | None) -> None:
        handle = assignment.job.handle
        flight.positions.difference_update(assignment.recipients)
        finished = self._dispatcher.done(assignment, Result.UNKNOWN, self._now())
        self._take_back()
        if finished:
            self._forget(handle, flight)
        if again is not None:
            self._wake(handle, again)
        elif finished:
            self._plan(handle)
        self._let_in()

    def _forget(self, handle: int, flight: Flight) -> None:
        """Nothing more of a job waits: what the next try does not find under way it loads again."""
        flight.loaded = None
        if not flight.positions and self._flights.get(handle) is flight:
            del self._flights[handle]

    def _let_in(self) -> None:
        """Offer what found no room in the dispatcher, in turn of their next hops, until one is in."""
        crowded, full = self._crowded, set[str]()
        for _ in range(BURST):
            if not crowded or not self._dispatcher.room or (name := next(iter(crowded))) in full:
                return
            waiting = crowded.pop(name)
            handle, _nothing = waiting.popitem(last=False)
            if waiting:
                crowded[name] = waiting  # behind the others
            before, left = self._dispatcher.room, len(waiting)
            self._offer(handle, self._now())
            if self._dispatcher.room < before:
                return
            if len(crowded.get(name, ())) > left:  # else it is gone, or its next hop has died
                crowded[name].move_to_end(handle, last=False)
                full.add(name)
        self._news.set()

    async def _suspend(self, handle: int, flight: Flight, positions: Sequence[int], reason: str) -> None:
        """Count a try that a dead next hop does not get."""
        pause = 0.0
        try:
            await self.attempts.suspend(flight.name, positions, reason)
        except UnknownMessage:
            pass  # an administrator was faster
        except GIVEN_BACK:
            pause = PAUSE
        except Exception as error:  # noqa: BLE001 - contained: one message must not stop the queue
            self._journal.failed(flight.name, error)
            pause = 60 * PAUSE
        flight.positions.difference_update(positions)
        self._forget(handle, flight)
        if pause:
            self._wake(handle, self._now() + pause)
        else:
            self._plan(handle)
