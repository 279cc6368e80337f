"""Queue ids: 48 bits of time in milliseconds and 80 random bits, as 26 letters that sort by time (ULID).

An id is made once, when a message is first queued, and is its name for ever: in trace fields, logs and after
another node has taken the message over. In memory and in the log it is 16 octets, big-endian. Letters are
Crockford's base 32 without I, L, O and U; they are read in either case.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from mailqueue.clock import Clock

ID_SIZE = 16
"""Octets."""
PARTS = 16
"""Parts of the id space that can be taken over one by one; fixed, for keys name them."""
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_TO_DIGITS = str.maketrans(_ALPHABET + _ALPHABET.lower(), "0123456789abcdefghijklmnopqrstuv" * 2)
_HALVES = struct.Struct(">QQ").unpack
_LETTERS = frozenset(_ALPHABET + _ALPHABET.lower())


def id_text(octets: bytes) -> str:
    """The 26 letters of an id."""
    high, low = _HALVES(octets)
    p = _PAIRS  # written out: ids are named for each message several times, and a loop takes twice as long
    return (
        f"{p[high >> 56]}{p[high >> 46 & 1023]}{p[high >> 36 & 1023]}{p[high >> 26 & 1023]}"
        f"{p[high >> 16 & 1023]}{p[high >> 6 & 1023]}{p[high << 4 & 1023 | low >> 60]}{p[low >> 50 & 1023]}"
        f"{p[low >> 40 & 1023]}{p[low >> 30 & 1023]}{p[low >> 20 & 1023]}{p[low >> 10 & 1023]}{p[low & 1023]}"
    )


def id_octets(text: str) -> bytes:
    """The 16 octets of an id. Raises ValueError for what is none."""
    if len(text) != 26 or not _LETTERS.issuperset(text) or text[0] > "7":
        raise ValueError(f"not a queue id: {text[:40]!r}")
    return int(text.translate(_TO_DIGITS), 32).to_bytes(ID_SIZE, "big")


def is_id(text: str) -> bool:
    """True for what `id_octets` reads."""
    return len(text) == 26 and _LETTERS.issuperset(text) and text[0] <= "7"


def part_of(octets: bytes) -> int:
    """The part of the id space, 0 to 15, that an id belongs to: its last four bits, which are random."""
    return octets[15] & 15


class IdMaker:
    """Makes ids of one process."""

    __slots__ = ("_clock", "_random")

    def __init__(self, clock: Clock, random: Callable[[int], bytes] = os.urandom) -> None:
        """`random` returns as many random octets as it is asked for."""
        self._clock = clock
        self._random = random

    def new(self) -> bytes:
        """A new id, as octets."""
        milliseconds = max(int(self._clock.wall() * 1000), 0) & 0xFFFFFFFFFFFF
        return milliseconds.to_bytes(6, "big") + self._random(10)
