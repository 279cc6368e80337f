"""A token bucket in one number: the time at which it will be full again."""

from __future__ import annotations

from mailqueue.schedule.limits import Rate


class Bucket:
    """Keeps a `Rate`. Asking costs nothing; only `take` uses up.

    `_full` is when all is paid back if nothing more is taken. Each taking adds one interval, so no clock
    that ticks coarsely and no long rest can add up to more than the burst.
    """

    __slots__ = ("_full", "_interval", "_slack")

    def __init__(self, rate: Rate) -> None:
        self._interval = rate.seconds / rate.count
        self._slack = (rate.burst - 1) * self._interval
        self._full = float("-inf")

    @property
    def interval(self) -> float:
        """Seconds that one taking costs."""
        return self._interval

    def ready_at(self) -> float:
        """When the next one may be taken; in the past if it may be now."""
        return self._full - self._slack

    def take(self, now: float) -> None:
        """Use one up; to be called only when `ready_at` is not after `now`."""
        self._full = max(self._full, now) + self._interval

    def set_back(self, seconds: float) -> None:
        """The clock was set back: what was taken is as long ago as before."""
        self._full -= seconds
