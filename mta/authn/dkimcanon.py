"""Canonicalisation of DKIM (RFC 6376 section 3.4), in linear time and in one pass.

`relaxed_field` and `simple_field` write a header field as it is hashed. `SimpleBody` and `RelaxedBody` take a
body in pieces of any size, as octets with CRLF line ends, and pass on its canonical form in pieces: what the
next piece may still change (blanks, CR, empty lines at the end) is kept as a number, never as octets, so a
body of blanks or of empty lines costs neither memory nor more than linear time.

A bare CR or LF is an octet like any other in a body; in a header field a bare LF that folds it counts as
CRLF.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sieve_ext.message import Field

BLOCK = 64 * 1024
"""Octets that are worked on at a time: what a thread holds the interpreter for, about 50 us."""
_EMPTY_LINES = b"\r\n" * (BLOCK // 2)

_WSP = " \t"

_blanks_text = re.compile(r"[ \t]+").sub
_blanks = re.compile(rb"[ \t]+").sub

Sink = Callable[[bytes], object]


def relaxed_field(field: Field) -> bytes:
    """A header field with its CRLF in the "relaxed" form (section 3.4.2)."""
    return relaxed_text(field.line).encode("latin-1")


def relaxed_text(line: str) -> str:
    """`relaxed_field` of a whole field in Latin-1, with or without its line end."""
    name, _, value = line.partition(":")
    if "\n" in value:
        value = value.replace("\r\n", "").replace("\n", "")
    value = value.removesuffix("\r")
    if "\t" in value or "  " in value:
        value = _blanks_text(" ", value)
    return f"{name.rstrip(_WSP).lower()}:{value.strip(_WSP)}\r\n"


def simple_field(field: Field) -> bytes:
    """A header field with its CRLF in the "simple" form: as it is (section 3.4.1)."""
    return field.line.removesuffix("\r").encode("latin-1") + b"\r\n"


class SimpleBody:
    """A body in the "simple" form: without empty lines at its end (section 3.4.3)."""

    __slots__ = ("_cr", "_empty", "_sink", "size")

    relaxed = False

    def __init__(self, sink: Sink) -> None:
        """`sink` is given the canonical octets."""
        self._sink = sink
        self._cr = False
        # CRLFs that are passed on only if something follows.
        self._empty = 0
        self.size = 0
        """Octets passed on so far."""

    def update(self, chunk: bytes) -> None:
        """Take the next octets of the body."""
        if len(chunk) <= BLOCK:
            self._block(chunk)
            return
        for start in range(0, len(chunk), BLOCK):
            self._block(chunk[start : start + BLOCK])

    def finish(self) -> None:
        """The body has ended."""
        if self._cr:
            self._cr = False
            self._text(b"\r")
        self._end()

    def _end(self) -> None:
        self._pass(b"\r\n")

    def _block(self, data: bytes) -> None:
        if self._cr:
            data = b"\r" + data
        self._cr = data.endswith(b"\r")
        if self._cr:
            data = data[:-1]
        self._text(data)

    def _text(self, data: bytes) -> None:
        """Pass on text that does not end within a line end, and keep the line ends at its end."""
        text = data.rstrip(b"\r\n")
        lines = 0
        if len(text) != len(data):
            lines = _line_ends(data[len(text) :])
            text = data[: len(data) - 2 * lines]
        if text:
            while self._empty:
                count = min(self._empty, BLOCK // 2)
                self._pass(_EMPTY_LINES[: 2 * count])
                self._empty -= count
            self._pass(text)
        self._empty += lines

    def _pass(self, octets: bytes) -> None:
        self.size += len(octets)
        self._sink(octets)


class RelaxedBody(SimpleBody):
    """A body in the "relaxed" form: runs of blanks are one, none at the end of lines (section 3.4.4)."""

    __slots__ = ("_blank",)

    relaxed = True

    def __init__(self, sink: Sink) -> None:
        """`sink` is given the canonical octets."""
        SimpleBody.__init__(self, sink)
        # Blanks before what comes next, or before `_cr`.
        self._blank = False

    def finish(self) -> None:
        """The body has ended."""
        if self._cr:
            self._cr = False
            self._text(b" \r" if self._blank else b"\r")
        self._end()

    def _end(self) -> None:
        # The empty body stays empty here, and blanks at the end of a last line without CRLF are dropped.
        if self.size:
            self._pass(b"\r\n")

    def _block(self, data: bytes) -> None:
        if self._cr:
            data = b"\r" + data
        if self._blank:
            data = b" " + data
        self._cr = data.endswith(b"\r")
        if self._cr:
            data = data[:-1]
        text = data.rstrip(b" \t")
        self._blank = len(text) != len(data)
        if b"\t" in text or b"  " in text:
            text = _blanks(b" ", text)
        if b" \r\n" in text:
            text = text.replace(b" \r\n", b"\r\n")
        self._text(text)


def _line_ends(tail: bytes) -> int:
    """How many CRLFs stand at the end of octets that are all CR or LF."""
    if tail.endswith(b"\r"):
        return 0
    start = max(tail.rfind(b"\n\n"), tail.rfind(b"\r\r")) + 1
    if tail[start : start + 1] == b"\n":
        start += 1
    return (len(tail) - start) // 2
