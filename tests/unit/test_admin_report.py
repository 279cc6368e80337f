"""What `tamis status` tells people of the queue."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from mta.admin.report import show

STATUS = {
    "version": "1", "state": "running", "serving": True, "uptime": 1.0, "pid": 1, "generation": 1,
    "last_reload": None, "workers": [],
}  # fmt: skip
OPEN = {
    "queue_open": {"": 1}, "queue_messages": {"": 2}, "queue_recipients": {"": 3}, "queue_bytes": {"": 1500},
    "queue_room_bytes": {"": 1e9},
}  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        (OPEN, "queue 2 3 recipients, 1.5 KiB"),
        ({**OPEN, "queue_room_bytes": {"": 0}}, "queue 2 its disk is full: what cannot be delivered at once"),
        (
            {**OPEN, "queue_open": {"": 0}},
            "queue 2 not open: what cannot be delivered at once is answered 4xx",
        ),
    ],
)
def test_the_queue(metrics: dict[str, Any], line: str) -> None:
    out = io.StringIO()
    show({**STATUS, "metrics": metrics}, Console(file=out, width=100))
    assert line in " ".join(out.getvalue().split())


def test_addresses() -> None:
    out = io.StringIO()
    listening = ["smtp [::]:25", "smtp 0.0.0.0:25"]
    show({**STATUS, "metrics": {}, "listening": listening}, Console(file=out, width=30))
    assert "listening: smtp [::]:25, smtp 0.0.0.0:25" in out.getvalue().splitlines()


def test_before_a_worker_has_reported_nothing_is_said_of_the_queue() -> None:
    out = io.StringIO()
    show({**STATUS, "metrics": {}}, Console(file=out, width=100))
    assert "queue" not in out.getvalue()


def test_why_the_queue_is_not_open() -> None:
    out = io.StringIO()
    why = "file:/var/lib/tamis/queue: writing hb/01M8: Read-only file system"
    troubles = {"worker-1.1": why, "worker-1.2": why}
    status = {**STATUS, "queue": {"open": False, "troubles": troubles}, "metrics": OPEN}
    show(status, Console(file=out, width=200))
    assert out.getvalue().splitlines()[-1] == f"queue not open in worker-1.1, worker-1.2: {why}"


def test_what_a_store_says_does_nothing_to_the_terminal() -> None:
    out = io.StringIO()
    status = {**STATUS, "queue": {"open": False, "troubles": {"w": "403 \x1b[2J [red]"}}, "metrics": OPEN}
    show(status, Console(file=out, width=200))
    assert out.getvalue().splitlines()[-1] == "queue not open in w: 403 \u241b[2J [red]"


@pytest.mark.parametrize(("number", "word"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (22, "22nd")])
def test_a_worker_that_is_to_be_started_again(number: int, word: str) -> None:
    out = io.StringIO()
    seat = {"name": "worker-1.1", "seconds": 7.9, "restarts": number, "reason": "queue: [no] store"}
    show({**STATUS, "metrics": {}, "restarting": [seat]}, Console(file=out, width=200))
    line = f"worker-1.1 has ended and is started again in 7 s, for the {word} time: queue: [no] store"
    assert line in out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("state", "role", "is_ready", "takes"),
    [
        ("starting", "worker", True, True),
        ("starting", "worker", False, False),
        ("starting", "store", True, False),
        ("stopping", "worker", True, False),
    ],
)
def test_who_is_ready_while_others_start_takes_mail(
    state: str, role: str, is_ready: bool, takes: bool
) -> None:
    out = io.StringIO()
    worker = {
        "name": f"{role}-1.1", "role": role, "pid": 1, "state": "ready" if is_ready else "starting",
        "uptime": 1.0, "restarts": 0,
    }  # fmt: skip
    show({**STATUS, "state": state, "serving": False, "metrics": {}, "workers": [worker]}, Console(file=out))
    assert ("takes no mail" in out.getvalue()) != takes
