"""Questions of an administrator to one worker, over the control socket and the worker's channel."""

from __future__ import annotations

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
    assert answer == {"ok": True, "result": {"workers": ["worker-1.1", "worker-1.2"]}}


def test_the_worker_that_is_named_answers(server: Tamis) -> None:
    workers = server.workers()
    for name in ("worker-1.1", "worker-1.2"):
        answer = ask(server, name, op="echo", text="x" * 20_000)
        assert answer["ok"], answer
        assert answer["result"]["pid"] == workers[name]
        assert (answer["result"]["topic"], len(answer["result"]["text"])) == ("queue", 20_000)


def test_refusals_bugs_and_deaths_are_answers(server: Tamis) -> None:
    assert ask(server, "worker-1.1", op="dance") == {"ok": False, "error": "the toy knows no dance"}
    assert ask(server, "worker-7.1", op="echo")["error"] == "there is no worker worker-7.1 any more"
    bug = ask(server, "worker-1.1", op="bug")
    assert bug == {"ok": False, "error": "internal error: KeyError('toy')"}
    assert "KeyError" in server.log()
    assert ask(server, "worker-1.1", op="echo")["ok"]
    assert ask(server, "worker-1.2", op="die")["error"] == "worker-1.2 has ended"
