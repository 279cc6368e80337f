"""What is wrong with a script, and where: the only way in which a faulty script makes itself heard.

A `Diagnostic` points at a place of the text and says what is wrong in words, with a stable code for
programs and a hint where one helps. `Source` turns octet offsets, which tokens and nodes carry, into lines
and columns.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Severity(Enum):
    """How bad it is: an error keeps the script from running, a warning is most likely a mistake."""

    ERROR = "error"
    WARNING = "warning"


class Position(NamedTuple):
    """A place in a script."""

    line: int
    """From 1."""
    column: int
    """In characters, from 1."""

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(slots=True, frozen=True)
class Diagnostic:
    """One thing that is wrong with a script."""

    line: int
    """From 1."""
    column: int
    """In characters, from 1."""
    length: int
    """Characters that are meant, within the line; 0 for a place between two."""
    severity: Severity
    code: str
    """What it is, for programs: "unknown-command". Stable."""
    text: str
    """What it is, for people: one sentence in lower case without a full stop."""
    hint: str = ""
    """What to do about it, "" if that is obvious."""
    script: str = ""
    """Name of the included script that it is about, "" for the script itself."""

    def __str__(self) -> str:
        script = f"{self.script}: " if self.script else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{script}{self.line}:{self.column}: {self.severity.value}: {self.text}{hint}"


class InvalidScript(Exception):
    """A script that cannot be run; `diagnostics` says everything that is wrong with it."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        """`diagnostics` has at least one error."""
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(map(str, self.diagnostics)))

    @property
    def errors(self) -> list[Diagnostic]:
        """The diagnostics without the warnings."""
        return [one for one in self.diagnostics if one.severity is Severity.ERROR]


class Source:
    """The text of a script, for finding lines and columns."""

    __slots__ = ("_is_ascii", "_starts", "name", "octets")

    def __init__(self, octets: bytes, name: str = "") -> None:
        """`name` is shown with diagnostics; "" for the script itself."""
        self.octets = octets
        self.name = name
        self._starts: list[int] | None = None
        self._is_ascii = octets.isascii()

    def position(self, offset: int) -> Position:
        """The line and column of an octet offset."""
        starts = self._starts or self._find_lines()
        line = bisect_right(starts, offset)
        start = starts[line - 1]
        if self._is_ascii and start <= offset <= len(self.octets):  # each command is looked up
            return Position(line, offset - start + 1)
        return Position(line, len(self.octets[start:offset].decode("utf-8", "replace")) + 1)

    def _find_lines(self) -> list[int]:
        starts = [0]
        place = self.octets.find(b"\n")
        while place >= 0:
            starts.append(place + 1)
            place = self.octets.find(b"\n", place + 1)
        self._starts = starts
        return starts

    def diagnostic(
        self,
        start: int,
        end: int,
        code: str,
        text: str,
        hint: str = "",
        severity: Severity = Severity.ERROR,
    ) -> Diagnostic:
        """A diagnostic about the octets from `start` to before `end`; its length ends with the line."""
        line, column = self.position(start)
        length = len(self.octets[start:end].split(b"\n", 1)[0].decode("utf-8", "replace"))
        return Diagnostic(line, column, length, severity, code, text, hint, self.name)
