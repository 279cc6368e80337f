"""Files that are read again when they have changed, and the last content of them that was right.

A file with a mistake leaves the old content in force, in workers that have it. One that is started in the
place of another has read nothing yet: without the last good content it could not start before somebody has
mended the file, and after the last of its fellows no mail would be taken. So workers give what they have
read to the supervisor, which keeps it in memory for those that come later.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mta.config.secret import read_secret

if TYPE_CHECKING:
    from mta.supervisor.link import WorkerLink

LARGEST = 512 * 1024
"""Octets of the largest file whose content is kept: users by the thousand. Larger tables have an index."""


class LastGood(Protocol):
    """Knows what files held when they were right."""

    def note(self, path: str) -> None:
        """The file has just been read, and is right."""

    def content(self, path: str) -> bytes | None:
        """What it held when others read it last; None when nobody has, or it is not kept."""

    def was_right(self, path: str) -> bool:
        """Whether others have read it, kept or not."""


class Nobody:
    """There are no others (`LastGood`)."""

    def note(self, path: str) -> None:
        """Nobody comes later."""

    def content(self, path: str) -> bytes | None:
        """Nobody was there before."""
        return None

    def was_right(self, path: str) -> bool:
        """Nobody was there before."""
        return False


NOBODY: LastGood = Nobody()


class KeptFiles:
    """What the workers of a generation have read (`LastGood`)."""

    def __init__(self, link: WorkerLink) -> None:
        """`link` leads to the supervisor."""
        self._link = link

    def note(self, path: str) -> None:
        """Give it to those that come later; a large file only as one that was right."""
        try:
            with open(path, "rb") as file:
                octets = file.read(LARGEST + 1)
        except OSError:
            return
        facts = {"octets": octets if len(octets) <= LARGEST else None}
        if facts != self._link.kept(_key(path)):
            self._link.keep(_key(path), facts)

    def content(self, path: str) -> bytes | None:
        """What was given for it."""
        facts = self._link.kept(_key(path))
        return None if facts is None else facts["octets"]

    def was_right(self, path: str) -> bool:
        """Whether anything was given for it."""
        return self._link.kept(_key(path)) is not None


def _key(path: str) -> str:
    return f"file {path}"


@contextlib.contextmanager
def as_file(octets: bytes) -> Iterator[Path]:
    """A file in memory that holds `octets`, for who reads files. Raises OSError."""
    descriptor = os.memfd_create("last good", os.MFD_CLOEXEC)
    try:
        view = memoryview(octets)
        while view:
            view = view[os.write(descriptor, view) :]
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def secrets_reader(good: LastGood) -> Callable[[str], str]:
    """What reads password files as `read_secret`, or has what others read where one is wrong by now."""

    def read(file: str) -> str:
        try:
            secret = read_secret(file)
        except (OSError, ValueError):
            octets = good.content(file)
            if octets is None:
                raise
            with as_file(octets) as kept:
                return read_secret(str(kept))
        good.note(file)
        return secret

    return read
