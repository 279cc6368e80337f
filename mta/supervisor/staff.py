"""All living processes of the node, of every generation: what they share, tell each other and have counted.

`Staff` starts processes for the seats of a generation (`Office`), gives each worker its slot, hands what one
publishes to all others, asks everybody for counters every `BEAT` seconds, and takes that as the sign of life:
a process that has not answered for `HANG_LIMIT` is made to write where it hangs, ended, and replaced by its
generation.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from mta.metrics import Stats
from mta.supervisor.child import Child, State
from mta.supervisor.counters import Counters
from mta.supervisor.generation import Generation, Seat
from mta.supervisor.memory import Memory
from mta.supervisor.messages import (
    ENDED,
    SILENT,
    Finding,
    LogLevel,
    Question,
    Refused,
    SnapshotRequest,
    Start,
    Topic,
)
from mta.supervisor.notify import Notifier
from mta.supervisor.plan import SUPERVISOR, WORKER
from mta.supervisor.slots import Slots

BEAT = 5.0
"""Seconds between two questions to each process: how stale counters of a killed worker can be."""

HANG_LIMIT = 60.0
"""Seconds of silence after which a process is taken to hang. Its loop should never stand for one."""

SNAPSHOT_TIMEOUT = 2.0
"""Seconds to wait for counters before the last known ones are shown instead."""

SILENCE = 5.0
"""Seconds without a word after which a process that was asked something is waited for no longer."""

SIGN = 1.0
"""Seconds after which a process that has not answered yet is asked for a sign of life."""

NO_SLOT = -1
"""Slot of a process that shares no counters with the workers: the mail store."""


class Log(Protocol):
    """The part of a structured logger that is used here."""

    def debug(self, event: str, **facts: object) -> object:
        """Write a line for developers."""

    def info(self, event: str, **facts: object) -> object:
        """Write a line for the record."""

    def warning(self, event: str, **facts: object) -> object:
        """Write a line that somebody should read."""

    def error(self, event: str, **facts: object) -> object:
        """Write a line that somebody must read."""


class Staff:
    """The processes of a node."""

    def __init__(
        self, log: Log, environment: Mapping[str, str], tasks: asyncio.TaskGroup, slots: Slots
    ) -> None:
        """Nobody lives yet. `environment` is what processes inherit; `tasks` runs what goes on beside."""
        self._log = log
        self._environment = environment
        self._tasks = tasks
        self._slots = slots
        self._counters = Counters()
        self._questions = 0
        self.stats = Stats(SUPERVISOR)
        self._answer = asyncio.Event()
        self._listens_since = float("-inf")
        self._asked: dict[int, tuple[Child, asyncio.Future[Finding]]] = {}
        self.memory = Memory(time.time)
        self.generations: list[Generation] = []
        """All that have living processes, oldest first; one that is being started is among them."""

    @property
    def children(self) -> list[Child]:
        """All living processes."""
        return [child for generation in self.generations for child in generation.children]

    async def metrics(self) -> dict[str, Any]:
        """Counters of the node since its start: living processes asked now, ended ones remembered."""
        question = self._ask_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SNAPSHOT_TIMEOUT):
                while any(c.answered < question for c in self.children if c.state is not State.STARTING):
                    self._answer.clear()
                    await self._answer.wait()
        return self._counters.total(self.children, self.stats.snapshot())

    async def ask(self, child: Child, topic: str, data: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Ask one process something; see `mta.worker.Daemon.answer`.

        Raises `ValueError` when it refuses, is gone (`Refused` with `ENDED`), has not answered after
        `seconds`, or gives no sign of life for `SILENCE` (`SILENT`).
        """
        self._questions += 1
        number = self._questions
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Finding] = loop.create_future()
        self._asked[number] = child, answer
        until = loop.time() + seconds
        try:
            if not child.tell(Question(number, topic, data)):
                raise Refused(f"{child.name} does not listen", ENDED if child.has_hung_up else SILENT)
            while not answer.done():
                began = time.monotonic()
                await asyncio.wait((answer,), timeout=min(SIGN, max(0.0, until - loop.time())))
                if answer.done():
                    break
                child.tell(SnapshotRequest(number))
                await asyncio.wait((answer,), timeout=min(SILENCE - SIGN, max(0.0, until - loop.time())))
                if answer.done():
                    break
                if loop.time() >= until:
                    raise Refused(f"did not answer within {seconds:g} s", SILENT)
                if child.heard_at < began:
                    raise Refused(f"has given no sign of life for {SILENCE:g} s", SILENT)
            finding = answer.result()
        finally:
            del self._asked[number]
        if finding.error:
            raise Refused(finding.error, finding.code)
        return finding.data

    def set_log_level(self, level: str) -> None:
        """Change the level of all processes, and of those that come in their places."""
        for generation in self.generations:
            generation.log_level = level
        for child in self.children:
            child.tell(LogLevel(level))

    async def beat(self, notifier: Notifier) -> None:
        """Ask everybody for counters and a sign of life, and give one to systemd; until cancelled."""
        watchdog = notifier.watchdog_seconds
        period = min(BEAT, watchdog / 2) if watchdog else BEAT
        looked = time.monotonic()
        while True:
            notifier.watchdog()
            now = time.monotonic()
            if now - looked > HANG_LIMIT / 2:  # we stood still, perhaps with all of the machine
                self._listens_since = now
            looked = now
            self._ask_all()
            for child in self.children:
                if child.state is not State.STARTING and not child.aborted:  # a start has a limit of its own
                    self._end_if_hung(child)
            await asyncio.sleep(period)

    # What a generation needs (`Office`)

    async def launch(self, generation: Generation, seat: Seat) -> Child:
        """Start a process for a seat. Raises `OSError`."""
        role = seat.crew.role
        slot = self._slots.take() if role == WORKER else NO_SLOT
        child = Child(seat.name, role, generation.number, slot, generation)

        def start(descriptors: dict[str, list[int]]) -> Start:
            return Start(
                name=seat.name,
                slot=slot,
                slots=self._slots.count,
                configuration=generation.plan.configuration,
                sockets=descriptors,
                shared_memory_fd=self._slots.memory_fd,
                drain_timeout=generation.plan.drain_timeout,
                remembered=[Topic(topic, data) for topic, data in self.memory.records()],
                kept=list(generation.kept.values()),
                log_level=generation.log_level,
            )

        sockets = generation.sockets.of(role)
        try:
            await child.spawn(seat.crew.daemon, sockets, start, self._slots.memory_fd, self._environment)
        except Exception:
            self._release(slot)
            raise
        self._log.info("worker started", worker=child.name, pid=child.pid, slot=slot)
        return child

    def run_beside(self, work: Coroutine[None, None, None]) -> None:
        """Run something beside everything else."""
        self._tasks.create_task(work)

    def answered(self) -> None:
        """Wake whoever waits for counters."""
        self._answer.set()

    def found(self, finding: Finding) -> None:
        """Hand an answer to who asked; it may have stopped waiting."""
        asked = self._asked.get(finding.number)
        if asked is not None and not asked[1].done():
            asked[1].set_result(finding)

    def restarted(self, role: str) -> None:
        """Count that a process ended by itself and is replaced."""
        self.stats.worker_restarts[role] += 1

    def published(self, child: Child, topic: Topic) -> None:
        """Pass a record on to all other processes, of every generation."""
        self.memory.remember(topic.topic, topic.data)
        for other in self.children:
            if other is child or other.has_hung_up:  # who ends needs to know nothing more
                continue
            if not other.tell(topic):
                self._log.warning("record not relayed", worker=other.name, topic=topic.topic)

    def left(self, child: Child) -> None:
        """Keep the counters of a process that ended, and free its slot."""
        self._counters.leave(child)
        for asked, answer in self._asked.values():
            if asked is child and not answer.done():
                answer.set_exception(Refused(f"{child.name} has ended", ENDED))
        self._release(child.slot)

    def report(self, level: str, event: str, **facts: object) -> None:
        """Write a log line."""
        getattr(self._log, level)(event, **facts)

    def _ask_all(self) -> int:
        self._questions += 1
        for child in self.children:
            child.tell(SnapshotRequest(self._questions))
        return self._questions

    def _end_if_hung(self, child: Child) -> None:
        silent = time.monotonic() - max(child.heard_at, self._listens_since)
        if silent > HANG_LIMIT:
            self._log.error("worker hangs", worker=child.name, pid=child.pid, silent=round(silent))
            child.abort()

    def _release(self, slot: int) -> None:
        if slot != NO_SLOT:
            self._slots.release(slot)
