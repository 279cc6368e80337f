"""What is remembered of tries, and how much of it."""

from __future__ import annotations

import pytest

from mta.reply import Reply
from mta.spool import history
from mta.spool.history import History, Tried


def tried(at: float, to: str = "a@x.test") -> Tried:
    return Tried(at, to, Reply(451, "4.0.0", f"at {at}"), "")


def test_tries_of_a_message_come_back_in_order() -> None:
    known = History()
    known.note("m", [tried(1.0), tried(1.0, "b@x.test")])
    known.note("n", [tried(2.0)])
    known.note("m", [tried(3.0)])
    assert [(one.at, one.to) for one in known.of("m")] == [
        (1.0, "a@x.test"),
        (1.0, "b@x.test"),
        (3.0, "a@x.test"),
    ]
    assert known.of("other") == []
    assert len(known) == 4


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "TRIES", 120)
    known = History()
    for number in range(history.EACH + 10):
        known.note("often", [tried(float(number))])
    assert [one.at for one in known.of("often")] == [float(n) for n in range(10, history.EACH + 10)]
    for number in range(100):
        known.note(f"m{number}", [tried(float(number))])
        assert len(known) <= 120
    assert known.of("often") == []
    assert len(known.of("m99")) == 1
    known.note("list", [tried(0.0, f"{n}@x.test") for n in range(1000)])
    assert len(known.of("list")) == history.EACH
    assert len(known) <= 120
