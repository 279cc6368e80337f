"""What workers give to those that start later, and where it ends."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mta import config
from mta.supervisor.channel import frame
from mta.supervisor.child import Child
from mta.supervisor.generation import MAX_KEPT, Generation, Office
from mta.supervisor.messages import Keep
from mta.supervisor.planning import plan
from mta.supervisor.sockets import SocketSet

TEXT = 'identity.hostname = "mail.example.org"\n'
THIRD = "x" * (MAX_KEPT // 3)


class Reports:
    """The part of an office that is told of what is not kept."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, object]] = []

    def report(self, level: str, event: str, **facts: object) -> None:
        self.said.append((level, event, facts["what"]))


class Worker:
    """The part of a child that is named in a report."""

    name = "worker-1.1"


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def generation(reports: Reports) -> Generation:
    return Generation(
        1, plan(config.parse(TEXT)), SocketSet({}, frozenset(), frozenset(), {}), cast(Office, reports)
    )


def keep(generation: Generation, key: str, text: str) -> None:
    data: dict[str, Any] = {"text": text}
    generation.child_keeps(cast(Child, Worker()), Keep(key, data))


def test_the_later_one_of_a_key_counts(generation: Generation, reports: Reports) -> None:
    keep(generation, "one", "a")
    keep(generation, "two", "b")
    keep(generation, "one", "c")
    assert {kept.key: kept.data["text"] for kept in generation.kept.values()} == {"one": "c", "two": "b"}
    assert reports.said == []


def test_what_has_no_room_is_reported_and_not_kept(generation: Generation, reports: Reports) -> None:
    """It would not fit into the first message of a worker, which could not start then."""
    keep(generation, "one", THIRD)
    keep(generation, "two", THIRD)
    keep(generation, "three", THIRD)
    assert list(generation.kept) == ["one", "two"]
    assert reports.said == [("warning", "not kept for later workers", "three")]


def test_what_is_replaced_makes_room(generation: Generation, reports: Reports) -> None:
    keep(generation, "one", THIRD)
    keep(generation, "two", THIRD)
    keep(generation, "one", "short")
    keep(generation, "three", THIRD)
    assert list(generation.kept) == ["two", "one", "three"]
    assert reports.said == []


def test_an_old_one_is_not_kept_beside_a_newer_that_has_no_room(
    generation: Generation, reports: Reports
) -> None:
    """Better nothing, which a later worker reads itself, than what does not hold any more."""
    keep(generation, "one", "old")
    keep(generation, "one", 4 * THIRD)
    assert generation.kept == {}
    assert reports.said == [("warning", "not kept for later workers", "one")]


def test_thousands_are_not_weighed_anew_for_each(
    generation: Generation, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20,000 domains with files of recipients: nothing else was done for so long that no start succeeded."""
    weighed = 0

    def counted(message: Keep) -> bytes:
        nonlocal weighed
        weighed += 1
        return frame(message)

    monkeypatch.setattr("mta.supervisor.generation.frame", counted)
    for number in range(500):
        keep(generation, f"file {number}", "users")
    keep(generation, "file 0", "others")
    assert len(generation.kept) == 500
    assert weighed <= 2 * 501


def test_many_that_have_no_room_are_told_of_once(generation: Generation, reports: Reports) -> None:
    keep(generation, "one", 2 * THIRD)
    for number in range(10):
        keep(generation, f"file {number}", 2 * THIRD)
    assert reports.said == [("warning", "not kept for later workers", "file 0")]
