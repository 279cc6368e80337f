"""Rates and greylisting as changes of the ledger: pure functions of what is kept and the time.

A **bucket** holds `limit` and is filled evenly within `per` seconds; what is kept is the time at which it
will be full again (the generic cell rate algorithm). A **window** counts from its first event for `per`
seconds. A **triplet** is the network of a client, a sender and a recipient: kept are when it was first seen
and when it was last let pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.policy.ledger import Change, Entry, State

SLACK = 1e-6
"""Seconds that rounding may come to."""


def bucket(limit: int, per: float, cost: int, now: float, *, peek: bool = False) -> Change:
    """Take `cost` out of a bucket; the answer is True when there is not so much in it, and nothing is
    taken."""

    def change(state: State | None) -> Entry:
        full_at = max(state[0], now) if state else now
        after = full_at + cost * per / limit
        if after - now > per + SLACK:
            return Entry(True)
        return Entry(False) if peek else Entry(False, (after,), after + 1)

    return change


def window(limit: int, per: float, cost: int, now: float, *, peek: bool = False) -> Change:
    """Count; the answer is True when there are more than `limit` in the window, this one included."""

    def change(state: State | None) -> Entry:
        begun, count = state if state and state[0] <= now < state[0] + per else (now, 0)
        count += cost
        return Entry(count > limit) if peek else Entry(count > limit, (begun, count), begun + per)

    return change


@dataclass(slots=True, frozen=True)
class Greylist:
    """How a greylist is kept; in seconds."""

    delay: float = 300.0
    """A triplet passes so long after it was first seen."""
    within: float = 2 * 86400.0
    """It is forgotten if it does not come again within this time."""
    lifetime: float = 36 * 86400.0
    """How long it is remembered that it passed."""
    clients: int = 5
    """Triplets after which all mail from a network passes; 0: never."""


def triplet(rules: Greylist, now: float) -> Change:
    """The answer is how many seconds it has still to wait, 0 if it passes; and whether that is new."""

    def change(state: State | None) -> Entry:
        if state is None:
            return Entry((rules.delay, False), (now, 0.0), now + rules.within)
        first, passed = state
        if not passed and now - first < rules.delay:
            return Entry((first + rules.delay - now, False))
        return Entry((0.0, not passed), (first, now), now + rules.lifetime)

    return change


def passes(rules: Greylist, now: float, *, more: int) -> Change:
    """Count what has passed from a network; the answer is whether that is enough for all of its mail."""

    def change(state: State | None) -> Entry:
        count = (state[0] if state else 0) + more
        known = bool(rules.clients) and count >= rules.clients
        return Entry(known, (count,), now + rules.lifetime) if more or known else Entry(False)

    return change
