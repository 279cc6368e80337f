"""Files that are read again when they have changed, and the last content of them that was right.

A file with a mistake leaves the old content in force, in workers that have it. One that is started in the
place of another has read nothing yet: without the last good content it could not start before somebody has
mended the file, and after the last of its fellows no mail would be taken. So workers give what they have
read to the supervisor, which keeps it in memory for those that come later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from mta.config.secret import secret_in, secret_octets

if TYPE_CHECKING:
    from mta.supervisor.link import WorkerLink

LARGEST = 512 * 1024
"""Octets of the largest file whose content is kept: users by the thousand. Larger tables have an index."""


class LastGood(Protocol):
    """Knows what files held when they were right."""

    def note(self, path: str, octets: bytes | None) -> None:
        """The file has been read, and what was read is right; None where that is too much to be kept.

        It is not read for this: somebody may have begun to edit it since.
        """

    def content(self, path: str) -> bytes | None:
        """What it held when others read it last; None when nobody has, or it is not kept."""

    def was_right(self, path: str) -> bool:
        """Whether others have read it, kept or not."""


class Nobody:
    """There are no others (`LastGood`)."""

    def note(self, path: str, octets: bytes | None) -> None:
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

    def note(self, path: str, octets: bytes | None) -> None:
        """Give it to those that come later; a large file only as one that was right."""
        facts = {"octets": octets if octets is not None and len(octets) <= LARGEST else None}
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


def secrets_reader(good: LastGood) -> Callable[[str], str]:
    """What reads password files as `read_secret`, or has what others read where one is wrong by now."""

    def read(file: str) -> str:
        try:
            octets = secret_octets(file)
            secret = secret_in(octets, file)
        except (OSError, ValueError):
            kept = good.content(file)
            if kept is None:
                raise
            return secret_in(kept, file)
        good.note(file, octets)
        return secret

    return read
