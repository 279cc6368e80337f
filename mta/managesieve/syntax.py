"""What clients of ManageSieve write (RFC 5804 section 4): octets in, commands as lists of tokens out.

A command is a line of words, strings and numbers. A string is quoted, or a literal: its length at the end of
a line, then so many octets, then the rest of the line. The reader takes octets in any pieces. What is
wrong comes out as a `Mistake` in the place of the command; one after which nobody can say where the next
command begins is `fatal`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

MAX_LINE = 16384
"""Octets of a command without its literals: longer than the longest line of a SASL exchange (12288)."""
MAX_TOKENS = 8
"""Words and strings of a command; no command has more than three."""
MAX_SKIPPED = 64 * 1024 * 1024
"""Octets of a literal that is too large and is read all the same, so that the client hears why."""


@dataclass(slots=True, frozen=True)
class Word:
    """An atom: the name of a command."""

    text: str


@dataclass(slots=True, frozen=True)
class String:
    """A quoted string or a literal."""

    octets: bytes


@dataclass(slots=True, frozen=True)
class Number:
    """A number, less than 2^32."""

    value: int


Token: TypeAlias = Word | String | Number


@dataclass(slots=True, frozen=True)
class Command:
    """A command, or the answer to a challenge: what stood up to the end of the line."""

    tokens: tuple[Token, ...]


@dataclass(slots=True, frozen=True)
class Mistake:
    """What a client must not write."""

    text: str
    too_large: bool = False
    """A literal is larger than allowed."""
    fatal: bool = False
    """Where the next command begins cannot be known."""


_token = re.compile(
    rb'[ \t]*(?:"((?:[^"\\\r\n\0]|\\[^\r\n\0])*)"|\{([0-9]{1,20})(\+?)\}\Z'
    rb"|([0-9]+)(?![^ ])|([!#-'*-\[\]-z|-~]+))"
).match
"""A quoted string, a literal's head at the end of the line, a number, or a word."""
_escape = re.compile(rb"\\(.)", re.DOTALL)


class CommandReader:
    """Cuts what a client sends into commands."""

    def __init__(self, literal_octets: int) -> None:
        """`literal_octets` is the size of the largest literal; it may be changed at any time."""
        self.literal_octets = literal_octets
        self._buffer = bytearray()
        self._tokens: list[Token] = []
        self._line = 0
        self._wanted = -1
        self._skipping = 0
        self._mistake: Mistake | None = None
        self._scanned = 0

    @property
    def buffered(self) -> int:
        """Octets that wait to be read."""
        return len(self._buffer)

    @property
    def in_literal(self) -> bool:
        """True while octets of a literal are missing."""
        return self._wanted >= 0 or self._skipping > 0

    def feed(self, data: bytes) -> None:
        """Octets of the client."""
        self._buffer += data

    def clear(self) -> None:
        """Forget what was read: nothing that was sent in clear counts once there is TLS."""
        self._buffer.clear()
        self._begin()
        self._wanted = -1
        self._skipping = 0

    def next(self) -> Command | Mistake | None:
        """The next command, None when octets are missing."""
        while True:
            if self._skipping:
                dropped = min(self._skipping, len(self._buffer))
                del self._buffer[:dropped]
                self._skipping -= dropped
                if self._skipping:
                    return None
            if self._wanted >= 0:
                if len(self._buffer) < self._wanted:
                    return None
                self._tokens.append(String(bytes(self._buffer[: self._wanted])))
                del self._buffer[: self._wanted]
                self._wanted = -1
            end = self._buffer.find(b"\n", self._scanned)
            if end < 0:
                self._scanned = len(self._buffer)
                if self._line + len(self._buffer) > MAX_LINE:
                    return self._give_up(Mistake("the line is too long", fatal=True))
                return None
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            self._scanned = 0
            self._line += len(line)
            if self._line > MAX_LINE:
                return self._give_up(Mistake("the line is too long", fatal=True))
            found = self._read(line)
            if found is not None:
                return found

    def _read(self, line: bytes) -> Command | Mistake | None:
        """The command that ends with this line, None when a literal follows."""
        if not line.endswith(b"\r\n"):
            self._note("a line ends with CR LF")
            text = line[:-1]
        else:
            text = line[:-2]
        position = 0
        while text[position:].strip(b" \t"):
            match = _token(text, position)
            if match is None:
                self._note("what begins here is no string, number or word")
                break
            quoted, length, plus, digits, word = match.groups()
            position = match.end()
            if length is not None:
                return self._begin_literal(int(length), bool(plus))
            if len(self._tokens) >= MAX_TOKENS:
                self._note("the command has too many arguments")
                break
            if quoted is not None:
                self._tokens.append(String(_escape.sub(rb"\1", quoted)))
            elif digits is not None:
                if len(digits) > 10 or int(digits) > 0xFFFFFFFF:
                    self._note("the number is too large")
                else:
                    self._tokens.append(Number(int(digits)))
            else:
                self._tokens.append(Word(word.decode("ascii")))
            if position < len(text) and text[position] not in b" \t":
                self._note("a space is missing after a string")
        if self._mistake is not None and re.search(rb"\{[0-9]{1,20}\+?\}[ \t]*\Z", text[position:]):
            return self._give_up(Mistake(self._mistake.text, fatal=True))
        done = self._mistake or Command(tuple(self._tokens))
        self._begin()
        return done

    def _begin_literal(self, length: int, plus: bool) -> Mistake | None:
        if not plus:
            # The client will wait for a word of ours that ManageSieve does not have, or it sends at once.
            return self._give_up(Mistake("a literal of a client has a + after its length", fatal=True))
        if length > MAX_SKIPPED:
            return self._give_up(Mistake("the literal is too large", too_large=True, fatal=True))
        if length > self.literal_octets or len(self._tokens) >= MAX_TOKENS or self._mistake is not None:
            if self._mistake is None:
                too_large = length > self.literal_octets
                text = "the literal is too large" if too_large else "the command has too many arguments"
                self._mistake = Mistake(text, too_large=too_large)
            self._skipping = length
        else:
            self._wanted = length
        return None

    def _note(self, text: str) -> None:
        if self._mistake is None:
            self._mistake = Mistake(text)

    def _give_up(self, mistake: Mistake) -> Mistake:
        self.clear()
        return mistake

    def _begin(self) -> None:
        self._tokens = []
        self._line = 0
        self._mistake = None
        self._scanned = 0
