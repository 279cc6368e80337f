"""Tables that are text files: what they hold, and all lines that are wrong at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mta.policy.watched import TableError

MOST_MISTAKES = 20
"""Lines of a file that are reported at once."""

Complain = Callable[[int, object], None]
"""Hears of a bad line: its number, and what is wrong with it."""


class Mistakes:
    """Collects what is wrong with the lines of a file."""

    def __init__(self, path: Path | str) -> None:
        """Nothing is wrong yet."""
        self._path = path
        self._found: list[str] = []

    def add(self, number: int, reason: object) -> None:
        """A line is wrong; what is more than `MOST_MISTAKES` is left out."""
        if len(self._found) < MOST_MISTAKES:
            self._found.append(f"{self._path}:{number}: {reason}")

    def check(self) -> None:
        """Raises TableError with all of it, a line each, when something is wrong."""
        if self._found:
            raise TableError("\n".join(self._found))


def read_file(path: Path) -> str:
    """The text of a file. Raises TableError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TableError(f"{path}: {error}") from error
    except UnicodeDecodeError:
        raise no_utf8(path) from None


def no_utf8(path: Path | str) -> TableError:
    """What to say of a file that could not be decoded: its first line that is no UTF-8."""
    number = 1
    try:
        with open(path, "rb") as lines:
            for octets in lines:
                octets.decode()
                number += 1
    except (OSError, UnicodeDecodeError):  # the second is where we want to get to
        pass
    return TableError(f"{path}:{number}: is no UTF-8")
