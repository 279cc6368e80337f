"""Replies as the queue keeps them, "451 4.4.1 text", and back."""

from __future__ import annotations

import re

from mta.delivery.outcome import Outcome
from mta.reply import Reply

_KEPT = re.compile(r"([245]\d\d) (?:([245]\.\d{1,3}\.\d{1,3}) )?(.*)", re.DOTALL)

MAX_KEPT = 1000
"""Characters of a reply that are kept; a next hop may write much more."""

UNREADABLE = Reply(451, "4.3.0", "the last reply is not known")


def kept_text(reply: Reply) -> str:
    """The reply in one line."""
    return str(reply)[:MAX_KEPT].replace("\t", " ")


def kept_reply(text: str) -> Reply:
    """The inverse of `kept_text`; what it cannot read is a temporary reply."""
    found = _KEPT.fullmatch(said(text))
    if found is None:
        return UNREADABLE
    code, enhanced, words = found.groups()
    return Reply(int(code), enhanced or "", words)


def kept_outcome(outcome: Outcome) -> str:
    """The reply in one line, and behind a tab who gave it: for servers of the world."""
    text = kept_text(outcome.reply)
    passage = outcome.passage
    if passage is None:
        return text
    facts = (outcome.peer, f"site {passage.site}" if passage.site else "", _tls(passage.tls))
    by = ", ".join(fact for fact in facts if fact)
    return f"{text}\t{by}" if by else text


def said(text: str) -> str:
    """The reply of what `kept_outcome` made."""
    return text.partition("\t")[0]


def said_by(text: str) -> str:
    """Who gave it, "" when that was not kept."""
    return text.partition("\t")[2]


def _tls(word: str) -> str:
    return "in the clear" if word == "clear" else f"TLS {word}" if word else ""
