"""Laying a script out anew: one command a line, four blanks for each block, long lists broken.

Nothing changes but white space: the tokens of the result are those of the script, comments stay where they
were. A command with a comment in its middle is left as it is written, for no layout can know what the comment
is about. Multi-line strings keep every octet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sieve_ext.diagnostic import InvalidScript, Source
from sieve_ext.syntax.lexer import Lexer, Token

WIDTH = 78
"""Columns that a line takes at most, where it can be broken."""
INDENT = "    "

_COMMENT = re.compile(rb"#[^\n]*|/\*.*?\*/", re.DOTALL)
_KEPT = "\0"
"""Begins lines that are not moved; no script holds it."""
_OPENING = {"[": "]", "(": ")"}


@dataclass(slots=True)
class _Statement:
    """A command up to its semicolon, or the head of a block, or the end of one."""

    tokens: list[Token] = field(default_factory=list)
    has_comment: bool = False


def format_script(text: bytes) -> bytes:
    """The script laid out anew. Raises InvalidScript for what is not made of whole commands.

    It need not be valid otherwise.
    """
    return _Layout(text).run()


class _Layout:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._lines: list[str] = []
        self._depth = 0

    def run(self) -> bytes:
        """Go through the tokens; what lies between them are blanks and comments."""
        text = self._text
        source = Source(text)
        problems: list[tuple[int, int, str, str]] = []
        tokens = Lexer().tokens(text, lambda *problem: problems.append(problem))
        if problems:
            raise InvalidScript([source.diagnostic(*problem) for problem in problems])
        statement = _Statement()
        end = 0
        for token in tokens:
            self._gap(text[end : token.start], statement)
            end = token.end
            if token.kind in ("end", "}") and statement.tokens:
                text_of = "the command before it has no end"
                raise InvalidScript([source.diagnostic(token.start, token.end, "no-end", text_of)])
            if token.kind == "end":
                break
            if token.kind == "}":
                self._depth = max(0, self._depth - 1)
                self._write(["}"])
            else:
                statement.tokens.append(token)
                if token.kind in (";", "{"):
                    self._flush(statement)
                    statement = _Statement()
                    self._depth += token.kind == "{"
        while self._lines and not self._lines[-1]:
            self._lines.pop()
        return "".join(f"{line}\n" for line in self._lines).encode("utf-8", "surrogateescape")

    def _gap(self, gap: bytes, statement: _Statement) -> None:
        """Comments and empty lines between two tokens."""
        comments = list(_COMMENT.finditer(gap))
        if statement.tokens:
            statement.has_comment |= bool(comments)
            return
        place = 0
        for comment in comments:
            before = gap[place : comment.start()]
            shown = _text(comment.group()).rstrip()
            if b"\n" not in before and place == 0 and self._lines and self._lines[-1]:
                self._lines[-1] += f"  {shown}"
            else:
                self._blank(before)
                first, *rest = shown.split("\n")
                self._lines += [INDENT * self._depth + first, *rest]
            place = comment.end()
        self._blank(gap[place:])

    def _blank(self, gap: bytes) -> None:
        """One empty line where there were some."""
        if gap.count(b"\n") > 1 and self._lines and self._lines[-1]:
            self._lines.append("")

    def _flush(self, statement: _Statement) -> None:
        tokens = statement.tokens
        if statement.has_comment:
            first, *rest = _text(self._text[tokens[0].start : tokens[-1].end]).split("\n")
            self._write([first, *(f"{_KEPT}{line}" for line in rest)])
            return
        words = [_text(self._text[token.start : token.end]) for token in tokens]
        room = WIDTH - len(INDENT) * self._depth
        self._write(_lines([token.kind for token in tokens], words, room))

    def _write(self, lines: Sequence[str]) -> None:
        """Add lines in the present block; what follows in a multi-line string is not moved."""
        if self._lines and not self._lines[-1] and lines[0] == "}":
            self._lines.pop()
        self._lines.append(INDENT * self._depth + lines[0])
        for line in lines[1:]:
            kept = line.startswith(_KEPT)
            self._lines.append(line[1:] if kept else INDENT * self._depth + line)


def _lines(kinds: Sequence[str], words: Sequence[str], room: int) -> list[str]:
    """A statement as lines, of which none begins with the indentation of its block."""
    joined = _join(kinds, words)
    if "\n" in joined:
        first, *rest = joined.split("\n")
        # The lines of a multi-line string, and what follows it, stand where they stood: at the left.
        return [first, *(f"{_KEPT}{line}" for line in rest)]
    if len(joined) <= room:
        return [joined]
    for place, kind in enumerate(kinds):
        if kind in _OPENING:
            close = _closing(kinds, place)
            if close > place + 1:
                return _broken(kinds, words, place, close, room)
    return [joined]


def _broken(kinds: Sequence[str], words: Sequence[str], start: int, end: int, room: int) -> list[str]:
    """A statement with the list or the tests between `start` and `end` on lines of their own."""
    lines = [_join(kinds[: start + 1], words[: start + 1])]
    item = start + 1
    for place in _commas(kinds, start, end):
        found = _lines(kinds[item:place], words[item:place], room - len(INDENT) - 1)
        found[-1] += "," if place < end else ""
        lines += [INDENT + line for line in found]
        item = place + 1
    rest = _lines(kinds[end:], words[end:], room)
    return lines + rest


def _commas(kinds: Sequence[str], start: int, end: int) -> list[int]:
    """Where the items between two brackets end: their commas, and the closing bracket."""
    depth = 0
    found = []
    for place in range(start + 1, end):
        depth += (kinds[place] in _OPENING) - (kinds[place] in ("]", ")"))
        if kinds[place] == "," and not depth:
            found.append(place)
    return [*found, end]


def _closing(kinds: Sequence[str], start: int) -> int:
    """Where the bracket at `start` is closed; -1 if it is not."""
    depth = 0
    for place in range(start, len(kinds)):
        depth += (kinds[place] in _OPENING) - (kinds[place] in ("]", ")"))
        if not depth:
            return place
    return -1


def _join(kinds: Sequence[str], words: Sequence[str]) -> str:
    """Words in one line, with the blanks that people write."""
    text = ""
    before = ""
    for kind, word in zip(kinds, words, strict=True):
        tight = not text or kind in (";", ",", ")", "]") or before in ("(", "[") or text.endswith("\n")
        text += word if tight else f" {word}"
        before = kind
    return text


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
