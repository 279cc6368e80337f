"""A file that is read again when it has changed: what tables of all kinds have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two looks at a file."""


class TableError(Exception):
    """A table cannot be used: file, line and reason of each mistake, one a line (the administrator's)."""


class Watched(Generic[T]):
    """What a file holds. When it cannot be read any more the old content stays in force."""

    __slots__ = ("_clock", "_complain", "_content", "_interval", "_next_look", "_path", "_read", "_stamp")

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], T],
        clock: Callable[[], float],
        *,
        interval: float = INTERVAL,
        complain: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Read `path`; what `read` raises comes out. `complain` hears of a TableError later on."""
        self._path = path
        self._read = read
        self._clock = clock
        self._interval = interval
        self._complain = complain
        self._stamp = self._look()
        self._content = read(path)
        self._next_look = clock() + interval

    def content(self) -> T:
        """What the file holds now; looked at once in `interval` seconds at most."""
        if self._clock() >= self._next_look:
            self._refresh()
        return self._content

    def _refresh(self) -> None:
        self._next_look = self._clock() + self._interval
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._content = self._read(self._path)
        except TableError as error:
            self._complain(str(error))

    def _look(self) -> tuple[int, int, int]:
        try:
            stat = os.stat(self._path)
        except OSError:
            return (0, 0, 0)
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
