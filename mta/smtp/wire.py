"""Octets to messages: end-of-data detection, dot-unstuffing and line-end checks (RFC 5321 section 4.5.2).

Only CRLF "." CRLF ends a message, whatever stands around the dot: a bare CR or LF never counts as a line
end, so two servers can never disagree about where our message ends ("SMTP smuggling"). What happens to a
message with bare line ends or NUL is the caller's choice: the decoders report them in `defect`, or
normalise them.

The decoders are streaming and linear: each octet is looked at a fixed number of times by `bytes` methods
and RE2 (whose literal scan is some seven times faster than `bytes.find` for a needle that starts on every
line), at most four octets are held back between two chunks.
"""

from __future__ import annotations

from enum import Enum

import re2

_OCTETS = re2.Options()
_OCTETS.encoding = re2.Options.Encoding.LATIN1

END_OF_DATA = b"\r\n.\r\n"
_LINE_WITH_DOT = re2.compile(rb"\r\n\.", _OCTETS)
_BARE_CR = re2.compile(rb"\r[^\n]", _OCTETS)


class Defect(Enum):
    """What is wrong with the octets of a message."""

    NONE = ""
    BARE_LINE_END = "bare CR or LF"
    NUL = "NUL octet"


class TextCheck:
    """Finds bare CR, bare LF and NUL in text that comes in chunks, or mends them."""

    __slots__ = ("_held", "defect", "normalise", "strip_nul")

    def __init__(self, *, normalise: bool = False, strip_nul: bool = False) -> None:
        """`normalise` turns bare CR and LF into CRLF, `strip_nul` removes NUL, instead of reporting them."""
        self.normalise = normalise
        self.strip_nul = strip_nul
        self.defect = Defect.NONE
        self._held = b""

    def check(self, chunk: bytes) -> bytes:
        """Check octets of which no CRLF is cut off at the end; returns them, normalised when asked for."""
        # Each CR is followed by LF and there are as many LF: then each LF follows a CR, too.
        if (
            chunk.count(b"\n") != chunk.count(b"\r")
            or _BARE_CR.search(chunk) is not None
            or chunk.endswith(b"\r")
        ):
            if self.normalise:
                chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
            elif self.defect is Defect.NONE:
                self.defect = Defect.BARE_LINE_END
        if b"\0" in chunk:  # after the line ends: CR NUL LF was none
            if self.strip_nul:
                chunk = chunk.replace(b"\0", b"")
            else:
                self.defect = Defect.NUL
        return chunk

    def feed(self, chunk: bytes) -> bytes:
        """Check a chunk cut anywhere: a CR at its end is held back until the next one."""
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        if chunk.endswith(b"\r"):
            self._held = b"\r"
            chunk = chunk[:-1]
        return self.check(chunk)

    def finish(self) -> bytes:
        """The octets still held back, checked."""
        held, self._held = self._held, b""
        return self.check(held)


class DataDecoder:
    """Decodes what follows DATA: message octets until CRLF "." CRLF.

    `feed` returns the decoded octets; `done` tells that the end was seen and `rest` holds what follows.
    """

    __slots__ = ("_held", "_skip", "_text", "done", "rest")

    def __init__(self, text: TextCheck) -> None:
        """`text` looks at every octet of the message."""
        self._text = text
        # The CRLF of the DATA command counts as the one before a first dot (RFC 5321 section 4.1.1.4).
        self._held = b"\r\n"
        self._skip = 2
        self.done = False
        self.rest = b""

    @property
    def defect(self) -> Defect:
        """What is wrong with the octets so far."""
        return self._text.defect

    def feed(self, chunk: bytes) -> bytes:
        """Decode a chunk cut anywhere."""
        data = self._held + chunk
        first = _LINE_WITH_DOT.search(data)
        dotted = first is not None
        end = -1 if first is None else data.find(END_OF_DATA, first.start())
        if end >= 0:
            self.done = True
            self._held = b""
            self.rest = data[end + 5 :]
            data = data[: end + 2]
            dotted = first is not None and first.start() < end
        else:
            keep = _end_of_data_prefix(data)
            self._held = data[len(data) - keep :]
            data = data[: len(data) - keep]
        if not data:
            return b""
        if dotted:  # before the check: a normalised line end makes no line that was stuffed
            data = data.replace(b"\r\n.", b"\r\n")
        data = self._text.check(data)
        if self._skip:
            data = data[2:]
            self._skip = 0
        return data


def _end_of_data_prefix(data: bytes) -> int:
    """How many octets at the end of `data` may be the start of an end-of-data sequence."""
    last = data[-1:]
    if last == b"\r":
        return 4 if data.endswith(b"\r\n.\r") else 1
    if last == b"\n":
        return 2 if data.endswith(b"\r\n") else 0
    if last == b".":
        return 3 if data.endswith(b"\r\n.") else 0
    return 0
