"""What goes wrong beside the mail: it is told, and the server goes on."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mta import config
from mta.supervisor.core import Supervisor
from mta.supervisor.generation import Generation
from mta.supervisor.plan import Plan
from mta.supervisor.planning import plan
from mta.supervisor.setup import Setup, check_setup
from mta.supervisor.staff import Staff
from tests.unit.test_supervisor_planning import TEXT

CHECKED = TEXT + '[checks]\nmode = "production"\n'


class Told:
    """A log that is remembered."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **facts: self.lines.append(f"{level} {event}")


def test_checks_that_cannot_run_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another version of Python was installed since the start, or memory is short."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    log = Told()
    made = plan(config.parse(CHECKED))
    assert made.checks is not None

    async def never(*about: object) -> None:
        raise AssertionError("there is nothing to mail")

    async def main() -> None:
        report = await check_setup(made, {}, 0.0)
        assert (report.wrong, report.refused, report.results) == ((), (), ())
        assert "No such file" in report.warnings[0]
        await Setup({}, cast(Any, log), never).once(made)

    asyncio.run(main())
    assert log.lines == ["warning set-up"]


def test_checks_for_which_there_is_no_thread_do_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 waits for a process in a thread, which the limit of processes may not leave room for."""

    async def refuse(*command: str, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    made = plan(config.parse(CHECKED))

    async def main() -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
        report = await check_setup(made, {}, 0.0)
        assert report.warnings == ("the set-up could not be checked: can't start new thread",)

    asyncio.run(main())


def test_a_bug_at_a_reload_does_not_end_the_server() -> None:
    def load() -> Plan:
        raise KeyError("a bug")

    async def main() -> None:
        log = Told()
        supervisor = Supervisor(load, cast(Any, log), {})
        supervisor.current = cast(Generation, SimpleNamespace(number=7))
        supervisor.staff = cast(Staff, SimpleNamespace(stats=SimpleNamespace(reloads=Counter())))
        result = await supervisor._reload_in_turn()
        assert (result.ok, result.generation) == (False, 7)
        assert result.problems == ("internal error: KeyError('a bug')",)
        assert log.lines == ["error reload refused"]
        assert not supervisor.reloading

    asyncio.run(main())


def test_a_stop_does_not_wait_for_the_checks_of_a_reload() -> None:
    """They may take a minute, and the processes have ended long before."""
    ended: list[str] = []

    async def checks(plan: Plan) -> tuple[str, ...]:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("checks")
        return ()

    async def main() -> None:
        plan = cast(Plan, SimpleNamespace(state_directory="/s"))
        supervisor = Supervisor(lambda: plan, cast(Any, Told()), {})
        supervisor.current = cast(Generation, SimpleNamespace(number=7, plan=plan))
        supervisor.staff = cast(Staff, SimpleNamespace(generations=[]))
        supervisor._setup = cast(Setup, SimpleNamespace(at_reload=checks))
        asyncio.get_running_loop().call_later(0.01, supervisor.stop)
        async with asyncio.timeout(60):
            result = await supervisor._reload_now()
        assert result.problems == ("the server is stopping",)
        assert ended == ["checks"]

    asyncio.run(main())
