"""Questions of an administrator to one worker, over the control socket and the worker's channel."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.running import Tamis, tamis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Tamis]:
    with tamis(tmp_path) as running:
        running.configure()
        running.start()
        yield running


def ask(server: Tamis, worker: str, **data: Any) -> dict[str, Any]:
    answer: dict[str, Any] = server.request({"command": "queue", "worker": worker, "data": data})
    return answer


def test_without_a_name_the_workers_are_named(server: Tamis) -> None:
    answer = server.request({"command": "queue"})
    assert answer["ok"]
    assert answer["result"]["workers"] == ["worker-1.1", "worker-1.2"]
    assert answer["result"]["pids"] == server.workers()
    assert answer["result"]["starting"] == []
    assert server.request({"command": "reload"})["ok"]
    assert server.request({"command": "queue"})["result"]["workers"][-2:] == ["worker-2.1", "worker-2.2"]


def test_the_worker_that_is_named_answers(server: Tamis) -> None:
    workers = server.workers()
    for name in ("worker-1.1", "worker-1.2"):
        answer = ask(server, name, op="echo", text="x" * 20_000)
        assert answer["ok"], answer
        assert answer["result"]["pid"] == workers[name]
        assert (answer["result"]["topic"], len(answer["result"]["text"])) == ("queue", 20_000)


def test_refusals_bugs_and_deaths_are_answers(server: Tamis) -> None:
    assert ask(server, "worker-1.1", op="dance") == {"ok": False, "error": "the toy knows no dance"}
    gone = ask(server, "worker-7.1", op="echo")
    assert gone == {"ok": False, "error": "there is no worker worker-7.1 any more", "code": "ended"}
    bug = ask(server, "worker-1.1", op="bug")
    assert bug == {"ok": False, "error": "internal error: KeyError('toy')"}
    assert "KeyError" in server.log()
    assert ask(server, "worker-1.1", op="echo")["ok"]
    assert ask(server, "worker-1.2", op="die") == {
        "ok": False,
        "error": "worker-1.2 has ended",
        "code": "ended",
    }


def test_one_that_hangs_is_not_waited_for(server: Tamis) -> None:
    pid = server.workers()["worker-1.1"]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = ask(server, "worker-1.1", op="echo")
        assert 4 < time.monotonic() - began < 15
        assert answer["code"] == "silent"
        assert answer["error"] == "has given no sign of life for 5 s"
        assert ask(server, "worker-1.2", op="echo")["ok"]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ask(server, "worker-1.1", op="echo")["ok"]


def test_one_that_works_on_it_is_waited_for(server: Tamis) -> None:
    """Longer than for one that gives no sign of life."""
    answer = ask(server, "worker-1.1", op="ponder", seconds=6.5)
    assert answer["ok"], answer
