"""What a policy server answers: access(5) actions, read into values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The kinds of action."""

    DUNNO = "dunno"
    """No opinion: the next rule decides."""
    OK = "ok"
    """Permit: no more rules of this list."""
    REJECT = "reject"
    """Also a numeric 5xx."""
    DEFER = "defer"
    """Also a numeric 4xx."""
    DEFER_IF_PERMIT = "defer_if_permit"
    """Defer if the rules that follow would permit."""
    DEFER_IF_REJECT = "defer_if_reject"
    """Defer if the rules that follow would reject."""
    HOLD = "hold"
    DISCARD = "discard"
    PREPEND = "prepend"
    """`text` is a header."""
    REDIRECT = "redirect"
    """`text` is the one recipient that replaces all."""
    BCC = "bcc"
    """`text` is one more recipient."""
    FILTER = "filter"
    """`text` is transport:destination."""
    WARN = "warn"
    INFO = "info"
    UNKNOWN = "unknown"
    """Nothing of this list, such as the name of a restriction of Postfix; `text` has it all."""


@dataclass(slots=True, frozen=True)
class Decision:
    """One action; code and enhanced code are there for what refuses."""

    kind: Kind
    text: str = ""
    code: int = 0
    """554, 450 or the server's own."""
    enhanced: str = ""
    """"5.7.1", "4.7.1" or the server's own."""

    @property
    def disconnects(self) -> bool:
        """True for 421 and 521: Postfix closes the connection after them."""
        return self.code in (421, 521)


DUNNO = Decision(Kind.DUNNO)
_NUMERIC = re.compile(r"([45][0-9]{2})(?:\s+(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+(.*))?", re.DOTALL)
_HEADER = re.compile(r"[!-9;-~]+:.*", re.DOTALL)
_DESTINATION = re.compile(r"[^\s:]+:.*")
_PLAIN = {
    kind.value: kind for kind in (Kind.HOLD, Kind.DISCARD, Kind.PREPEND, Kind.BCC, Kind.WARN, Kind.INFO)
} | {"redirect": Kind.REDIRECT, "filter": Kind.FILTER, "warning": Kind.WARN}
_REFUSALS = {
    "reject": (Kind.REJECT, 554, "5.7.1"),
    "defer": (Kind.DEFER, 450, "4.7.1"),
    "defer_if_permit": (Kind.DEFER_IF_PERMIT, 450, "4.7.1"),
    "defer_if_reject": (Kind.DEFER_IF_REJECT, 450, "4.7.1"),
}
_DEFAULT_TEXT = "Access denied"
_TEXT_MAX = 2000
"""Characters of text that are kept."""


def parse_action(text: str) -> Decision:
    """Read the value of `action=`; never raises: what it does not know is UNKNOWN.

    An enhanced code that leads the text is taken as the reply's own when its class fits the code. A number
    other than 4xx and 5xx is OK, as in Postfix's tables. Actions whose argument is missing or malformed
    (PREPEND, REDIRECT, BCC, FILTER) are UNKNOWN: Postfix logs and ignores them.
    """
    text = "".join(one if one.isprintable() else " " for one in text.strip())[:_TEXT_MAX]
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    name = word.lower()
    numeric = _NUMERIC.fullmatch(text)
    if numeric is not None:
        kind = Kind.REJECT if numeric[1][0] == "5" else Kind.DEFER
        return _refusal(kind, int(numeric[1]), f"{numeric[1][0]}.7.1", numeric[2] or "")
    if name in _REFUSALS:
        return _refusal(*_REFUSALS[name], rest)
    if name == "dunno":
        return Decision(Kind.DUNNO, rest)
    if name == "ok" or (name.isascii() and name.isdigit()):
        return Decision(Kind.OK, rest)
    kind = _PLAIN.get(name, Kind.UNKNOWN)
    if kind is Kind.UNKNOWN or not _fits(kind, rest):
        return Decision(Kind.UNKNOWN, text)
    return Decision(kind, rest)


def _refusal(kind: Kind, code: int, enhanced: str, text: str) -> Decision:
    own = _ENHANCED.fullmatch(text)
    if own is not None and own[1][0] == str(code)[0]:
        enhanced, text = own[1], own[2] or ""
    return Decision(kind, text or _DEFAULT_TEXT, code, enhanced)


def _fits(kind: Kind, argument: str) -> bool:
    if kind is Kind.PREPEND:
        return _HEADER.fullmatch(argument) is not None
    if kind is Kind.FILTER:
        return _DESTINATION.fullmatch(argument) is not None
    if kind in (Kind.REDIRECT, Kind.BCC):
        return "@" in argument and " " not in argument
    return True
