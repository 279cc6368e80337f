"""How far long work has come: one line on standard error, where that is a terminal, and none elsewhere."""

from __future__ import annotations

import sys
import time

EVERY = 0.2
"""Seconds between two updates."""


class Progress:
    """One line that is overwritten."""

    def __init__(self, what: str) -> None:
        """`what` is counted: "messages", "objects"."""
        self._what = what
        self._shown = 0.0
        self._is_on = sys.stderr.isatty()

    def update(self, done: int, of: int = 0) -> None:
        """So many are done; `of` is how many there are, 0 when that is not known."""
        now = time.monotonic()
        if self._is_on and now - self._shown >= EVERY:
            self._shown = now
            total = f" of {of}" if of else ""
            print(f"\r{done}{total} {self._what}\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Wipe the line, for the result comes."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
