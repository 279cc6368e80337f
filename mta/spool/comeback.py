"""Next hops of our own that do not answer: looked for, and what waits for them goes when they are back.

A back end that is restarted is away for seconds. What came meanwhile has failed, and its schedule would have
it wait for minutes beside new mail that is delivered. So a next hop with `Limits.recalled` that failed is
looked for by a connection, which counts as no try of any message; when there is an answer one message is
tried; and when that, or any first try, is answered, all that waits because there was none is tried at once.

A message may itself be why there is no answer, and the mail store may have kept it all the same: each such
try may bring a copy. So no message gets more than `EXTRA` tries by these orders beyond those of its schedule,
a message that was handed over whole is no reason to look (`mailqueue.schedule.Result.CUT`), one that may
still be answered waits for that, and between two recalls of a next hop there is a `PAUSE`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Protocol

from mailqueue.model import RecipientState, Status
from mailqueue.queue import MailQueue
from mailqueue.schedule import Dispatcher, Result, RetryPolicy, Token
from mta.net.outbound import LATE_TIME
from mta.reply import Reply
from mta.spool.conclude import Journal
from mta.spool.hops import Naming, failed, hop_of
from mta.spool.replies import kept_reply
from mta.spool.walk import walk

Look = Callable[[float], Awaitable[Reply | None]]
"""Whether a next hop can be reached by a deadline (loop time): None, or the failure
(`mta.delivery.fixed.FixedTransport.look`)."""

FIRST_LOOK = 5.0
"""Seconds from a failure to the first look; they double."""
LAST_LOOK = 60.0
"""The end of the doubling."""
PATIENCE = 30.0
"""Seconds for one look."""
PAUSE = 10.0
"""Seconds between two recalls of a next hop."""
EXTRA = 2
"""Tries of a message by order of this module beyond those that its schedule can have made."""
ANSWER_TIME = LATE_TIME + 5.0
"""Seconds for which a message that was handed over whole may still be answered."""
NOT_REACHED = "4.4."
"""How the enhanced codes begin of failures to reach a next hop, and of sessions that were lost (RFC 3463)."""

NO_CONNECTION = frozenset({"4.4.1", "4.4.3"})
"""Those of them that no message can be the reason of: there was no connection, or no address."""
WAITING = frozenset({Status.QUEUED, Status.DEFERRED})

_Work = Callable[[str], Coroutine[None, None, None]]


class Hurry(Protocol):
    """Has a message tried now (`mta.spool.runner.Runner.due_now`)."""

    def __call__(self, handle: int, now: float, site: str) -> None:
        """Try a message at a site whatever its time."""


class Comebacks:
    """Watches the next hops that `Dispatcher.failing` tells of."""

    def __init__(
        self,
        queue: MailQueue,
        dispatcher: Dispatcher,
        hurry: Hurry,
        naming: Naming,
        looks: Mapping[str, Look],
        retry: RetryPolicy,
        now: Callable[[], float],
        journal: Journal,
        nudge: Callable[[], None],
    ) -> None:
        """`looks` by the name of the transport; one that has none is tried with a message at once. `retry` is
        the usual schedule; `now` is seconds of the epoch; `nudge` is called when work may go on."""
        self._queue = queue
        self._dispatcher = dispatcher
        self._hurry = hurry
        self._naming = naming
        self._looks = looks
        self._retry = retry
        self._now = now
        self._journal = journal
        self._nudge = nudge
        self._watched: dict[str, asyncio.Task[None]] = {}
        self._returned: set[str] = set()
        """Sites that are to be recalled."""
        self._recalls: dict[str, asyncio.Task[None]] = {}
        self._answering: dict[str, float] = {}
        """Messages that may still be answered, by queue id, and until when; in this order."""

    def watch(self) -> None:
        """Go on with what the dispatcher has learnt: to be called whenever it may have learnt something."""
        dispatcher = self._dispatcher
        for site in dispatcher.failing:
            if site not in self._watched and len(self._queue.live):
                self._begin(self._watch, self._watched, site)
        for site in dispatcher.returned():
            self._returned.add(site)
            if site not in self._recalls:
                self._begin(self._recall, self._recalls, site)

    def await_answer(self, name: str) -> None:
        """The next hop of a message has it and is still listened to: another try could bring a copy."""
        now = self._now()
        while self._answering and now >= self._answering[first := next(iter(self._answering))]:
            del self._answering[first]
        self._answering[name] = now + ANSWER_TIME

    def set_back(self, seconds: float) -> None:
        """The clock was set back."""
        self._answering = {name: until - seconds for name, until in self._answering.items()}

    def hear_of(self, handle: int) -> None:
        """A message has come from another process, which has found that next hops do not answer.

        What that process knew ended with it. A next hop of which it is not true any more is found well by the
        first look, or by the first mail.
        """
        live, name, failing = self._queue.live, self._naming.name, self._dispatcher.failing
        states: list[RecipientState] = []
        for position, hop, due, last in live.waiting(handle):
            if last and due > last and name(hop) not in failing and hop_of(hop).transport in self._looks:
                states = states or live.recipients(handle)
                if kept_reply(states[position].reply).enhanced in NO_CONNECTION:
                    self._dispatcher.suspect(name(hop))

    async def stop(self) -> None:
        """Look for nothing any more."""
        tasks = [*self._watched.values(), *self._recalls.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, work: _Work, tasks: dict[str, asyncio.Task[None]], site: str) -> None:
        tasks[site] = asyncio.get_running_loop().create_task(self._contained(work, tasks, site))

    async def _contained(self, work: _Work, tasks: dict[str, asyncio.Task[None]], site: str) -> None:
        try:
            await work(site)
        except Exception as error:  # noqa: BLE001 - contained: the queue goes on by its schedule
            self._journal.failed(site, error)
        finally:
            del tasks[site]

    async def _watch(self, site: str) -> None:
        """Look for a next hop until it answers, or nothing waits any more."""
        pause = FIRST_LOOK
        while True:
            await asyncio.sleep(pause)
            while (dead := self._dispatcher.dead(site, self._now())) is not None:  # noqa: ASYNC110 - rare
                await asyncio.sleep(min(dead.until - self._now(), LAST_LOOK))  # the clock may be set
            pause = min(2 * pause, LAST_LOOK)
            if site not in self._dispatcher.failing or not len(self._queue.live):
                return
            if not await self._answers(site):
                continue
            longest: tuple[float, int] | None = None
            async for handle, last in self._waiting(site):
                if longest is None or (last, handle) < longest:
                    longest = last, handle
            if longest is not None:
                self._hurry(longest[1], self._now(), site)

    async def _answers(self, site: str) -> bool:
        """Whether a next hop can be connected to."""
        look = self._looks.get(hop_of(site).transport)
        if look is None:
            return True
        token = self._dispatcher.try_acquire(site, self._now(), self._naming.source(site))
        if not isinstance(token, Token):
            return False  # a try is about to find out
        failure: Reply | None = None
        result, reason = Result.UNKNOWN, ""
        try:
            failure = await look(asyncio.get_running_loop().time() + PATIENCE)
            if failure is not None:  # that a connection comes to stand does not say that mail is taken
                result, reason = failed(failure), f"{failure} ({failure.cause})"
        finally:
            self._dispatcher.release(token, result, self._now(), reason)
            self._nudge()  # what has come meanwhile waits for this session, or is put off
        return failure is None

    async def _recall(self, site: str) -> None:
        """Have all tried that waits because there was no answer, or was put off untried."""
        while site in self._returned:
            self._returned.discard(site)
            found = 0
            async for handle, _ in self._waiting(site):
                self._hurry(handle, self._now(), site)
                found += 1
            if found:
                self._journal.recalled(site, found)
            await asyncio.sleep(PAUSE)

    async def _waiting(self, site: str) -> AsyncIterator[tuple[int, float]]:
        """Messages that wait for a site because there was no answer, or are due, with their last try."""
        live, name = self._queue.live, self._naming.name
        async for handle in walk(live):
            if not any(name(hop) == site for _, hop, _, _ in live.waiting(handle)):
                continue
            now = self._now()
            if now < self._answering.get(live.id_of(handle), now):
                continue
            _, created, expires, _ = live.terms(handle)
            # One that was held until later has tries from then on.
            age = now - max(created, expires - self._retry.expire)
            for one in live.recipients(handle):
                if one.status in WAITING and name(one.site) == site and self._is_meant(one, now, age):
                    yield handle, one.last
                    break

    def _is_meant(self, one: RecipientState, now: float, age: float) -> bool:
        """Whether a recipient waits for the next hop to come back, and may be tried for that."""
        if one.due <= now:
            return True
        if not kept_reply(one.reply).enhanced.startswith(NOT_REACHED):
            return False
        return one.attempts < self._retry.tries_by(age) + EXTRA
