"""What a check says about one thing: ok, wrong or unknown, what was asked, what was found, how to mend it.

*wrong* is a proven contradiction: a record is absent or different, a key does not fit, a certificate is
over. *unknown* is everything that could not be found out: no answer, SERVFAIL, nobody listens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(slots=True, frozen=True)
class Result:
    """One finding."""

    subject: str
    """What it is about: a domain, an address, a listener."""
    outcome: Outcome
    asked: str
    """The question, such as "MX example.org" or "connect to 192.0.2.1:24"."""
    found: str
    """What was found, in words."""
    mend: str = ""
    """The record to publish or the line to change, ready to be pasted; "" when there is none."""
    settled: bool = False
    """Unknown for good: asking again would not help."""
    check: str = ""
    """Name of the check; filled in by the runner."""
    passing: float = 0.0
    """Wrong, but after so many seconds the DNS may say otherwise by itself: a cache has an answer that was
    right for what was there before. 0: waiting would not help."""


def ok(subject: str, asked: str, found: str) -> Result:
    """All is well."""
    return Result(subject, Outcome.OK, asked, found)


def wrong(subject: str, asked: str, found: str, mend: str = "", *, passing: float = 0.0) -> Result:
    """A proven contradiction; `passing`: that may end by itself, see `Result`."""
    return Result(subject, Outcome.WRONG, asked, found, mend, passing=passing)


def unknown(subject: str, asked: str, found: str, mend: str = "", *, settled: bool = False) -> Result:
    """It could not be found out; `settled`: and cannot be."""
    return Result(subject, Outcome.UNKNOWN, asked, found, mend, settled)


def worst(results: Iterable[Result]) -> Outcome:
    """The outcome of all of them together: wrong before unknown before ok."""
    found = {result.outcome for result in results}
    for outcome in (Outcome.WRONG, Outcome.UNKNOWN):
        if outcome in found:
            return outcome
    return Outcome.OK
