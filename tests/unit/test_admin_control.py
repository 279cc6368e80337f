"""What goes over the control socket must be understood by the daemon of the version before."""

from __future__ import annotations

import msgspec
import pytest

from mta.admin.control import Request


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
