"""When trouble is told, and its end."""

from __future__ import annotations

import pytest

from mta.spool.alarm import Alarm


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ("..........", {}),
        (".x.x.x.x.x", {}),
        ("xx.xx.xx.x", {}),
        ("..xxxxxxxx", {4: 0.0}),
        (".xxxxx.......", {3: 0.0, 8: 5.0}),
        (".xxxxx.x.x.x...", {3: 0.0, 14: 11.0}),
        ("xxx...xxx...", {2: 0.0, 5: 3.0, 8: 0.0, 11: 3.0}),
    ],
)
def test_once_when_it_begins_and_once_when_it_is_over(seen: str, told: dict[int, float]) -> None:
    """A look a second: "x" is trouble."""
    alarm = Alarm()
    answers = {second: alarm.look(what.strip("."), float(second)) for second, what in enumerate(seen)}
    assert {second: answer for second, answer in answers.items() if answer is not None} == told
