"""A file that is read again when it has changed: what tables of all kinds have in common."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from mta.lastgood import NOBODY, LastGood

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two looks at a file."""

AT_ONCE = 32 * 1024
"""Octets of a file that is read again while somebody waits for it. More is read in a thread, since 100,000
lines take tenths of a second; what the file held before stays in force meanwhile."""

Stamp = tuple[int, int, int]
"""What tells one state of a file from another: time of change, size, inode."""


class TableError(Exception):
    """A table cannot be used: file, line and reason of each mistake, one a line (the administrator's)."""


def stamp_of(path: str | Path) -> Stamp:
    """The state of a file, zeros for one that is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def read_octets(path: Path) -> bytes:
    """All that a file holds. Raises TableError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TableError(f"{path}: {error}") from error


class Looks:
    """When to read a file again: when it has changed, and while it cannot be read.

    What it holds does not become right by being read again, so a mistake is told and forgotten. Rights that
    are missing, or room on a disk, may be mended without a change of the file.
    """

    __slots__ = ("_clock", "_complain", "_next", "_path", "_told", "stamp")

    def __init__(self, path: str | Path, clock: Callable[[], float], complain: Callable[[str], None]) -> None:
        """The file is about to be read; `complain` hears of what goes wrong later."""
        self._path = path
        self._clock = clock
        self._complain = complain
        self._told = ""
        self.stamp: Stamp | None = stamp_of(path)
        """State in which it was read, None while it cannot be."""
        self._next = clock() + INTERVAL

    def is_due(self) -> bool:
        """Whether to read it now; the file is looked at once in `INTERVAL` seconds at most."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + INTERVAL
        stamp = stamp_of(self._path)
        if stamp == self.stamp:
            return False
        self.stamp = stamp
        return True

    def is_larger(self, octets: int) -> bool:
        """Whether the file was larger than this when it was looked at."""
        return self.stamp is not None and self.stamp[1] > octets

    def succeeded(self) -> None:
        """It has been read: what was told is over."""
        self._told = ""

    def failed(self, error: BaseException, pause: float = 0.0) -> None:
        """It has not; the next try is after `pause` seconds at the earliest. The same is told once."""
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            self.stamp = None
            self._next = max(self._next, self._clock() + pause)
        text = str(error)
        if isinstance(error, OSError):
            text = f"{self._path}: {error.strerror or error}"
        elif not isinstance(error, TableError):
            text = f"{self._path}: internal error: {error!r}"
        if text != self._told:
            self._told = text
            self._complain(text)


class Watched(Generic[T]):
    """What a file holds. When it cannot be read any more the old content stays in force."""

    __slots__ = ("_content", "_good", "_looks", "_path", "_read", "_reading")

    def __init__(
        self,
        path: Path,
        read: Callable[[Path, bytes], T],
        clock: Callable[[], float],
        *,
        complain: Callable[[str], None] = lambda text: None,
        good: LastGood = NOBODY,
    ) -> None:
        """Read `path`; what `read` raises comes out, unless `good` has what others read there before.

        `read` makes of the octets of the file what it means, and names the file where they are wrong.
        `complain` hears of it then, and later on.
        """
        self._path = path
        self._read = read
        self._looks = Looks(path, clock, complain)
        self._good = good
        self._reading: asyncio.Future[tuple[bytes, T]] | None = None
        """Goes on in a thread."""
        try:
            self._take(*self._load())
        except TableError as error:
            kept = good.content(str(path))
            if kept is None:
                raise
            self._content = read(path, kept)
            self._looks.failed(error)

    def content(self) -> T:
        """What the file holds, or held a moment ago; looked at once in `INTERVAL` seconds at most."""
        if self._reading is None and self._looks.is_due():
            loop = _loop() if self._looks.is_larger(AT_ONCE) else None
            if loop is not None:
                self._reading = loop.run_in_executor(None, self._load)
                self._reading.add_done_callback(self._done)
                return self._content
            try:
                found = self._load()
            except Exception as error:  # noqa: BLE001 - whatever it is, the old content is in force
                self._looks.failed(error)
            else:
                self._looks.succeeded()
                self._take(*found)
        return self._content

    def _load(self) -> tuple[bytes, T]:
        octets = read_octets(self._path)
        return octets, self._read(self._path, octets)

    def _take(self, octets: bytes, content: T) -> None:
        self._content = content
        self._good.note(str(self._path), octets)

    def _done(self, reading: asyncio.Future[tuple[bytes, T]]) -> None:
        self._reading = None
        if reading.cancelled():
            return
        error = reading.exception()
        if error is not None:
            self._looks.failed(error)
        else:
            self._looks.succeeded()
            self._take(*reading.result())


def _loop() -> asyncio.AbstractEventLoop | None:
    """The one that runs here, None where nothing would wait."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
