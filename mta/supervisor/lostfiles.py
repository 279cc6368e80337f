"""Files that somebody deletes under a running server: they are made anew.

These are the files of our Unix sockets, behind which nobody reaches us without them, and what `sendmail` is
told (`mta.sendmail_server`). `FileWatch.look` is called every few seconds.

* The supervisor's own sockets are opened again at once, and so is tried at each look.
* Sockets of workers need new workers, and the files that they read may be half edited: after a failure the
  pauses double, up to `LONGEST_PAUSE`, until other files are gone than before.
* Each problem is told once, until nothing is missing any more.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable

from mta.sendmail_server import FILE_NAME, bound, is_published, publish
from mta.supervisor.plan import SUPERVISOR, WORKER, Plan
from mta.supervisor.privileges import make_directories
from mta.supervisor.sockets import ListenError, ListeningSockets, SocketSet
from mta.supervisor.staff import Log

FIRST_PAUSE = 5.0
"""Seconds after the first start of new workers that failed."""
LONGEST_PAUSE = 300.0
"""Seconds between two starts of new workers that fail, at most."""

_PROCESS = re.compile(r"\b[a-z]+-[0-9]+\.[0-9]+(?:, )?")
"""Names of processes, and what is between them: others at each try."""


class Pauses:
    """When to start new workers for sockets whose files are gone. Pure; times are those of one clock."""

    def __init__(self) -> None:
        """Nothing is gone."""
        self._gone: frozenset[str] = frozenset()
        self._pause = 0.0
        self._due = 0.0

    def is_due(self, gone: frozenset[str], now: float) -> bool:
        """Whether to try it for these files; at once when they are not those of the last time."""
        if gone != self._gone:
            self._gone, self._pause, self._due = gone, 0.0, now
        return bool(gone) and now >= self._due

    def failed(self, now: float) -> None:
        """Wait twice as long as before."""
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._due = now + self._pause


class FileWatch:
    """The files of one node."""

    def __init__(
        self,
        sockets: ListeningSockets,
        log: Log,
        serve: Callable[[SocketSet], Awaitable[None]],
        work_anew: Callable[[Plan], Awaitable[Iterable[str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`serve` serves the supervisor's own sockets, `work_anew` starts workers with all that is missing.

        The latter returns why it could not. `clock` gives seconds.
        """
        self._sockets = sockets
        self._log = log
        self._serve = serve
        self._work_anew = work_anew
        self._clock = clock
        self._pauses = Pauses()
        self._told: set[str] = set()

    def tell_sendmail(self, plan: Plan, opened: SocketSet) -> None:
        """Write what `sendmail` must know of a plan and its sockets; a failure is only logged."""
        for problem in self._publish(plan, opened):
            self._log.warning("sendmail not told", reason=problem)

    async def look(self, plan: Plan, opened: SocketSet) -> None:
        """Make anew what is missing of a plan that is served, with the sockets that workers have.

        For as long as it takes nobody else may change sockets. Failures go to the log.
        """
        gone = self._gone(plan)
        problems: list[str] = []
        if gone:
            try:
                problems = await self._make_anew(plan, opened)
            except Exception as error:  # noqa: BLE001 - a bug here must not end a server that runs
                problems = [f"internal error: {error!r}"]
        left = self._gone(plan)
        if made := [name for name in gone if name not in left]:
            self._log.warning("files had been removed, and are made anew", files=made)
        for problem in problems:
            key = _PROCESS.sub("", problem)
            if key not in self._told:
                self._log.warning("files are gone and not made anew", files=left, reason=problem)
                self._told.add(key)
        if not left:
            self._told.clear()
            self._pauses.is_due(frozenset(), self._clock())

    def _gone(self, plan: Plan) -> list[str]:
        notice = plan.local is not None and not is_published(plan.runtime_directory)
        return [*self._sockets.lost(plan.listens), *([FILE_NAME] if notice else [])]

    async def _make_anew(self, plan: Plan, opened: SocketSet) -> list[str]:
        """What cannot be made anew, and why."""
        try:
            make_directories(plan.directories, plan.account)
        except OSError as problem:
            return [f"{problem.filename}: {problem.strerror}"]
        problems = [] if is_published(plan.runtime_directory) else self._publish(plan, opened)
        lost = self._sockets.lost(plan.listens)
        theirs = frozenset(path for path, listen in lost.items() if listen.role != SUPERVISOR)
        if len(theirs) < len(lost):
            try:
                await self._serve_anew(plan)
            except ListenError as error:
                return [*problems, *error.problems]  # what is in the way here is also in that of new workers
        if self._pauses.is_due(theirs, self._clock()):
            try:
                problems += await self._work_anew(plan)
            finally:
                if self._sockets.lost(plan.listens):
                    self._pauses.failed(self._clock())
        return problems

    async def _serve_anew(self, plan: Plan) -> None:
        """Open the supervisor's sockets again. Raises `ListenError`, and what `serve` raises."""
        own = self._sockets.prepare(listen for listen in plan.listens if listen.role == SUPERVISOR)
        try:
            await self._serve(own)
        except BaseException:
            self._sockets.rollback(own)
            raise
        self._sockets.release(own)

    def _publish(self, plan: Plan, opened: SocketSet) -> list[str]:
        if plan.local is None:
            return []
        try:
            publish(bound(plan.local, opened.of(WORKER)), plan.runtime_directory)
        except OSError as problem:
            return [f"{problem.filename}: {problem.strerror}"]
        return []
