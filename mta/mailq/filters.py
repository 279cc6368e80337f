"""Which messages of the queue are meant: filters as words of the command line.

    sender=alice@example.org  recipient=*@example.net  domain=example.net  status=deferred
    older=2h  younger=10m  reason="connection refused"  node=mx1  id=01KB3Z8Q2V

Different keys must all hold, several words with the same key give alternatives. What is said about recipients
(recipient, domain, status, reason) must hold for one and the same that is still waiting. `*` in an address or
a domain stands for any characters; `domain=.example.net` means the domains below it; `sender=<>` is the null
sender. Case does not matter.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from mta.address import AddressError, domain_key
from mta.config.units import parse_duration
from mta.mailq.rows import LIVE, STATUSES, QueueRecipient, QueueRow, age, domain_of, state

KEYS = ("sender", "recipient", "domain", "status", "reason", "older", "younger", "node", "id")
WAITING = (*(status for status in STATUSES if status in LIVE), "active")
"""What `status=` takes: the states of those who wait."""


class FilterError(ValueError):
    """A word that is no filter; the text says which, why, and what would be right."""


@dataclass(slots=True, frozen=True)
class Filter:
    """A parsed filter; an empty tuple, 0 or infinity bounds nothing. Patterns are in lower case."""

    senders: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    older: float = 0.0
    """Seconds that a message must have been here at the least."""
    younger: float = float("inf")
    """Seconds that a message must have been here less than."""

    def matches(self, row: QueueRow, now: float) -> bool:
        """True when `row` is meant. `now` is seconds since 1970."""
        return (
            self.older <= age(row, now) < self.younger
            and (not self.ids or row.id.lower() in self.ids)
            and (not self.nodes or any(glob(pattern, row.node.lower()) for pattern in self.nodes))
            and (not self.senders or any(glob(pattern, row.sender.lower()) for pattern in self.senders))
            and bool(self.matching(row))
        )

    def matching(self, row: QueueRow) -> tuple[QueueRecipient, ...]:
        """The waiting recipients of `row` that are meant."""
        return tuple(recipient for recipient in row.live if self._meant(row, recipient))

    def _meant(self, row: QueueRow, recipient: QueueRecipient) -> bool:
        address = recipient.address.lower()
        return (
            (not self.recipients or any(glob(pattern, address) for pattern in self.recipients))
            and (not self.domains or _in_domains(domain_of(address), self.domains))
            and (not self.statuses or state(row, recipient) in self.statuses)
            and (not self.reasons or any(reason in recipient.reply.lower() for reason in self.reasons))
        )


def parse_filter(words: Sequence[str]) -> Filter:
    """A filter from words "key=value"; no words match all. Raises FilterError."""
    given: dict[str, list[str]] = {key: [] for key in KEYS}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.strip().lower()
        if not equals or key not in given:
            raise FilterError(_unknown(word, key, bool(equals)))
        if not value.strip():
            raise FilterError(f"{word!r}: nothing behind the =")
        given[key].append(_value(key, value.strip(), word))
    older = [parse_duration(value) for value in given["older"]]
    younger = [parse_duration(value) for value in given["younger"]]
    made = Filter(
        senders=tuple("" if pattern == "<>" else pattern for pattern in given["sender"]),
        recipients=tuple(given["recipient"]),
        domains=tuple(given["domain"]),
        statuses=tuple(given["status"]),
        reasons=tuple(given["reason"]),
        nodes=tuple(given["node"]),
        ids=tuple(given["id"]),
        older=min(older, default=0.0),
        younger=max(younger, default=float("inf")),
    )
    if made.older >= made.younger:
        raise FilterError(
            "nothing is older than the one and younger than the other: swap older= and younger="
        )
    return made


def glob(pattern: str, text: str) -> bool:
    """True when `text` is `pattern`, whose every "*" stands for any characters. Linear in `text`."""
    head, *rest = pattern.split("*")
    if not rest:
        return text == head
    tail = rest.pop()
    if len(text) < len(head) + len(tail) or not text.startswith(head) or not text.endswith(tail):
        return False
    position, end = len(head), len(text) - len(tail)
    for piece in rest:
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


def _value(key: str, value: str, word: str) -> str:
    """`value` in the form in which it is compared. Raises FilterError."""
    if key in ("older", "younger"):
        try:
            parse_duration(value)
        except ValueError as error:
            raise FilterError(f"{word!r}: {error}; write it as 30m, 2h or 1d12h") from error
        return value
    value = value.lower()
    if key == "status" and value not in WAITING:
        what = "such recipients wait no longer" if value in STATUSES else "no such status"
        raise FilterError(f"{word!r}: {what}; there are {', '.join(WAITING)}")
    if key == "domain":
        return _domain(value, word)
    if key in ("sender", "recipient") and "@" not in value and "*" not in value and value != "<>":
        raise FilterError(f"{word!r}: not an address; for all of a domain write domain={value}")
    return value


def _domain(value: str, word: str) -> str:
    if "@" in value:
        raise FilterError(f"{word!r}: a domain has no @; write recipient={value}")
    dot = "." if value.startswith(".") else ""
    if "*" in value:
        return value
    try:
        return dot + domain_key(value.removeprefix("."))
    except AddressError as error:
        raise FilterError(f"{word!r}: {error}") from error


def _unknown(word: str, key: str, equals: bool) -> str:
    keys = ", ".join(KEYS)
    if not equals:
        if "@" in word:
            return f"{word!r} is no filter; write recipient={word} or sender={word}"
        return f"{word!r} is no filter: write key=value with one of {keys}"
    if key in ("age", "time"):
        return f"{word!r}: write older=... or younger=..."
    if key in ("from", "to"):
        return f"{word!r}: write {'sender' if key == 'from' else 'recipient'}=..."
    near = difflib.get_close_matches(key, KEYS, 1)
    return f"{word!r}: no such key" + (f"; did you mean {near[0]}=?" if near else f"; there are {keys}")


def _in_domains(domain: str, patterns: tuple[str, ...]) -> bool:
    return any(
        domain.endswith(pattern) if pattern.startswith(".") and "*" not in pattern else glob(pattern, domain)
        for pattern in patterns
    )
