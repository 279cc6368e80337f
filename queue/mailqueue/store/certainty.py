"""Of how many stores the answers are certain: the arithmetic behind the rules of several stores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Certainty:
    """What some shared stores and some private ones prove together."""

    needed: int
    """Shared stores that have to be asked before something is certain."""
    alone: bool
    """True when an acknowledged entry may be on private stores only."""


def certainty(shared: int, private: int, copies: int, *, lossy: bool = False) -> Certainty:
    """What is proved when `copies` of the stores have what was acknowledged; there is a shared one.

    Raises ValueError for numbers that make no sense, and for those that would lose mail with a machine,
    unless that is asked for with `lossy`.
    """
    total = shared + private
    if total < 2:
        raise ValueError("replication needs two stores or more")
    if not 1 <= copies <= total:
        raise ValueError(f"copies: {copies}; expected 1 to {total}, the number of stores")
    elsewhere = copies - private
    if not lossy and (copies == 1 or elsewhere < 1):
        least = max(2, private + 1)
        raise ValueError(
            f"copies: {copies}; expected at least {least}: what was accepted has to outlive a machine"
        )
    return Certainty(min(shared, shared - elsewhere + 1), elsewhere < 1)
