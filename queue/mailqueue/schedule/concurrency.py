"""How many sessions a site gets: a window that follows its answers, and when to call it dead.

The window is a fraction; its whole part counts. A window full of answers widens it by one, each failure
narrows it by one. Where it met trouble is remembered: from one below that place on it widens at an eighth of
the speed, until it got past. So a site that takes ten sessions sees about one refusal in a hundred deliveries
and not one in eleven, while the way up to ten stays short.

Failures in a row are counted in cohorts, each as the share of the window it is: a whole window of failures,
whatever its width, says the same about the site. One answer takes everything back.
"""

from __future__ import annotations

from mailqueue.schedule.limits import Limits

CAUTION = 1 / 8
"""The speed of widening near the place of the last trouble."""


class Window:
    """The window of one site."""

    __slots__ = ("_cohorts", "_failures", "_limits", "_strained", "_width")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._strained = float("inf")
        self._width = 1.0
        self.reset()

    @property
    def size(self) -> int:
        """Sessions allowed at once, at least 1."""
        return int(self._width)

    def reset(self) -> None:
        """Start anew at the initial width, as after death; where the trouble was stays known."""
        self._width = float(min(self._limits.initial, self._limits.concurrency))
        self._failures = 0
        self._cohorts = 0.0

    def answered(self, in_flight: int) -> None:
        """A delivery was answered while `in_flight`, itself included, were under way.

        A window that is far from used says nothing about a wider one and stays.
        """
        self._failures = 0
        self._cohorts = 0.0
        limits = self._limits
        if self._width >= limits.concurrency or self._width >= in_flight + limits.initial:
            return
        gain = limits.positive / self._width
        if self._width >= self._strained - 1:
            gain *= CAUTION
            if self._width > self._strained + 1:
                self._strained = float("inf")
        self._width = min(self._width + gain, float(limits.concurrency))

    def overloaded(self) -> bool:
        """The site wants fewer sessions; True if it is dead: it does not even want one."""
        if self.size == 1:
            return self.unreachable()
        self._narrow()
        return False

    def unreachable(self) -> bool:
        """The site did not answer; True if it is to be taken for dead."""
        self._failures += 1
        self._cohorts += 1 / self.size
        self._narrow()
        limits = self._limits
        # The sum of thirds must not miss a whole by a rounding.
        return self._failures >= limits.failures and self._cohorts >= limits.failed_cohorts - 1e-9

    def _narrow(self) -> None:
        """Take one failure's worth."""
        self._strained = self._width
        self._width = max(1.0, self._width - self._limits.negative)
