"""The processes that were started with one configuration, and how each of their seats stays taken.

A generation has a seat for each process of its plan. `start` fills all seats and returns when every
process accepts connections; if one cannot, `StartFailed` says why, so that a reload goes on with the
generation before: who is not ready ends then at once, who is has clients and is to be drained. The first
process of each kind starts alone: mail is taken as soon as it is ready, and on a busy machine that is much
earlier when its fellows do not compete with it.

From then on a process that ends is replaced, at once the first time and with growing pauses when it
keeps ending (`mta.supervisor.backoff`). `drain` gives the seats up: processes end their sessions and are
not replaced. `interrupt` does so to a start that somebody stops.

A process that does not get ready in `READY_TIMEOUT` is killed; its seat counts it as a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Protocol

from mta.supervisor.backoff import Backoff
from mta.supervisor.channel import frame
from mta.supervisor.child import Child, State
from mta.supervisor.messages import Finding, Keep, Snapshot, Topic
from mta.supervisor.plan import Crew, Plan
from mta.supervisor.sockets import SocketSet

READY_TIMEOUT = 30.0
"""Seconds from the start of a process until it must accept connections; a fast start takes less than one."""

MAX_KEPT = 4 * 1024 * 1024
"""Octets of what is kept for later workers, some kB a certificate: it has to fit into their first message."""


class StartFailed(RuntimeError):
    """A generation could not get ready; the text says why."""


@dataclass(slots=True)
class Seat:
    """A place for one process."""

    crew: Crew
    name: str
    backoff: Backoff
    child: Child | None = None
    restarts: int = 0
    timer: asyncio.TimerHandle | None = None
    trouble: str = ""
    """What the last process complained of, or how it ended; "" while one is being started."""


class Office(Protocol):
    """What a generation needs of the supervisor."""

    async def launch(self, generation: Generation, seat: Seat) -> Child:
        """Start a process for a seat. Raises `OSError`."""

    def run_beside(self, work: Coroutine[None, None, None]) -> None:
        """Run something beside everything else."""

    def published(self, child: Child, topic: Topic) -> None:
        """Pass on what a child tells the others."""

    def left(self, child: Child) -> None:
        """Account for a child that has ended."""

    def answered(self) -> None:
        """Note that some child has sent its counters."""

    def found(self, finding: Finding) -> None:
        """Hand an answer to who asked for it."""

    def restarted(self, role: str) -> None:
        """Count that a process ended by itself and is replaced."""

    def report(self, level: str, event: str, **facts: object) -> None:
        """Write a log line."""


class Generation:
    """All processes of one configuration."""

    def __init__(self, number: int, plan: Plan, sockets: SocketSet, office: Office) -> None:
        """Lay out the seats; nothing runs yet."""
        self.number = number
        self.plan = plan
        self.sockets = sockets
        self.draining = False
        self.kept: dict[str, Keep] = {}
        """What its workers gave for those that start later."""
        self._kept_octets = 0
        self._is_told = False
        """Whether the log says that something is not kept: of thousands of files it need not name each."""
        self.log_level = ""
        """What an administrator has set in place of the configuration's."""
        self.seats = [
            Seat(crew, f"{crew.role}-{number}.{index + 1}", Backoff(plan.restart_delay_max))
            for crew in plan.crews
            for index in range(crew.count)
        ]
        self._office = office
        self._living: set[Child] = set()
        self._start: asyncio.Future[None] | None = None
        self._awaited: list[Seat] = []
        self._news = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def children(self) -> Iterable[Child]:
        """The processes that have not ended, in no order."""
        return self._living

    async def start(self) -> None:
        """Fill all seats and wait until everybody is ready.

        Raises `StartFailed`; then no seat is filled again, and who is left is to be drained.
        """
        loop = asyncio.get_running_loop()
        latest = loop.time() + READY_TIMEOUT
        try:
            for wave in self._waves():
                self._start = loop.create_future()
                self._awaited += wave
                await asyncio.gather(*(self._fill(seat) for seat in wave))
                async with asyncio.timeout_at(latest):
                    await self._start
                if self.draining:
                    raise StartFailed("stopped")
        except TimeoutError:
            late = ", ".join(seat.name for seat in self._awaited if not _is_ready(seat))
            self._give_up()
            raise StartFailed(f"{late}: not ready within {READY_TIMEOUT:g} s") from None
        except OSError as problem:
            self._give_up()
            raise StartFailed(f"cannot start a process: {not_run(problem)}") from problem
        except StartFailed:
            self._give_up()
            raise
        finally:
            self._start = None

    def drain(self, seconds: float, role: str = "") -> None:
        """Give the seats up; sessions may go on for `seconds`. With `role` only its processes are told.

        Who is told already keeps its time.
        """
        self._close_seats()
        for child in self._of(role):
            child.drain(seconds)

    def interrupt(self) -> None:
        """Let `start` fail, if it is under way; otherwise nothing happens."""
        if self._start is None:
            return
        self._close_seats()
        if not self._start.done():
            self._start.set_exception(StartFailed("stopped"))

    def kill(self) -> None:
        """End all processes at once."""
        self._close_seats()
        for child in list(self._living):
            child.kill()

    async def wait_empty(self) -> None:
        """Return when the last process has ended."""
        await self._empty.wait()

    async def wait_gone(self, role: str) -> None:
        """Return when the last process of a role has ended."""
        while self._of(role):
            self._news.clear()
            await self._news.wait()

    async def wait_not_accepting(self, seconds: float, role: str = "") -> None:
        """Return when no process (of a role) uses the listening sockets any more, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(child.accepting for child in self._of(role)):
                    self._news.clear()
                    await self._news.wait()

    def _of(self, role: str) -> list[Child]:
        return [child for child in self._living if role in ("", child.role)]

    def child_ready(self, child: Child) -> None:
        """Note that a process accepts connections (`Watcher`)."""
        self._office.report(
            "info", "worker ready", worker=child.name, pid=child.pid, seconds=round(child.lived(), 3)
        )
        if self._start is not None and not self._start.done() and all(map(_is_ready, self._awaited)):
            self._start.set_result(None)

    def child_gone(self, child: Child) -> None:
        """Replace a process that ended, unless the seats are given up (`Watcher`)."""
        self._living.discard(child)
        self._news.set()
        if not self._living:
            self._empty.set()
        self._office.left(child)
        if self._start is not None and not self._start.done():
            reason = child.fault or f"{child.ending} before it was ready"
            self._start.set_exception(StartFailed(f"{child.name}: {reason}"))
        seat = self._seat_of(child)
        if self.draining or seat is None or self._start_failed():
            self._office.report("info", "worker ended", worker=child.name, pid=child.pid, how=child.ending)
        else:
            self._replace(seat, child.lived(), pid=child.pid, how=child.ending)

    def child_drained(self, child: Child) -> None:
        """Wake whoever waits; replace a process that leaves on its own, as by SIGTERM (`Watcher`)."""
        self._news.set()
        seat = self._seat_of(child)
        if self.draining or seat is None:
            return
        seat.child = None
        seat.restarts += 1
        self._office.report("info", "worker leaves", worker=child.name, pid=child.pid)
        self._office.run_beside(self._refill(seat))

    def child_published(self, child: Child, topic: Topic) -> None:
        """Pass on (`Watcher`)."""
        self._office.published(child, topic)

    def child_keeps(self, child: Child, keep: Keep) -> None:
        """Keep it, as far as there is room (`Watcher`)."""
        old = self.kept.pop(keep.key, None)
        if old is not None:
            self._kept_octets -= len(frame(old))
        size = len(frame(keep))
        if self._kept_octets + size > MAX_KEPT:
            if not self._is_told:
                self._is_told = True
                self._office.report("warning", "not kept for later workers", worker=child.name, what=keep.key)
            return
        self._kept_octets += size
        self.kept[keep.key] = keep

    def child_fault(self, child: Child, text: str) -> None:
        """Log what a process complains about (`Watcher`)."""
        if (seat := self._seat_of(child)) is not None:
            seat.trouble = text
        self._office.report("error", "worker fault", worker=child.name, pid=child.pid, fault=text)

    def child_found(self, child: Child, finding: Finding) -> None:
        """Pass on (`Watcher`)."""
        self._office.found(finding)

    def child_snapshot(self, child: Child, snapshot: Snapshot) -> None:
        """Tell whoever waits for counters; the child keeps them (`Watcher`)."""
        self._office.answered()

    def _waves(self) -> Iterable[list[Seat]]:
        """Give the seats in the order of their start: the first of each crew, then all others."""
        firsts = [next(seat for seat in self.seats if seat.crew is crew) for crew in self.plan.crews]
        yield firsts
        if len(firsts) < len(self.seats):
            yield [seat for seat in self.seats if seat not in firsts]

    def _start_failed(self) -> bool:
        start = self._start
        return start is not None and start.done() and (start.cancelled() or start.exception() is not None)

    def _seat_of(self, child: Child) -> Seat | None:
        return next((seat for seat in self.seats if seat.child is child), None)

    async def _fill(self, seat: Seat) -> None:
        seat.trouble = ""
        seat.child = await self._office.launch(self, seat)
        self._living.add(seat.child)
        self._empty.clear()
        if self.draining:  # given up while the process was made; nobody else knows of it
            seat.child.drain(self.plan.drain_timeout)

    def _replace(self, seat: Seat, lived: float, **facts: object) -> None:
        seat.child = None
        seat.restarts += 1
        seat.trouble = seat.trouble or str(facts["how"])
        delay = seat.backoff.delay(lived)
        self._office.restarted(seat.crew.role)
        self._office.report(
            "error", "worker restarts", worker=seat.name, lived=round(lived, 3), delay=delay,
            crashes=seat.backoff.crashes, **facts,
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        seat.timer = loop.call_later(delay, lambda: self._office.run_beside(self._refill(seat)))

    async def _refill(self, seat: Seat) -> None:
        seat.timer = None
        if self.draining:
            return
        try:
            await self._fill(seat)
        except Exception as problem:  # noqa: BLE001 - a bug must not end the supervisor, with all the others
            known = isinstance(problem, OSError)
            self._replace(seat, 0.0, pid=0, how=f"cannot start: {problem if known else repr(problem)}")
            return
        child = seat.child
        assert child is not None
        seat.timer = asyncio.get_running_loop().call_later(READY_TIMEOUT, self._too_late, child)

    def _too_late(self, child: Child) -> None:
        if child.state is State.STARTING:
            self._office.report("error", "worker not ready in time", worker=child.name, pid=child.pid)
            child.abort()

    def _close_seats(self) -> None:
        self.draining = True
        for seat in self.seats:
            if seat.timer is not None:
                seat.timer.cancel()
                seat.timer = None

    def _give_up(self) -> None:
        """Close the seats and let those go that have no clients."""
        self._close_seats()
        for child in self._living:
            if child.state is State.STARTING:
                child.drain(self.plan.drain_timeout)


def _is_ready(seat: Seat) -> bool:
    return seat.child is not None and seat.child.state is State.READY


def not_run(problem: OSError) -> str:
    """Why a program could not be run. One that belongs to somebody's home cannot be run by another user."""
    if not isinstance(problem, PermissionError) or not problem.filename:
        return str(problem)
    path = os.fsdecode(problem.filename)
    there = os.path.realpath(path)
    leads = f", which is {there}," if there != path else ""
    return f"the user of the server may not run {path}{leads} or not enter a folder above it"
