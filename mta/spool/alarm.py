"""When to tell that the queue cannot be used: once when that begins, and once when it is over."""

from __future__ import annotations

LASTS = 2.0
"""Seconds that it must last, and be over, before a word is said: a single answer may fail."""
EVERY = 1.0
"""Seconds between two looks."""


class Alarm:
    """Remembers what was told last."""

    __slots__ = ("_begun", "_since", "_told")

    def __init__(self) -> None:
        """All is well as far as was told."""
        self._told = False
        self._since: float | None = None
        """When what is seen began to differ from what was told."""
        self._begun = 0.0

    def look(self, trouble: str, now: float) -> float | None:
        """Seen at `now` (any clock, in seconds): trouble, or "" when all is well.

        Returns None when nothing is to be told; 0 when the trouble is; when its end is, for how many seconds
        it has lasted.
        """
        is_bad = bool(trouble)
        if is_bad is self._told:
            self._since = None
            return None
        if self._since is None:
            self._since = now
        if now - self._since < LASTS:
            return None
        self._told = is_bad
        since, self._since = self._since, None
        if is_bad:
            self._begun = since
            return 0.0
        return since - self._begun
