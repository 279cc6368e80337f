"""The checks of the set-up (`mta.startup`) in the life of the node: at a start, at a reload, each day.

They run in a process of their own as the user of the server. What is wrong stops a start or a reload, never a
server that runs: there, what changes is logged, counted and mailed to the postmaster.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar

import msgspec

from mta.startup.report import Report, ReportedResult
from mta.supervisor.aside import NoAnswer, answer_of
from mta.supervisor.generation import StartFailed
from mta.supervisor.plan import Plan, PlanError
from mta.supervisor.staff import Log

MOST_SECONDS = 60.0
"""Of a run of the checks beyond its patience, after which it is ended and nothing is known."""
STARTING = 0.5
"""Seconds between two looks whether something is served."""
IDLE = 60.0
"""Seconds between two looks at the configuration where it wants no checks."""
HOW_TO_GO_ON = (
    "the start is refused; `tamis check` shows all of it; to start in spite of a check, in [checks]:"
    ' NAME = "warn"; a server that is for tests only: mode = "local"'
)
MAX_LINES = 200
"""Lines of findings in a mail."""
T = TypeVar("T")


class NotYet(StartFailed):
    """What keeps the server from starting may pass by itself; `problems` are lines for the administrator."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


async def check_setup(
    plan: Plan, environment: MutableMapping[str, str], patience: float, *, live: bool = False
) -> Report:
    """Run the checks. What keeps them from running is a warning: nothing was proved."""
    account = plan.account if os.geteuid() == 0 else None
    identity: dict[str, Any] = {}
    if account is not None:
        identity = {"user": account.uid, "group": account.gid, "extra_groups": list(account.groups)}
    command = [sys.executable, "-m", "mta.startup", str(patience), *(["live"] if live else [])]
    seconds = patience + MOST_SECONDS
    try:
        answer = await answer_of(command, plan.configuration, seconds, environment, **identity)
        return msgspec.json.decode(answer, type=Report)
    except (NoAnswer, msgspec.DecodeError) as error:
        return _unchecked(str(error))


def _unchecked(reason: str) -> Report:
    return Report(warnings=(f"the set-up could not be checked: {reason}",))


def changes(before: Mapping[tuple[str, str, str], ReportedResult], report: Report) -> list[str]:
    """What ends otherwise than the last time, as lines for people."""
    lines = []
    for result in report.results:
        known = before.get(result.key)
        was = known.outcome if known is not None else "ok"
        if result.outcome == was:
            continue
        lines.append(f"{result.check} {result.subject}: {was} -> {result.outcome}")
        lines.append(f"    {result.asked}: {result.found}")
        if result.mend and result.outcome != "ok":
            lines += [f"    {line}" for line in result.mend.splitlines()]
    return lines[:MAX_LINES]


async def unless_stopped(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """What comes of something that may take a minute, or None as soon as the server stops."""
    checking = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((checking, stopped), return_when=asyncio.FIRST_COMPLETED)
        return checking.result() if checking.done() else None
    finally:
        checking.cancel()
        stopped.cancel()
        await asyncio.wait((checking, stopped))


class Setup:
    """The set-up of one node, from its start on."""

    def __init__(
        self,
        environment: MutableMapping[str, str],
        log: Log,
        mail: Callable[[str, list[str], Report], Awaitable[None]],
    ) -> None:
        """`mail` writes a subject, lines and the whole report to the postmaster; it may raise ValueError."""
        self._environment = environment
        self._log = log
        self._mail = mail
        self._known: dict[tuple[str, str, str], ReportedResult] = {}
        self._untold: list[str] = []
        self.counts: defaultdict[str | tuple[str, ...], float] = defaultdict(float)
        """For metrics: how many results each check had of each outcome, the last time."""

    async def at_start(self, plan: Plan) -> None:
        """Raises `PlanError` for what is wrong, `StartFailed` for what is unknown and may not be."""
        if plan.checks is None:
            return
        report = await check_setup(plan, self._environment, plan.checks.patience)
        if report.wrong:
            raise PlanError([*report.wrong, *report.refused, HOW_TO_GO_ON])
        if report.refused:
            raise NotYet([*report.refused, HOW_TO_GO_ON])
        self._remember(report)
        self._untold = list(report.warnings)

    def say(self, plan: Plan) -> None:
        """Log what was found at the start, once there is a log."""
        if plan.checks is None:
            self._log.info("the set-up is not checked", reason="a local server (checks.mode)")
        for warning in self._untold:
            self._log.warning("set-up", reason=warning)
        self._untold = []

    async def at_reload(self, plan: Plan) -> tuple[str, ...]:
        """Why a plan cannot be served; empty when it can."""
        if plan.checks is None:
            return ()
        report = await check_setup(plan, self._environment, 0.0)
        refusals = report.wrong + report.refused
        if not refusals:
            self._remember(report)
            self._untold = list(report.warnings)
            self.say(plan)
        return refusals

    async def watch(self, current: Callable[[], Plan | None]) -> None:
        """Look again and again, for ever; run it as a task. `current` is the plan that is served."""
        while True:
            plan = current()
            if plan is None:
                await asyncio.sleep(STARTING)
                continue
            interval = plan.checks.interval if plan.checks is not None else 0.0
            await asyncio.sleep(interval or IDLE)
            plan = current()
            if interval and plan is not None and plan.checks is not None:
                await self.once(plan)

    async def once(self, plan: Plan) -> None:
        """Look at a running server, and tell what has changed."""
        assert plan.checks is not None
        report = await check_setup(plan, self._environment, plan.checks.patience, live=True)
        if not report.results:
            self._untold = list(report.warnings)
            self.say(plan)
            return
        lines = changes(self._known, report)
        self._remember(report)
        if not lines:
            return
        is_bad = any(result.outcome != "ok" for result in report.results)
        (self._log.warning if is_bad else self._log.info)("set-up changed", changes=lines)
        if plan.checks.mail_changes:
            subject = "the set-up needs you" if is_bad else "the set-up is well again"
            try:
                await self._mail(subject, lines, report)
            except ValueError as error:
                self._log.error("set-up not mailed", reason=str(error))

    def _remember(self, report: Report) -> None:
        self._known = {result.key: result for result in report.results}
        self.counts.clear()
        self.counts.update(report.counts)
