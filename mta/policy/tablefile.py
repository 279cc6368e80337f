"""Tables that are text files: what they hold, and all lines that are wrong at once."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from io import BytesIO, TextIOWrapper
from pathlib import Path

from mta.policy.watched import TableError, read_octets

MOST_MISTAKES = 20
"""Lines of a file that are reported at once."""

ENCODING = "utf-8-sig"
"""Some editors put a byte order mark in front."""

Complain = Callable[[int, object], None]
"""Hears of a bad line: its number, and what is wrong with it."""


class Mistakes:
    """Collects what is wrong with the lines of a file."""

    def __init__(self, path: Path | str) -> None:
        """Nothing is wrong yet."""
        self._path = path
        self._found: list[tuple[int, str]] = []
        self._count = 0

    def add(self, number: int, reason: object) -> None:
        """A line is wrong; the first `MOST_MISTAKES` are told."""
        self._count += 1
        insort(self._found, (number, str(reason)))
        del self._found[MOST_MISTAKES:]

    def check(self) -> None:
        """Raises TableError with all of it, a line each, when something is wrong."""
        if self._found:
            told = [f"{self._path}:{number}: {reason}" for number, reason in self._found]
            if self._count > len(told):
                told.append(f"{self._path}: {self._count - len(told)} more lines are wrong")
            raise TableError("\n".join(told))


def read_lines(path: Path, octets: bytes | None = None) -> list[str]:
    """The lines of a file, as editors count them; `octets` are what it holds where it was read already.

    Raises TableError when it cannot be read.
    """
    if octets is None:
        octets = read_octets(path)
    try:
        return TextIOWrapper(BytesIO(octets), encoding=ENCODING).read().split("\n")
    except UnicodeDecodeError:
        raise no_utf8(path, BytesIO(octets)) from None


def no_utf8(path: Path | str, lines: Iterable[bytes]) -> TableError:
    """What to say of a file that could not be decoded: which of its lines is the first that is no UTF-8."""
    number = 1
    try:
        for octets in lines:
            octets.decode()
            number += 1
    except (OSError, UnicodeDecodeError):  # the second is where we want to get to
        pass
    return TableError(f"{path}:{number}: is no UTF-8")
