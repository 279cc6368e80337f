"""Octets to tokens (RFC 5228 section 8.1).

The table of rules and the way it becomes one regular expression are sievelib's; the scanner is our own, for
it must go on after a mistake, know offsets, and be strict where sievelib's is not: what may follow `text:`,
strings over several lines, strings and comments without end. Linear in the length of the script: no rule can
match the same octets in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import sievelib.parser  # type: ignore[import-untyped]

from sieve_ext.syntax import limits

RULES: list[tuple[bytes, bytes]] = [
    (b"blank", rb"[ \t\r\n]++"),
    (b"identifier", rb"(?![Tt][Ee][Xx][Tt]:)[A-Za-z_][A-Za-z0-9_]*+"),
    (b"tag", rb":[A-Za-z_][A-Za-z0-9_]*+"),
    (b"string", rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'),
    (b"semicolon", rb";"),
    (b"comma", rb","),
    (b"left_bracket", rb"\["),
    (b"right_bracket", rb"\]"),
    (b"left_parenthesis", rb"\("),
    (b"right_parenthesis", rb"\)"),
    (b"left_cbracket", rb"\{"),
    (b"right_cbracket", rb"\}"),
    (b"number", rb"[0-9]++[KMGkmg]?"),
    (b"hash_comment", rb"#[^\n]*+"),
    (b"bracket_comment", rb"/\*(?s:.*?)\*/"),
    (
        b"multiline",
        rb"[Tt][Ee][Xx][Tt]:[ \t]*+(?:#[^\n]*+)?\r?\n(?:(?!\.\r?\n|\.\Z)[^\n]*\n)*\.(?:\r?\n|\Z)",
    ),
]
"""sievelib's names of tokens, with rules that keep to the grammar. The lines of a multi-line string are not
matched possessively: Python 3.11 has a bug with that (gh-106052)."""

_KINDS = {
    "semicolon": ";",
    "comma": ",",
    "left_bracket": "[",
    "right_bracket": "]",
    "left_parenthesis": "(",
    "right_parenthesis": ")",
    "left_cbracket": "{",
    "right_cbracket": "}",
}
_SCALE = {b"K": 10, b"M": 20, b"G": 30}
_multiline_head = re.compile(rb"[Tt][Ee][Xx][Tt]:[ \t]*+(?:#[^\n]*+)?\r?\n").match
_multiline_end = re.compile(rb"^\.\r?(?:\n|\Z)", re.MULTILINE).search
_known = re.compile(rb'[ \t\r\nA-Za-z0-9_:"\[\](){};,#]|/\*').search
_escaped = re.compile(r"\\(.)", re.DOTALL)


class Token(NamedTuple):
    """One word of a script."""

    kind: str
    """identifier, tag, string, number, error, end, or the punctuation itself."""
    value: str | int
    """Identifier, tag without its colon or content of a string; the number; for "error" what it is."""
    start: int
    """Where it begins, in octets."""
    end: int
    """Before what it ends."""


Report = Callable[[int, int, str, str], None]
"""Takes start, end, code and text of an error."""


class Lexer(sievelib.parser.Lexer):  # type: ignore[misc]
    """Cuts a script into tokens, reporting what is none."""

    def __init__(self, definitions: list[tuple[bytes, bytes]] | None = None) -> None:
        """`definitions` are rules as in sievelib; by default `RULES`."""
        super().__init__(RULES if definitions is None else definitions)
        self.comments: list[tuple[int, bytes]] = []
        """The comments to the end of their line that the last script has, with where they begin."""
        self.regexp = re.compile(self.regexpString, re.DOTALL)

    def scan(self, text: bytes) -> Iterator[tuple[str, bytes]]:
        """Names and octets of the tokens, as sievelib's scanner yields them; leaves out what is none."""
        self.text = text
        self.pos = 0
        for token in self.tokens(text, lambda start, end, code, message: None):
            if token.kind not in ("error", "end"):
                self.pos = token.start
                octets = text[token.start : token.end]
                name = next((name for name, kind in _KINDS.items() if kind == token.kind), token.kind)
                yield ("multiline" if name == "string" and octets[:1] != b'"' else name, octets)
        self.pos = len(text)

    def tokens(self, text: bytes, report: Report) -> list[Token]:
        """All tokens without blanks and comments, the last of kind "end"."""
        found: list[Token] = []
        self.comments = []
        add = found.append
        match = self.regexp.match
        position = 0
        size = len(text)
        while position < size:
            token = match(text, position)
            if token is None:
                position = self._stray(text, position, add, report)
                continue
            end = token.end()
            kind = str(token.lastgroup)
            if kind == "identifier" or kind == "tag":
                start = position + (kind == "tag")
                if end - start > limits.IDENTIFIER:
                    name = text[start : start + 29].decode("ascii")
                    report(
                        position, end, "long-identifier", f"encountered impossibly long {kind} '{name}...'"
                    )
                    # It stays in its place, so that this is the only error about it.
                    add(Token("error", "identifier", position, end))
                else:
                    add(Token(kind, text[start:end].decode("ascii"), position, end))
            elif kind == "string":
                add(self._string(text, position + 1, end - 1, position, end, report))
            elif kind in _KINDS:
                add(Token(_KINDS[kind], text[position:end].decode("ascii"), position, end))
            elif kind == "number":
                add(_number(text[position:end], position, end, report))
            elif kind == "multiline":
                add(self._multiline(text, position, end, report))
            elif kind == "hash_comment":
                self.comments.append((position, text[position:end].rstrip(b"\r")))
            if "comment" in kind and b"\0" in text[position:end]:
                report(position, end, "nul", "encountered NUL character in comment")
            position = end
        add(Token("end", "", size, size))
        return found

    def _string(self, text: bytes, first: int, last: int, start: int, end: int, report: Report) -> Token:
        content = _text(text[first:last], start, end, report)
        return Token("string", _escaped.sub(r"\1", content) if "\\" in content else content, start, end)

    def _multiline(self, text: bytes, start: int, end: int, report: Report) -> Token:
        first = text.index(b"\n", start) + 1
        content = _text(text[first : text.rindex(b".", first, end)], start, end, report)
        # Only of two dots is one taken away (RFC 5228 section 8.1, multiline-dotstart).
        if content.startswith(".."):
            content = content[1:]
        return Token("string", content.replace("\n..", "\n."), start, end)

    def _stray(self, text: bytes, position: int, add: Callable[[Token], None], report: Report) -> int:
        """Report what begins no token; where to go on."""
        rest = text[position : position + 6]
        size = len(text)
        if rest[:1] == b'"':
            report(position, size, "open-string", "end of file before end of quoted string started here")
        elif rest[:2] == b"/*":
            report(position, size, "open-comment", "end of file before end of bracket comment ('/* ... */')")
        elif rest[:5].lower() == b"text:":
            head = _multiline_head(text, position)
            if head is not None:
                report(position, size, "open-string", "end of file before end of multi-line string")
            else:
                return self._bad_head(text, position, add, report)
        elif rest[:1] == b"\0":
            report(position, position + 1, "nul", "encountered NUL character")
            add(Token("error", "nul", position, position + 1))
            return position + 1
        else:
            known = _known(text, position + 1)
            end = known.start() if known else size
            shown = text[position:end].decode("utf-8", "replace")[:1]
            report(position, end, "bad-character", f"unexpected character(s) starting with '{shown}'")
            add(Token("error", "unknown characters", position, end))
            return end
        add(Token("error", "open", position, size))
        return size

    def _bad_head(self, text: bytes, position: int, add: Callable[[Token], None], report: Report) -> int:
        place = position + 5
        while text[place : place + 1] in (b" ", b"\t"):
            place += 1
        shown = text[place : place + 1].decode("utf-8", "replace")
        if shown:
            report(
                position, place + 1, "bad-multiline",
                f"invalid character '{shown}' after 'text:' in multi-line string",
            )  # fmt: skip
        else:
            report(position, place, "open-string", "end of file after 'text:'")
        # Go on behind the string as it was meant, so that its lines are not read as commands.
        closed = _multiline_end(text, place)
        end = closed.end() if closed else len(text)
        add(Token("error", "multi-line string", position, end))
        return end


def _text(octets: bytes, start: int, end: int, report: Report) -> str:
    """The content of a string, checked."""
    if len(octets) > limits.STRING_OCTETS:
        report(start, end, "long-string", f"string is too long (longer than {limits.STRING_OCTETS} bytes)")
        return ""
    if b"\0" in octets:
        report(start, end, "nul", "encountered NUL character in string")
        return ""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        report(start, end, "not-utf8", "string is not valid UTF-8")
        return octets.decode("utf-8", "replace")
    # Line ends in values are CRLF, whichever way the script's file is kept (RFC 5228 section 2.2).
    return text.replace("\r\n", "\n").replace("\n", "\r\n") if "\n" in text else text


def _number(octets: bytes, start: int, end: int, report: Report) -> Token:
    scale = _SCALE.get(octets[-1:].upper(), 0)
    digits = octets[:-1] if scale else octets
    digits = digits.lstrip(b"0")
    value = int(digits or b"0") << scale if len(digits) <= 20 else limits.NUMBER + 1
    if value > limits.NUMBER:
        report(start, end, "large-number", f"number exceeds integer limits (max {limits.NUMBER})")
        value = limits.NUMBER
    return Token("number", value, start, end)
