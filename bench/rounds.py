"""Measure several systems in turns, so that what disturbs the machine disturbs all of them.

A round measures each system once; every second round begins with the other one. The result is the median of
the rounds, which one disturbed round does not move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median


def in_turns(measures: Sequence[Callable[[], float]], rounds: int) -> list[float]:
    """Call each measure `rounds` times, in turns; return the median of each."""
    results: list[list[float]] = [[] for _ in measures]
    order = list(range(len(measures)))
    for _ in range(rounds):
        for index in order:
            results[index].append(measures[index]())
        order.reverse()
    return [median(values) for values in results]
