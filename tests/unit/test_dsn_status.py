"""The Status field from all kinds of replies."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.dsn.status import CLASSES, status
from mta.dsn.values import Action
from mta.reply import Reply


@pytest.mark.parametrize(
    ("action", "reply", "expected"),
    [
        (Action.FAILED, Reply(550, "5.1.1", ""), "5.1.1"),
        (Action.FAILED, Reply(550, "5.7.509", ""), "5.7.509"),
        (Action.FAILED, Reply(550, "4.2.2", ""), "5.2.2"),
        (Action.FAILED, Reply(451, "4.3.0", ""), "5.3.0"),
        (Action.FAILED, Reply(550, "", ""), "5.0.0"),
        (Action.FAILED, Reply(552, "", ""), "5.2.2"),
        (Action.FAILED, Reply(552, "5.0.0", ""), "5.2.2"),
        (Action.FAILED, Reply(550, "5.0.0", ""), "5.0.0"),
        (Action.DELAYED, Reply(452, "4.0.0", ""), "4.3.1"),
        (Action.RELAYED, Reply(250, "2.0.0", ""), "2.0.0"),
        (Action.FAILED, Reply(553, "", ""), "5.1.3"),
        (Action.FAILED, Reply(556, "", ""), "5.1.10"),
        (Action.FAILED, Reply(554, "", ""), "5.0.0"),
        (Action.FAILED, Reply(599, "", ""), "5.0.0"),
        (Action.FAILED, Reply(550, "5.1", ""), "5.0.0"),
        (Action.FAILED, Reply(552, "5.01.1", ""), "5.2.2"),
        (Action.FAILED, Reply(552, "5.1.1000", ""), "5.2.2"),
        (Action.FAILED, Reply(552, "9.1.1", ""), "5.2.2"),
        (Action.FAILED, Reply(552, "5.٣.1", ""), "5.2.2"),
        (Action.FAILED, Reply(552, "5.x\r\n.1", ""), "5.2.2"),
        (Action.FAILED, None, "5.0.0"),
        (Action.DELAYED, Reply(450, "", ""), "4.2.0"),
        (Action.DELAYED, Reply(421, "4.4.2", ""), "4.4.2"),
        (Action.DELAYED, None, "4.0.0"),
        (Action.DELIVERED, Reply(250, "2.1.5", ""), "2.1.5"),
        (Action.DELIVERED, Reply(250, "", ""), "2.0.0"),
        (Action.RELAYED, Reply(250, "2.6.0", ""), "2.6.0"),
        (Action.RELAYED, Reply(450, "4.2.0", ""), "2.0.0"),
        (Action.EXPANDED, None, "2.0.0"),
    ],
)
def test_status(action: Action, reply: Reply | None, expected: str) -> None:
    assert status(action, reply) == expected


@given(st.sampled_from(Action), st.integers(200, 599), st.text(max_size=12))
def test_status_is_always_well_formed(action: Action, code: int, enhanced: str) -> None:
    made = status(action, Reply(code, enhanced, ""))
    assert re.fullmatch(r"[245]\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})", made)
    assert int(made[0]) == CLASSES[action]
