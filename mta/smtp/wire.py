"""Octets to messages: end-of-data detection, dot-unstuffing and line-end checks (RFC 5321 section 4.5.2).

Only CRLF "." CRLF ends a message, whatever stands around the dot: a bare CR or LF never counts as a line
end, so two servers can never disagree about where our message ends ("SMTP smuggling"). What happens to a
message with bare line ends or NUL is the caller's choice: the decoders report them in `defect`, or
normalise them.

The decoders are streaming and linear: each octet is looked at a fixed number of times by `bytes` methods, at
most four octets are held back between two chunks. Counting single octets, as simple as it looks, is none of
them: `bytes.count` goes from octet to octet and costs as much as all else together.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

END_OF_DATA = b"\r\n.\r\n"
_DOT = b"\r\n."
"""A line that begins with a dot."""
_NO_LINE_END = b"  "
"""What takes the place of each CRLF to see whether a CR or LF is left. It has the same size, so places stay
and nothing is moved."""


class Defect(Enum):
    """What is wrong with the octets of a message."""

    BARE_LINE_END = "bare CR or LF"
    NUL = "NUL octet"


class TextCheck(Struct, eq=False):
    """Finds bare CR, bare LF and NUL in text that comes in chunks, or mends them."""

    normalise: bool = False
    """Turn bare CR and LF into CRLF instead of reporting them."""
    strip_nul: bool = False
    """Remove NUL instead of reporting it."""
    defect: Defect | None = None
    """What was found."""
    _held: bytes = b""

    def check(self, chunk: bytes) -> bytes:
        """Check octets of which no CRLF is cut off at the end; returns them, normalised when asked for."""
        rest = chunk.replace(b"\r\n", _NO_LINE_END)
        if rest.find(b"\n") >= 0 or rest.find(b"\r") >= 0:
            if self.normalise:
                chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
            elif self.defect is None:
                self.defect = Defect.BARE_LINE_END
        if chunk.find(b"\0") >= 0:  # after the line ends: CR NUL LF was none
            if self.strip_nul:
                chunk = chunk.replace(b"\0", b"")
            else:
                self.defect = Defect.NUL
        return chunk

    def is_sound(self, data: bytes, end: int) -> bool:
        """True when `data` up to `end`, where no CRLF is cut in two, needs no mending."""
        rest = data.replace(b"\r\n", _NO_LINE_END)
        find = rest.find
        return find(b"\n", 0, end) < 0 and find(b"\r", 0, end) < 0 and find(b"\0", 0, end) < 0

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

    __slots__ = ("_held", "_skip", "done", "plain", "rest", "text")

    def __init__(self, text: TextCheck) -> None:
        """`text` looks at every octet of the message."""
        self.text = text
        # The CRLF of the DATA command counts as the one before a first dot (RFC 5321 section 4.1.1.4).
        self._held = b"\r\n"
        self._skip = 2
        self.done = False
        self.plain = True
        """False once a line began with a dot or an octet was wrong: such a message cannot be sent on as it
        came."""
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Decode a chunk cut anywhere."""
        data = self._held + chunk
        at = data.find(_DOT)
        if at >= 0 and data.startswith(END_OF_DATA, at):
            end = at + 2
            self._end(data, end)
        elif at < 0 or END_OF_DATA.startswith(data[at:]):  # nothing special yet
            end = len(data) - _end_of_data_prefix(data)
            self._held = data[end:]
        else:
            return self._feed_special(data)
        if not end:
            return b""
        skip, self._skip = self._skip, 0
        if self.text.is_sound(data, end):
            return data[skip:end]
        self.plain = False
        return self.text.check(data[:end])[skip:]

    def _feed_special(self, data: bytes) -> bytes:
        """Decode octets among which a line begins with a dot."""
        self.plain = False
        end = data.find(END_OF_DATA)
        if end >= 0:
            end += 2
            self._end(data, end)
        else:
            end = len(data) - _end_of_data_prefix(data)
            self._held = data[end:]
        if not end:
            return b""
        skip, self._skip = self._skip, 0
        # Unstuffed before the check: a normalised line end makes no line that was stuffed.
        return self.text.check(data[:end].replace(b"\r\n.", b"\r\n"))[skip:]

    def _end(self, data: bytes, end: int) -> None:
        self.done = True
        self._held = b""
        self.rest = data[end + 3 :]


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
