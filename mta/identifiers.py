"""Names of sessions: unique in the cluster, short, and in the order of their making within a worker.

"t4x0k29f3c-0-1a": seconds since the epoch at the worker's start and two random octets (so that two nodes, or
a worker and its successor in the same second, never share a prefix), the worker's slot, and a counter.
A transaction is named after its session, with its number behind a dot.
"""

from __future__ import annotations

from itertools import count

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Identifiers:
    """Makes the names of one worker's sessions."""

    __slots__ = ("_counter", "_prefix")

    def __init__(self, slot: int, started: int, random: bytes) -> None:
        """`started` is seconds since the epoch, `random` at least two octets."""
        self._prefix = f"{base36(started)}{random.hex()}-{base36(slot)}-"
        self._counter = count(1)

    def new(self) -> str:
        """The next name: letters, digits and hyphens."""
        return self._prefix + base36(next(self._counter))


def base36(number: int) -> str:
    """`number` (0 or more) in digits and lower-case letters."""
    if not number:
        return "0"
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text
