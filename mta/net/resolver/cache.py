"""Answers that are still good: bounded in number, in size and in time.

The local resolver has the large cache; this one saves the way to it for what every message asks. Times are
kept short, so that a zone's change is seen about as soon as the resolver sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mta.net.resolver.base import Answer


@dataclass(slots=True, frozen=True)
class CacheSettings:
    """Bounds of one worker's cache."""

    entries: int = 10_000
    """Answers; 0 keeps none."""
    octets: int = 8 << 20
    """Octets that the kept answers had on the wire, keys included. Objects take some four times as much."""
    longest: float = 300.0
    """Seconds that records are kept, whatever their TTL."""
    longest_negative: float = 60.0
    """Seconds that "no such name" and "no such record" are kept."""
    failure: float = 1.0
    """Seconds that a failure which the resolver reported is kept (RFC 9520 section 3.2 wants 1 at least)."""


Key = tuple[bytes, int]
"""Name in wire form and number of the type."""


class Cache:
    """Answers by question. The oldest go first when it is full."""

    __slots__ = ("_clock", "_entries", "_octets", "settings")

    def __init__(self, settings: CacheSettings, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only grow."""
        self.settings = settings
        self._clock = clock
        self._entries: dict[Key, tuple[float, int, Answer]] = {}
        self._octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """What counts against `CacheSettings.octets`."""
        return self._octets

    def get(self, key: Key) -> Answer | None:
        """The answer, if one is kept that is still good."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            self._drop(key)
            return None
        return entry[2]

    def put(self, key: Key, answer: Answer, size: int) -> None:
        """Keep an answer that took `size` octets on the wire for as long as it may be kept."""
        settings = self.settings
        if not answer.usable:
            seconds = settings.failure
        elif answer.records:
            seconds = min(answer.ttl, settings.longest)
        else:
            seconds = min(answer.ttl, settings.longest_negative)
        size += len(key[0])
        self._drop(key)
        if seconds <= 0 or not settings.entries or size > settings.octets:
            return
        self._entries[key] = (self._clock() + seconds, size, answer)
        self._octets += size
        while len(self._entries) > settings.entries or self._octets > settings.octets:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._octets = 0

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._octets -= entry[1]
