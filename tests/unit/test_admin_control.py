"""What goes over the control socket must be understood by the daemon of the version before."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from mta.admin import client
from mta.admin.control import Request
from mta.supervisor.core import SWITCH_LIMIT
from mta.supervisor.generation import READY_TIMEOUT
from mta.supervisor.setup import MOST_SECONDS


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (Request("stop"), {"command": "stop"}),
        (Request("stop", now=True), {"command": "stop", "now": True}),
        (Request("log-level", level="debug"), {"command": "log-level", "level": "debug"}),
    ],
)
def test_only_what_is_asked_is_sent(request_: Request, sent: dict[str, object]) -> None:
    encoded = msgspec.json.encode(request_)
    assert msgspec.json.decode(encoded) == sent
    assert msgspec.json.decode(encoded, type=Request) == request_


def test_a_server_that_hangs_is_not_waited_for_as_for_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes the connection for it; a probe must not wait for minutes."""
    monkeypatch.setattr(client, "PROMPT_TIMEOUT", 0.1)
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", 0.5)
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        for command, seconds in (("status", "0.1"), ("stop", "0.1"), ("reload", "0.5"), ("queue", "0.5")):
            with pytest.raises(client.Unreachable, match=f"within {seconds} s: the server hangs"):
                client.ask(path, Request(command))


def test_a_reload_is_waited_for_as_long_as_it_may_last() -> None:
    """With the one that is under way: its checks, and the starts of its processes."""
    assert client.ANSWER_TIMEOUT > 2 * (MOST_SECONDS + READY_TIMEOUT + SWITCH_LIMIT)
