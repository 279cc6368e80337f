"""A mistake in the configuration, as a line that an administrator can act on, and the error that holds all.

    tamis.toml:12: domains."example.org".backend: found "dovcot", expected the name of a [backends.NAME]:
    archive, dovecot; did you mean "dovecot"?

(on one line). The form FILE:LINE: is known to editors. A warning has the word after the line and stops
nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from mta.config.locate import KeyPath, Position, format_path, locate, nearest

SHOWN = 60
"""Characters of a value that are shown; the rest is cut, for the line must stay readable."""


@dataclass(slots=True, frozen=True)
class Problem:
    """One mistake. `expected`, `reason` and `suggestion` may be empty; a `warning` does not stop a start."""

    file: str
    line: int
    """From 1; 0 when the mistake has no place, as in a file that cannot be read."""
    key: str
    found: str
    expected: str = ""
    reason: str = ""
    suggestion: str = ""
    """What was probably meant, as it should be written."""
    warning: bool = False
    column: int = 0
    """From 1, in a policy file; 0 where the line is enough."""

    def __str__(self) -> str:
        column = f"{self.column}:" if self.column else ""
        place = f"{self.file}:{self.line}:{column} " if self.line else f"{self.file}: "
        text = (
            place + ("warning: " if self.warning else "") + (f"{self.key}: " if self.key else "") + self.found
        )
        if self.expected:
            text += f", expected {self.expected}"
        if self.reason:
            text += f" ({self.reason})"
        if self.suggestion:
            text += f"; did you mean {self.suggestion}?"
        return _printable(text)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` are all its mistakes in the order of their lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems; warnings may be among them."""
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True)
class Findings:
    """Collects problems, each with its place in one document, and remembers which keys are bad."""

    file: str
    text: str = ""
    """The document, which is searched for places when the first one is wanted: most are right."""
    problems: list[Problem] = field(default_factory=list)
    bad: set[KeyPath] = field(default_factory=set)
    _renamed: dict[KeyPath, KeyPath] = field(default_factory=dict)
    _found: dict[KeyPath, Position] | None = None

    def add(
        self,
        path: KeyPath,
        found: str,
        expected: str = "",
        *,
        reason: str = "",
        suggestion: str = "",
        warning: bool = False,
    ) -> None:
        """Record a problem of the value at `path`; texts as in `Problem`."""
        line = nearest(self._positions(), self._as_written(path)).line
        self.problems.append(
            Problem(self.file, line, format_path(path), found, expected, reason, suggestion, warning)
        )
        if not warning:
            self.bad.add(path)

    def rename(self, old: KeyPath, new: KeyPath) -> None:
        """Let `new`, the normal form of a name, and what is under it have the positions of `old`."""
        self._renamed[new] = old

    def position(self, path: KeyPath) -> Position | None:
        """Where something stands in the document, None for what does not."""
        return self._positions().get(self._as_written(path))

    def _positions(self) -> dict[KeyPath, Position]:
        if self._found is None:
            try:
                self._found = locate(self.text)
            except RecursionError:  # lists in lists by the hundred, which are a mistake wherever they stand
                self._found = {}
        return self._found

    def _as_written(self, path: KeyPath) -> KeyPath:
        """A path with names as they stand in the document."""
        for end in range(len(path), 0, -1):
            old = self._renamed.get(path[:end])
            if old is not None:
                return (*self._as_written(old[:-1]), old[-1], *path[end:])
        return path

    def is_sound(self, *paths: KeyPath) -> bool:
        """True when no problem was found at these paths or around them: only then are they checked further,
        so that one mistake gives one message."""
        return not any(path[:end] in self.bad for path in paths for end in range(1, len(path) + 1))

    def sorted(self) -> tuple[Problem, ...]:
        """All problems in the order of their lines."""
        return tuple(sorted(self.problems, key=lambda problem: problem.line))


def _printable(text: str) -> str:
    """A text on one line, without what a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def is_integer(number: int) -> bool:
    """True for what TOML calls an integer: 64 bits with a sign."""
    return -(1 << 63) <= number < 1 << 63


def show(value: object) -> str:
    """A value as it stands in TOML, cut to `SHOWN` characters."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = value if len(value) <= SHOWN else value[: SHOWN - 3] + "..."
            return f'"{_printable(text)}"'
        case dict():
            return "a table"
        case list():
            return "a list"
        case int() if not is_integer(value):
            return "a number of more than 64 bits"
        case int() | float():
            return str(value)
        case _:
            return "a date or time"


def closest(word: str, names: Iterable[str]) -> str:
    """The name that `word` is probably a slip of, "" if none is near."""
    candidates = {name.lower(): name for name in names}
    matches = difflib.get_close_matches(word.lower(), candidates, n=1, cutoff=0.6)
    return candidates[matches[0]] if matches else ""


def listing(names: Iterable[str]) -> str:
    """Names for a sentence, quoted when they are values: "a", "b" or "c"."""
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]


def unreadable(path: str, error: OSError) -> Problem:
    """The configuration itself cannot be read."""
    missing = isinstance(error, FileNotFoundError)
    hint = "; --config FILE or TAMIS_CONFIG in the environment names another" if missing else ""
    return Problem(path, 0, "", f"cannot be read: {error.strerror or error}{hint}")
