"""Event loops in virtual time: one a process, driven by one timeline, so that a run depends on its seed only.

Each simulated process has an asyncio loop of its own. The timeline always runs the loop (or the event of the
outside world) whose next callback is the earliest. So a process can be stopped as by SIGSTOP, with the rest
of the world going on, or killed between any two callbacks.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
from asyncio import events
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import count
from types import CoroutineType
from typing import Any, TypeVar, cast


class Deadlock(AssertionError):
    """Nothing is left to happen, and the run is not over."""


class _NoSelector:
    """There are no sockets in virtual time."""

    def select(self, timeout: float | None) -> list[Any]:
        return []

    def close(self) -> None:
        pass


class ProcessLoop(asyncio.BaseEventLoop):
    """The loop of one process; `Timeline` says what time it is and when it runs."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self._timeline = timeline
        self._selector = _NoSelector()
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self._timeline.now

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def next_time(self) -> float | None:
        """When the next callback is due, None when nothing waits."""
        if self._ready:  # type: ignore[attr-defined]
            return self._timeline.now
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        return scheduled[0]._when if scheduled else None

    def turn(self) -> None:
        """Run what is ready now."""
        events._set_running_loop(self)
        try:
            self._run_once()  # type: ignore[attr-defined]
        finally:
            events._set_running_loop(None)


class Process:
    """A simulated process: a loop that runs, is stopped, or is dead."""

    def __init__(self, timeline: Timeline) -> None:
        self.loop = ProcessLoop(timeline)
        self.tasks: list[asyncio.Task[Any]] = []
        self.stopped = False
        self.alive = True

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self.tasks.append(task)
        return task

    def kill(self) -> None:
        """As by SIGKILL: no callback of it ever runs again."""
        self.alive = False
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]


class Timeline:
    """Virtual time and all that happens in it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.processes: list[Process] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Something happens outside of all processes."""
        heapq.heappush(self._events, (max(time, self.now), next(self._order), call))

    def process(self) -> Process:
        process = Process(self)
        self.processes.append(process)
        return process

    def run(self, until: Callable[[], bool], limit: float) -> None:
        """Let things happen until `until` is true. Raises Deadlock when `limit`, in virtual time, is
        reached."""
        while not until():
            if not self.step(limit):
                raise Deadlock(f"not over at {self.now:.1f}")

    def run_to(self, time: float) -> None:
        """Let everything happen up to a moment."""
        while self.step(time):
            pass
        self.now = max(self.now, time)

    def step(self, limit: float) -> bool:
        """The next thing happens; False when that would be after `limit`."""
        best = self._events[0][0] if self._events else float("inf")
        chosen: Process | None = None
        for process in self.processes:
            if process.alive and not process.stopped:
                at = process.loop.next_time()
                if at is not None and at < best:
                    best, chosen = at, process
        if best > limit:
            return False
        self.now = max(self.now, best)
        if chosen is None:
            heapq.heappop(self._events)[2]()
        else:
            chosen.loop.turn()
        return True

    def close(self) -> None:
        """Free everything."""
        for process in self.processes:
            process.kill()
            while tasks := [task for task in asyncio.all_tasks(process.loop) if _is_open(task)]:
                for task in tasks:
                    # What cleans up with an await cannot: nothing ever happens again.
                    with suppress(RuntimeError):
                        _coroutine(task).close()
            process.loop.close()


def _coroutine(task: asyncio.Task[Any]) -> CoroutineType[Any, Any, Any]:
    return cast("CoroutineType[Any, Any, Any]", task.get_coro())


def _is_open(task: asyncio.Task[Any]) -> bool:
    return inspect.getcoroutinestate(_coroutine(task)) != "CORO_CLOSED"


T = TypeVar("T")


def run(work: Coroutine[Any, Any, T], limit: float = 1e6) -> T:
    """Run one coroutine in virtual time: what waits for hours is over at once. Raises what it raises."""
    timeline = Timeline()
    process = timeline.process()
    task = process.start(work)
    try:
        timeline.run(task.done, timeline.now + limit)
        assert not process.loop.errors, process.loop.errors
        return cast(T, task.result())
    finally:
        timeline.close()
