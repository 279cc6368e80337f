"""What is counted of the programs beside us: questions, answers, failures, connections (`mta.metrics`)."""

from __future__ import annotations

from collections.abc import Mapping

from mta.metrics import Stats

FAILED = "failed"
"""The result of a question without a proper answer."""

_REASONS = (
    (": down", "down"),
    ("no answer", "timeout"),
    ("no connection in", "timeout"),
    ("took too long", "timeout"),
    ("protocol error", "protocol"),
    ("without an action", "protocol"),
    ("the answer", "protocol"),
    ("closed", "closed"),
    ("refused", "connect"),
    ("No such file", "connect"),
    ("reset by peer", "closed"),
    ("unreachable", "connect"),
)


def failure_class(text: str) -> str:
    """One word for why a program gave no proper answer, from what the log says of it."""
    return next((word for words, word in _REASONS if words in text), "other")


class Tally:
    """Counts for one kind of program."""

    def __init__(self, kind: str, stats: Stats) -> None:
        """`kind` is "milter", "policy_server" or "scanner"."""
        self._kind = kind
        self._stats = stats

    def answered(self, name: str, result: str, seconds: float) -> None:
        """A program has answered."""
        self._stats.program_calls[self._kind, name, result] += 1
        self._stats.program_seconds[self._kind, name].observe(seconds)

    def failed(self, name: str, reason: str, seconds: float) -> None:
        """It has not, or not properly; `reason` is what the log says."""
        self.answered(name, FAILED, seconds)
        self._stats.program_failures[self._kind, name, failure_class(reason)] += 1

    def measure(self, is_open: Mapping[str, int], opened: Mapping[str, int]) -> None:
        """Set the numbers of connections, by name."""
        for name, number in is_open.items():
            self._stats.program_connections[self._kind, name] = number
        for name, number in opened.items():
            self._stats.program_connects[self._kind, name] = number
