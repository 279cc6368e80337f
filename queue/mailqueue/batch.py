"""What becomes one entry of the log: records, the payloads that come with them, and who waits for them."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from mailqueue.entry import payload_base


class Haste(IntEnum):
    """How soon a record is written."""

    LATER = 0
    """It is lost without harm."""
    SOON = 1
    """No client waits for it, but until it is there a crash costs something: who has a message gets it once
    more."""
    NOW = 2
    """Somebody waits."""


class Batch:
    """Records that become one entry."""

    __slots__ = (
        "began",
        "first",
        "framed",
        "framed_size",
        "haste",
        "number",
        "octets",
        "on_commit",
        "payload_size",
        "payloads",
        "there",
        "waiters",
    )

    def __init__(self, now: float) -> None:
        """`now` is loop time."""
        self.first = now
        """When its first record came, in loop time."""
        self.began = 0.0
        """When it was handed to the store."""
        self.number = -1
        self.framed: list[bytes] = []
        self.framed_size = 0
        self.payloads: list[bytes] = []
        self.payload_size = 0
        self.on_commit: list[Callable[[Batch | None], None]] = []
        """Called in order with the batch when it is committed, with None when it never will be."""
        self.haste = Haste.LATER
        self.waiters = 0
        """Records that somebody waits for."""
        self.there = False
        """The store has it."""
        self.octets = b""

    @property
    def size(self) -> int:
        """Octets."""
        return self.framed_size + self.payload_size

    @property
    def base(self) -> int:
        """Where its payloads begin."""
        return payload_base(self.framed_size)
