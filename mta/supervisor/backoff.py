"""How long to wait before a process that ended is started again: exponential, forgiving after a good run.

The first restart is at once, since a single crash should cost nothing; then the pause doubles from
`FIRST` to the configured longest, so that a process that cannot run does not eat the machine. A process
that lived for `STABLE` seconds has proved itself and its next crash counts as a first one.
"""

from __future__ import annotations

FIRST = 0.25
"""Seconds before the second restart in a row."""

STABLE = 30.0
"""Seconds of life after which earlier crashes are forgotten."""


class Backoff:
    """The restart history of one seat."""

    __slots__ = ("_longest", "crashes")

    def __init__(self, longest: float) -> None:
        """No crash yet; `longest` is the most that `delay` returns, in seconds."""
        self._longest = longest
        self.crashes = 0

    def delay(self, lived: float) -> float:
        """Count a crash after `lived` seconds and return the seconds to wait before the next start."""
        if lived >= STABLE:
            self.crashes = 0
        self.crashes += 1
        if self.crashes == 1:
            return 0.0
        # The exponent is capped as well: 2.0 ** 1100 overflows after a weekend of crashes.
        return min(self._longest, FIRST * 2.0 ** min(self.crashes - 2, 20))
