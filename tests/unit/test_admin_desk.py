"""What the desk says of the queue, of a supervisor that is played."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mta.admin.desk import Desk
from mta.supervisor.child import State
from mta.supervisor.plan import WORKER


def desk(store: str, *queues: int | None) -> Desk:
    """A node with one worker for each of `queues`: whether its queue is open; None: not known yet."""
    children = [
        SimpleNamespace(
            role=WORKER, state=State.READY, metrics={} if is_open is None else {"queue_open": {"": is_open}}
        )
        for is_open in queues
    ]
    current = SimpleNamespace(plan=SimpleNamespace(queue_store=store))
    staff = SimpleNamespace(children=children)
    return Desk(cast(Any, SimpleNamespace(current=current, staff=staff, serving=True)), cast(Any, None))


@pytest.mark.parametrize(
    ("store", "queues", "is_well"),
    [
        ("file:/q", (1, 1), True),
        ("file:/q", (1, 0), False),
        ("file:/q", (None, 1), True),
        ("", (0, 0), True),
    ],
    ids=["open", "one is not", "not known yet", "there is to be none"],
)
def test_a_probe_reads_whether_mail_can_be_queued(
    store: str, queues: tuple[int | None, ...], is_well: bool
) -> None:
    answer = desk(store, *queues)._ready()
    assert answer.startswith("ready")
    assert ("queue is not open" in answer) is not is_well
