"""What one process tells the others, and which of them it is said to have missed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from mta.supervisor.messages import Topic
from mta.supervisor.slots import Slots
from mta.supervisor.staff import Staff


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, object]] = []

    def debug(self, event: str, **facts: object) -> None:
        return

    info = error = debug

    def warning(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts["worker"]))


def child(name: str, *, has_hung_up: bool = False, hears: bool = True) -> Any:
    return SimpleNamespace(name=name, has_hung_up=has_hung_up, tell=lambda topic: hears)


def test_who_is_about_to_end_misses_nothing() -> None:
    """After each reload there were lines about workers that had just been told to leave."""
    log = Log()
    staff = Staff(log, {}, cast(Any, None), Slots(1))
    one = child("one", hears=False)
    others = [child("leaves", has_hung_up=True, hears=False), child("hears"), child("deaf", hears=False)]
    staff.generations = [cast(Any, SimpleNamespace(children=[one, *others]))]
    staff.published(one, Topic("unacknowledged", {"key": "k"}))
    assert log.lines == [("record not relayed", "deaf")]
    assert len(staff.memory) == 1
