"""The queue of a worker: opened, worked, handed over, and opened anew when another node has taken it.

`QueueService` owns the queue, the dispatcher and the runner. What fails:

* a store that breaks the rules (probe), that is missing, or that refuses us: the worker does not start;
* a store that does not answer at the start, is read-only, full or has an I/O error: the worker starts without
  a queue, says so in the log, and tries again, from the opening of the store on; until then what cannot be
  delivered at once is answered 4xx;
* our stream is taken over while we were paused: everything under way is given up, and a new stream is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mailqueue.model import QueueError
from mailqueue.queue import MailQueue
from mailqueue.schedule import Dispatcher, Limits, Rate
from mailqueue.settings import QueueSettings
from mailqueue.store.base import Store, StoreError, StoreRefused
from mta.afterwards import keep_running
from mta.delivery.fixed import FixedTransport
from mta.delivery.outcome import NextHop, Outcome, Transport
from mta.log import Logger
from mta.reply import Reply
from mta.spool.acts import Acts
from mta.spool.addressing import Addressing, Find
from mta.spool.advice import Advisor
from mta.spool.alarm import EVERY, Alarm
from mta.spool.attempt import Attempts, AttemptSettings, Journal
from mta.spool.gate import Gate, Permit
from mta.spool.hops import PLAIN, Naming, SiteLimits
from mta.spool.late import hear
from mta.spool.reports import Reports, Route
from mta.spool.runner import Runner
from mta.spool.trial import Trial

START_PATIENCE = 5.0
"""Seconds that the start of a worker waits for the queue before it goes on without."""
AGAIN = 5.0
"""Seconds between two attempts to open the queue."""
ALL_CONNECTIONS = 100_000
"""Sessions to all next hops together: the pools have the limits."""


@dataclass(slots=True, frozen=True)
class ServiceSettings:
    """How a worker's queue is set up."""

    queue: QueueSettings
    attempts: AttemptSettings
    hops: Mapping[str, Limits]
    """Limits of the node for each transport, by its name."""
    workers: int
    rates: Mapping[str, Rate] = field(default_factory=dict)
    """Rates of the node for each source that has one, by its name."""
    probe: bool = True
    """Try the stores at the start."""


@dataclass(slots=True)
class _Running:
    """A queue and what works it."""

    queue: MailQueue
    dispatcher: Dispatcher
    runner: Runner
    gate: Gate
    acts: Acts
    task: asyncio.Task[None]


class QueueService:
    """The queue of one worker."""

    def __init__(
        self,
        settings: ServiceSettings,
        open_store: Callable[[], Store],
        transports: Mapping[str, Transport],
        route: Route,
        is_final: Callable[[str], bool],
        reports: Reports,
        journal: Journal,
        advisor: Advisor,
        log: Logger,
        *,
        now: Callable[[], float],
        naming: Naming = PLAIN,
        find: Find | None = None,
    ) -> None:
        """Nothing is opened before `start`. `find` tells who gets our own mail."""
        self._find = find
        self._naming = naming
        self._settings = settings
        self._open_store = open_store
        self._transports = transports
        self._route = route
        self._is_final = is_final
        self._reports = reports
        self._journal = journal
        self._advisor = advisor
        self._log = log
        self._now = now
        self._store: Store | None = None
        self._was_open = False
        """There was a queue on `_store`."""
        self._running: _Running | None = None
        self._opening: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._trial = Trial(log, self._refused)
        self._problem = "it is still being opened"
        """Why there is no queue, while there is none."""
        self._starting = True
        self._stopping = False

    # --- what the rest of the worker asks ------------------------------------------------------------

    @property
    def queue(self) -> MailQueue | None:
        """The queue, None while there is none."""
        running = self._running
        return running.queue if running is not None else None

    @property
    def is_stopping(self) -> bool:
        """True when the queue is handed over, or will be in a moment."""
        return self._stopping

    @property
    def trouble(self) -> str:
        """Why nothing can be queued now, as far as is known; "" when it can."""
        running = self._running
        return self._problem if running is None else running.queue.trouble

    @property
    def runner(self) -> Runner | None:
        """What works it."""
        running = self._running
        return running.runner if running is not None else None

    @property
    def acts(self) -> Acts | None:
        """What an administrator may do to its messages."""
        running = self._running
        return running.acts if running is not None else None

    @property
    def dispatcher(self) -> Dispatcher | None:
        """The order of work."""
        running = self._running
        return running.dispatcher if running is not None else None

    @property
    def store(self) -> Store | None:
        """Where it is kept; None while that cannot be opened."""
        return self._store

    def added(self, name: str) -> None:
        """A message is new in the queue."""
        running = self._running
        if running is not None:
            running.runner.added(name)

    def awaited(self, name: str) -> None:
        """A next hop may answer still about a message that is in the queue."""
        running = self._running
        if running is not None:
            running.runner.awaited(name)

    def late(self, name: str, position: int, outcome: Outcome) -> None:
        """A next hop has answered after the message was queued."""
        running = self._running
        if running is not None:
            keep_running(hear(running.queue, running.runner, name, position, outcome))

    async def prepare(self, next_hop: NextHop, deadline: float) -> None:
        """Know the limits of a next hop (`mta.handover.Gate`)."""
        await self._naming.prepare(next_hop, deadline)

    def enter(self, next_hop: NextHop) -> Permit | Reply | None:
        """Begin a first try (`mta.handover.Gate`)."""
        running = self._running
        return running.gate.enter(next_hop) if running is not None else None

    def any_dead(self) -> bool:
        """False when all next hops answer, as far as is known (`mta.handover.Gate`)."""
        running = self._running
        return running is not None and running.gate.any_dead()

    def is_dead(self, next_hop: NextHop) -> bool:
        """True when a next hop is known not to answer (`mta.handover.Gate`)."""
        running = self._running
        return running is not None and running.gate.is_dead(next_hop)

    # --- life ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the queue, or begin to try. Raises ValueError for what an administrator must mend."""
        loop = asyncio.get_running_loop()
        self._watching = loop.create_task(self._watch())
        self._opening = loop.create_task(self._open_at_last())
        await asyncio.wait((self._opening,), timeout=START_PATIENCE)
        self._starting = False
        if self._opening.done():
            self._opening.result()
        else:
            reason = f"not open after {START_PATIENCE:g} s, and still being opened"
            store = self._store.name if self._store is not None else "none"
            self._log.error("no queue yet", store=store, reason=reason)

    async def stop(self, seconds: float) -> None:
        """Let tries end for some time, then hand everything over to whoever comes next."""
        self._stopping = True
        for task in (self._watching, self._opening):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        await self._trial.end()
        running, self._running = self._running, None
        if running is not None:
            await self._end(running, seconds)
        if self._store is not None:
            await self._store.close()

    async def _open_at_last(self) -> None:
        """Open the queue; what cannot be opened now is tried again.

        Raises ValueError during `start` for what an administrator must mend.
        """
        complained = ""
        while True:
            try:
                await self._open()
            except (StoreRefused, ValueError) as error:
                if self._starting and not complained:
                    raise ValueError(f"queue: {error}") from error
                problem = str(error)
            except (StoreError, QueueError, OSError) as error:
                problem = str(error)
            else:
                self._was_open = True
                if complained:
                    self._log.info("the queue is open")
                return
            if problem != complained:
                self._log.error("the queue cannot be opened", reason=problem)
                complained = self._problem = problem
            if not self._was_open:
                # The next attempt opens it anew: what is open may be a folder that another mount covers.
                store, self._store = self._store, None
                if store is not None:
                    keep_running(self._let_go(store))  # a disk that hangs must not hold the next attempt up
            await asyncio.sleep(AGAIN)

    async def _let_go(self, store: Store) -> None:
        """Close what could not be used."""
        try:
            await store.close()
        except (StoreError, OSError) as error:
            self._log.warning("a store was not closed in order", store=store.name, reason=str(error))

    async def _watch(self) -> None:
        """Tell when the stores of a queue that is open fail, and when they work again."""
        alarm, clock = Alarm(), asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(EVERY)
            running = self._running
            if running is None:
                continue  # whoever opens it tells
            trouble = running.queue.trouble
            lasted = alarm.look(trouble, clock())
            if lasted is None:
                continue
            if trouble:
                what = "nothing is delivered from the queue, and what must wait is answered 4xx"
                self._log.warning("the queue cannot be used", reason=trouble, until_then=what)
            else:
                self._log.warning("the queue can be used again", seconds=round(lasted))

    async def _open(self) -> None:
        settings, store = self._settings, self._store
        if store is None:
            # In a thread: a disk that hangs must not stop the sessions.
            store = self._store = await asyncio.to_thread(self._open_store)
        if settings.probe:
            await self._trial.begin(store)
        early: list[int] = []
        runners: list[Runner] = []

        def adopted(handles: Sequence[int]) -> None:
            if runners:
                runners[0].adopted(handles)
            else:
                early.extend(handles)

        queue = await MailQueue.open(store, settings.queue, on_adopted=adopted)
        dispatcher = Dispatcher(
            SiteLimits(settings.hops, settings.workers),
            connections=ALL_CONNECTIONS,
            source_rates={name: rate.share(settings.workers) for name, rate in settings.rates.items()},
        )
        runner = Runner(
            queue,
            dispatcher,
            lambda runner: Attempts(
                settings.attempts,
                queue,
                self._transports,
                self._route,
                self._is_final,
                self._reports,
                self._journal,
                self._advisor,
                added=runner.added,
                now=self._now,
                naming=self._naming,
                addressing=self._addressing(queue, runner),
            ),
            self._journal,
            retry=settings.attempts.retry,
            now=self._now,
            naming=self._naming,
            looks={n: one.look for n, one in self._transports.items() if isinstance(one, FixedTransport)},
        )
        runners.append(runner)
        acts = Acts(queue, runner, runner.attempts, self._route, self._now, self._naming)
        runner.adopted(early)
        gate = Gate(dispatcher, self._now, runner.nudge, self._naming)
        task = asyncio.get_running_loop().create_task(runner.run())
        running = _Running(queue, dispatcher, runner, gate, acts, task)
        task.add_done_callback(self._runner_ended)
        queue.on_fenced(lambda: self._fenced(running))
        self._running = running

    def _refused(self) -> None:
        if self._running is not None:
            self._fenced(self._running)

    def _addressing(self, queue: MailQueue, runner: Runner) -> Addressing | None:
        if self._find is None:
            return None
        return Addressing(
            self._find, queue, self._route, self._journal, self._settings.attempts.report_retry,
            added=runner.added, now=self._now, naming=self._naming,
        )  # fmt: skip

    def _runner_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("task failed", exc_info=error)
            if not self._stopping:  # a queue that nobody works must be somebody else's
                running = self._running
                if running is not None and running.task is task:
                    self._fenced(running)

    def _fenced(self, running: _Running) -> None:
        if self._running is running and not self._stopping:
            self._running = None
            self._log.error("the queue is opened anew", stream=running.queue.stream)
            self._problem = "it is being opened anew"
            self._opening = asyncio.get_running_loop().create_task(self._start_anew(running))

    async def _start_anew(self, running: _Running) -> None:
        await self._end(running, 0.0)
        await self._open_at_last()

    async def _end(self, running: _Running, seconds: float) -> None:
        await running.runner.stop(seconds)
        running.task.cancel()
        await asyncio.wait((running.task,))
        try:
            await running.queue.close()
        except (QueueError, StoreError) as error:
            # The next one takes it over as after a crash.
            self._log.error("the queue was not closed in order", reason=str(error))
