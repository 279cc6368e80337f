"""Measure Tamis and its peer in turns, so that what disturbs the machine disturbs both alike.

A round measures each once, one right after the other; every second round begins with the other one. What
counts is the round whose ratio is the median of all: its two values stood under the same conditions, which
two medians of their own need not have on a machine whose speed changes while it is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Round:
    """What both reached, one right after the other."""

    ours: float
    theirs: float

    @property
    def quotient(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs


def in_turns(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> list[Round]:
    """Measure both `rounds` times; the rounds come back with the smallest quotient first."""
    found: list[Round] = []
    for number in range(rounds):
        if number % 2 == 0:
            first = ours()
            found.append(Round(first, theirs()))
        else:
            second = theirs()
            found.append(Round(ours(), second))
    return sorted(found, key=lambda one: one.quotient)


def middle(rounds: list[Round]) -> Round:
    """The round that counts, of those that `in_turns` returned."""
    return rounds[(len(rounds) - 1) // 2]
