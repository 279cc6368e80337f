"""Replies as the queue keeps them, "451 4.4.1 text", and back."""

from __future__ import annotations

import re

from mta.reply import Reply

_KEPT = re.compile(r"([245]\d\d) (?:([245]\.\d{1,3}\.\d{1,3}) )?(.*)", re.DOTALL)

MAX_KEPT = 1000
"""Characters of a reply that are kept; a next hop may write much more."""

UNREADABLE = Reply(451, "4.3.0", "the last reply is not known")


def kept_text(reply: Reply) -> str:
    """The reply in one line."""
    return str(reply)[:MAX_KEPT]


def kept_reply(text: str) -> Reply:
    """The inverse of `kept_text`; what it cannot read is a temporary reply."""
    found = _KEPT.fullmatch(text)
    if found is None:
        return UNREADABLE
    code, enhanced, words = found.groups()
    return Reply(int(code), enhanced or "", words)
