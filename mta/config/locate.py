"""Where each key of a TOML document stands: `tomllib` reads values but forgets their lines.

`locate(text)` scans a document that `tomllib` has already accepted and gives the position of every key,
table header and list element, under the same path that leads to its value in `tomllib`'s result:
("listener", 0, "addresses", 1). It follows TOML 1.0: bare, quoted and dotted keys, inline tables, arrays
over several lines, arrays of tables and tables inside them, all four kinds of strings, comments.

The scan is linear in the text. A document that `tomllib` refuses must not be given here: what is found
in it is undefined (or TOMLDecodeError is raised for a key), though the scan still ends.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list indices from the root to a value."""


class Position(NamedTuple):
    """Line and column, both from 1; columns count characters."""

    line: int
    column: int


NOWHERE = Position(0, 0)
"""The position of what does not stand in the document."""

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def locate(text: str) -> dict[KeyPath, Position]:
    """The position of every key, table and list element of a valid TOML document."""
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.positions


def nearest(positions: dict[KeyPath, Position], path: KeyPath) -> Position:
    """The position of `path`, or of the innermost table around it that stands in the document."""
    for end in range(len(path), 0, -1):
        position = positions.get(path[:end])
        if position is not None:
            return position
    return NOWHERE


def format_path(path: KeyPath) -> str:
    """A path as one writes it in TOML: domains."example.org".backend, listener[0].name."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        else:
            bare = step and all(c in _BARE for c in step)
            parts.append(("." if parts else "") + (step if bare else _quoted(step)))
    return "".join(parts)


def _quoted(key: str) -> str:
    """A key in quotes, on one line and without what a terminal would obey."""
    shown = key.replace("\\", r"\\").replace('"', r"\"")
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04X}" for c in shown) + '"'


def _unquoted(key: str) -> str:
    """A key that stands in quotes, as it is meant."""
    if "\\" not in key:
        return key[1:-1]
    meant: str = tomllib.loads(f"k = {key}")["k"]
    return meant


def _matcher(pattern: str) -> Callable[[str, int], re.Match[str]]:
    """What matches at a place; `pattern` matches everywhere, be it nothing."""
    return re.compile(pattern).match  # type: ignore[return-value]


_bare = _matcher(r"[A-Za-z0-9_-]*")
_blanks = _matcher(r"[ \t]*")
_between = _matcher(r"(?:[ \t\n]+|#[^\n]*)*")
_plain = _matcher(r"""[^"'\\]*""")
"""Of a string: what neither ends it nor means something else."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.positions: dict[KeyPath, Position] = {}
        self._lengths: dict[KeyPath, int] = {}  # arrays of tables seen so far
        self._lines = [0]
        offset = text.find("\n")
        while offset >= 0:
            self._lines.append(offset + 1)
            offset = text.find("\n", offset + 1)

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip_to_token():
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._key_value(table)

    def _header(self) -> KeyPath:
        start = self.at
        double = self.text.startswith("[[", start)
        self.at += 2 if double else 1
        keys = self._key()
        self.at += 2 if double else 1
        path: KeyPath = ()
        for number, (name, _) in enumerate(keys, 1):
            path += (name,)
            if number == len(keys):
                break
            self.positions.setdefault(path, self._position(start))
            if path in self._lengths:
                path += (self._lengths[path] - 1,)
        if double:
            self.positions.setdefault(path, self._position(start))
            count = self._lengths.get(path, 0)
            self._lengths[path] = count + 1
            path += (count,)
        self.positions[path] = self._position(start)
        return path

    def _key_value(self, table: KeyPath) -> None:
        path = table
        for name, offset in self._key():
            path += (name,)
            self.positions.setdefault(path, self._position(offset))
        self._skip_blanks()
        self.at += 1  # "="
        self._skip_blanks()
        self._value(path)

    def _key(self) -> list[tuple[str, int]]:
        keys = []
        while True:
            self._skip_blanks()
            start = self.at
            if self.text[start : start + 1] in ('"', "'"):
                self._string()
                keys.append((_unquoted(self.text[start : self.at]), start))
            else:
                self.at = _bare(self.text, start).end()
                keys.append((self.text[start : self.at], start))
            self._skip_blanks()
            if self.text[self.at : self.at + 1] != ".":
                return keys
            self.at += 1

    def _value(self, path: KeyPath) -> None:
        match self.text[self.at : self.at + 1]:
            case '"' | "'":
                self._string()
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:  # number, boolean, date: ends where no part of it can follow
                self.at += 1
                while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
                    self.at += 1

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while self._skip_to_token() and self.text[self.at] != "]":
            self.positions[(*path, index)] = self._position(self.at)
            self._value((*path, index))
            index += 1
            if self._skip_to_token() and self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while self._skip_to_token() and self.text[self.at] != "}":
            self._key_value(path)
            if self._skip_to_token() and self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _string(self) -> None:
        quote = self.text[self.at]
        long = self.text.startswith(quote * 3, self.at)
        end = quote * 3 if long else quote
        self.at += len(end)
        while self.at < len(self.text) and not self.text.startswith(end, self.at):
            if quote == '"' and self.text[self.at] == "\\":
                self.at += 2
            else:
                self.at = max(self.at + 1, _plain(self.text, self.at).end())
        self.at += len(end)
        if long:  # one or two quotes may stand before the closing three: """a"""""
            for _ in range(2):
                if self.text[self.at : self.at + 1] == quote:
                    self.at += 1

    def _skip_blanks(self) -> None:
        self.at = _blanks(self.text, self.at).end()

    def _skip_to_token(self) -> bool:
        """Skip blanks, line ends and comments; False at the end of the document."""
        self.at = _between(self.text, self.at).end()
        return self.at < len(self.text)

    def _position(self, offset: int) -> Position:
        line = bisect_right(self._lines, offset)
        return Position(line, offset - self._lines[line - 1] + 1)
