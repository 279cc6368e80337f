"""The Status field: from a reply to an enhanced code that fits the action (RFC 3463, RFC 3464 section 2.3.4).

The class always follows the action (2 for success, 4 for a delay, 5 for a failure): servers that answer
"550 4.2.2" exist, and programs read the Status field before anything else. Subject and detail are those of
the server's enhanced code, or of the basic code (RFC 5321 section 4.2.3) when it sent none.
"""

from __future__ import annotations

from mta.dsn.values import Action
from mta.reply import Reply

CLASSES = {
    Action.FAILED: 5,
    Action.DELAYED: 4,
    Action.DELIVERED: 2,
    Action.RELAYED: 2,
    Action.EXPANDED: 2,
}
"""The class of status of each action."""

EXPIRED = "4.4.7"
"""Given up by us after trying long enough: temporary errors to the end, so the address may well be good and
programs that remove dead addresses should not count this as one."""
DELIVER_BY_FAILED = "5.4.7"
"""DELIVERBY in mode R ran out (RFC 2852 section 4)."""
DELIVER_BY_LATE = "4.4.7"
"""DELIVERBY in mode N ran out."""

_BASIC = {
    421: "3.2",
    432: "7.12",
    450: "2.0",
    451: "3.0",
    452: "3.1",
    454: "7.0",
    455: "5.4",
    500: "5.2",
    501: "5.4",
    502: "5.1",
    503: "5.1",
    504: "5.4",
    521: "3.2",
    523: "3.4",
    530: "7.0",
    534: "7.9",
    535: "7.8",
    538: "7.11",
    551: "1.6",
    552: "2.2",
    553: "1.3",
    555: "5.4",
    556: "1.10",
}
"""Subject and detail for a basic code; 550 and 554 are used for everything and say nothing (0.0)."""


def status(action: Action, reply: Reply | None) -> str:
    """The enhanced code "class.subject.detail" for `action` after `reply`; "class.0.0" if that is all."""
    kind = CLASSES[action]
    if reply is None:
        return f"{kind}.0.0"
    detail = subject_and_detail(reply)
    if kind == 2 and not reply.is_positive:
        detail = ""
    return f"{kind}.{detail or '0.0'}"


def subject_and_detail(reply: Reply) -> str:
    """ "subject.detail" of a reply, from its basic code when its enhanced one is none or says nothing; or "".

    To a server that sends no enhanced code one is given that says nothing (`mta.delivery.job.passed_on`).
    """
    parts = reply.enhanced.split(".")
    if parts[1:] == ["0", "0"] and reply.code in _BASIC:
        return _BASIC[reply.code]
    if len(parts) == 3 and parts[0] in ("2", "4", "5") and all(map(_is_number, parts[1:])):
        return f"{parts[1]}.{parts[2]}"
    return _BASIC.get(reply.code, "")


def _is_number(text: str) -> bool:
    """1 to 3 digits without leading zeros (RFC 3463 section 2)."""
    return text.isascii() and text.isdigit() and len(text) <= 3 and (text == "0" or text[0] != "0")
