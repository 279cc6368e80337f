"""Next hops of our own that do not answer: looked for, and what waits for them goes when they are back.

A back end that is restarted is away for seconds. What came meanwhile has failed, and its schedule would have
it wait for minutes beside new mail that is delivered. So a next hop with `Limits.recalled` that failed is
looked for by a connection, which counts as no try of any message; when there is an answer one message is
tried; and when that, or any first try, is answered, all that failed meanwhile is tried again at once. One
that takes connections and then fails costs one message a try at each look, not all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Protocol

from mailqueue.queue import MailQueue
from mailqueue.schedule import Dispatcher, Result, Token
from mta.reply import Reply
from mta.spool.conclude import Journal
from mta.spool.hops import Naming, hop_of
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
        now: Callable[[], float],
        journal: Journal,
    ) -> None:
        """`looks` by the name of the transport; one that has none is tried with a message at once. `now` is
        seconds of the epoch."""
        self._queue = queue
        self._dispatcher = dispatcher
        self._hurry = hurry
        self._naming = naming
        self._looks = looks
        self._now = now
        self._journal = journal
        self._watched: dict[str, asyncio.Task[None]] = {}
        self._returned: dict[str, float] = {}
        """Sites that are to be recalled, and since when they had failed."""
        self._recalls: dict[str, asyncio.Task[None]] = {}

    def watch(self) -> None:
        """Go on with what the dispatcher has learnt: to be called whenever it may have learnt something."""
        dispatcher = self._dispatcher
        for site in dispatcher.failing:
            if site not in self._watched and len(self._queue.live):
                self._begin(self._watch, self._watched, site)
        for site, since in dispatcher.returned():
            self._returned[site] = min(since, self._returned.get(site, since))
            if site not in self._recalls:
                self._begin(self._recall, self._recalls, site)

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
            while (dead := self._dispatcher.dead(site, self._now())) is not None:
                await asyncio.sleep(dead.until - self._now())
            pause = min(2 * pause, LAST_LOOK)
            since = self._dispatcher.failing.get(site)
            if since is None or not len(self._queue.live):
                return
            if not await self._answers(site):
                continue
            longest: tuple[float, int] | None = None
            async for handle, last in self._waiting(site, since):
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
        result = Result.UNKNOWN
        try:
            failure = await look(asyncio.get_running_loop().time() + PATIENCE)
            # That a connection comes to stand does not say that mail is taken.
            result = Result.UNKNOWN if failure is None else Result.UNREACHABLE
        finally:
            reason = "" if failure is None else f"{failure} ({failure.cause})"
            self._dispatcher.release(token, result, self._now(), reason)
        return failure is None

    async def _recall(self, site: str) -> None:
        """Have all tried that has failed since a time, or was put off untried."""
        while (since := self._returned.pop(site, None)) is not None:
            found = 0
            async for handle, _ in self._waiting(site, since):
                self._hurry(handle, self._now(), site)
                found += 1
            if found:
                self._journal.recalled(site, found)

    async def _waiting(self, site: str, since: float) -> AsyncIterator[tuple[int, float]]:
        """Messages that wait for a site and failed since a time, or are due, with their last try."""
        live, name = self._queue.live, self._naming.name
        since = int(since)  # the queue keeps whole seconds
        async for handle in walk(live):
            now = self._now()
            for _, hop, due, last in live.waiting(handle):
                if (last >= since or due <= now) and name(hop) == site:
                    yield handle, last
                    break
