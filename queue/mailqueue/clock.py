"""Time for the queue, in one place, so that a simulation can bend it.

Wall-clock time is for retry times and expiry only: it may jump. `boottime` decides who may deliver and
when a silent node is taken over: it never runs backwards and goes on while a machine is suspended, which
CLOCK_MONOTONIC does not. Neither is ever compared between machines; safety rests on the store alone.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The two clocks of a node."""

    def wall(self) -> float:
        """Seconds since 1970; may jump forwards and backwards."""

    def boottime(self) -> float:
        """Seconds since some fixed moment of this machine's run, suspended time included."""


class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def boottime(self) -> float:
        """Seconds since the machine was started (Linux: CLOCK_BOOTTIME)."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
