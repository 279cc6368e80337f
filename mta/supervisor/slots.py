"""Numbers for living workers, and the memory that they share (`mta.net.counters`).

Every worker has a slot: a row of its own in an anonymous shared memory, where it alone writes and all others
read, so that limits hold for the node without locks. A slot is free again when the process that had it has
ended; what it has left in its row is cleared then.

The count is fixed for the life of the supervisor, since every worker maps the memory once. More slots mean
more numbers to add for each client, so there are only as many as `GENERATIONS` of workers need.
"""

from __future__ import annotations

import contextlib
import heapq
import os

from mta.net.counters import MAX_SLOTS, clear_after, create

GENERATIONS = 4
"""Generations that may be alive at once: with the default drain timeout of a minute, three reloads in one."""

LEAST = 8
"""Slots at least, so that a small node can raise its number of workers without a restart."""

MAX_WORKERS = MAX_SLOTS // 2
"""Workers at most, so that there is room for two generations."""


class NoSlotFree(OSError):
    """Too many workers are alive: the node's own limit of processes, as the kernel's would be EAGAIN."""


class Slots:
    """The slots of a node."""

    def __init__(self, workers: int) -> None:
        """Make room for generations of `workers` each. Raises `OSError`."""
        self.count = min(MAX_SLOTS, max(LEAST, GENERATIONS * workers))
        self.memory_fd = create(self.count)
        self._free = list(range(self.count))

    def take(self) -> int:
        """Give the lowest free number. Raises `NoSlotFree`."""
        self.require(1)
        return heapq.heappop(self._free)

    def release(self, slot: int) -> None:
        """Take a number back; its process has ended, in whatever way."""
        with contextlib.suppress(OSError, ValueError):  # no memory to see it: who takes it next clears it
            clear_after(self.memory_fd, slot)
        heapq.heappush(self._free, slot)

    def close(self) -> None:
        """Give our descriptor of the memory up; processes that live keep theirs."""
        os.close(self.memory_fd)

    def require(self, workers: int, beside: int = 0) -> None:
        """Raise `NoSlotFree` unless so many numbers are free; workers `beside` them will not go before."""
        if beside + workers > self.count:
            raise NoSlotFree(
                f"process.workers: {workers} in place of {beside} needs a restart: this server has room for"
                f" {self.count}, the old ones and the new together"
            )
        if len(self._free) < workers:
            raise NoSlotFree(
                f"{self.count - len(self._free)} workers are alive and {workers} more are too many (at most "
                f"{self.count}): wait until earlier reloads have drained, or restart"
            )
