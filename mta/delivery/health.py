"""Which of several equal servers is tried next: choice, back-off, and probing by real traffic.

Pure: time is a parameter. A server that failed is passed over while others work, longer after each further
failure; any answered transaction makes it well again. When all have failed they are tried all the same,
the one that is due first, for a refused connection costs nothing and mail is waiting; but from
`SUSPECT` failures on only one delivery at a time finds out, and the others are told the last failure at
once instead of waiting for the same timeout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mta.reply import Reply

SUSPECT = 3
"""Failures in a row from which a server is probed by one delivery at a time. Two can happen in a restart."""
MAX_DELAY_FACTOR = 8
"""The delay doubles with each failure up to this multiple of the first one."""


@dataclass(slots=True)
class Health:
    """The state of one server."""

    failures: int = 0
    """In a row."""
    retry_at: float = 0.0
    probing: bool = False
    """A delivery is trying a server under suspicion."""
    last: Reply | None = None
    """The failure that deliveries are told that may not try."""

    def failed(self, now: float, reply: Reply, delay: float) -> None:
        """Count a failure; `delay` is the seconds of the first back-off."""
        factor = min(2**self.failures, MAX_DELAY_FACTOR) if self.failures < 16 else MAX_DELAY_FACTOR
        self.failures += 1
        self.retry_at = now + delay * factor
        self.last = reply
        self.probing = False

    def worked(self) -> None:
        """An answer came: all is well."""
        if self.failures:
            self.failures = 0
            self.retry_at = 0.0
            self.last = None
        self.probing = False


def candidates(servers: Sequence[Health], now: float) -> Iterator[int]:
    """Indices of the servers to try, best first, each one once.

    The state is looked at when the next one is asked for, so what failed meanwhile is known.
    """
    if len(servers) == 1:
        if not (servers[0].probing and servers[0].failures >= SUSPECT):
            yield 0
        return
    left = list(range(len(servers)))
    while left:
        well = [index for index in left if servers[index].failures == 0]
        due = [
            i for i in left if servers[i].failures and servers[i].retry_at <= now and not servers[i].probing
        ]
        open_to_try = [i for i in left if not (servers[i].probing and servers[i].failures >= SUSPECT)]
        if due and (not well or left.index(due[0]) < left.index(well[0])):
            best = due[0]
        elif well:
            best = well[0]
        elif open_to_try:
            best = min(open_to_try, key=lambda index: servers[index].retry_at)
        else:
            return
        left.remove(best)
        yield best
