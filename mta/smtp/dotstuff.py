"""Transparency of message octets after DATA (RFC 5321 section 4.5.2), chunk by chunk.

`DotStuffer` doubles a dot at the start of a line and ends the message with CRLF.CRLF, adding the CRLF that
a message without a last line end lacks. Work is linear, done by `bytes` methods, and a chunk without such a
dot is passed on without a copy. Chunks may be cut anywhere, inside a CRLF too.

What it sends can only be read in one way: a bare CR or LF, which some servers take for a line end and
others do not (the ground of message smuggling), raises `BareLineEnd` before its chunk is sent. Messages
that came in through the server side never have one; this guards against what an edit put there.
`LineEnds` is the same check for BDAT (RFC 3030), where nothing is stuffed.
"""

from __future__ import annotations

import re2

_LF = 10
_CR = 13
_DOT = 46
_OCTETS = re2.Options()
_OCTETS.encoding = re2.Options.Encoding.LATIN1
_LINE_WITH_DOT = re2.compile(rb"\n\.", _OCTETS)
"""Some times faster than `bytes.find` with a needle that every line has the start of."""
_NO_LINE_END = b"  "
"""What takes the place of each CRLF to see whether a CR or LF is left. It has the same size, so places stay
and nothing is moved."""


class BareLineEnd(Exception):
    """The message has a CR or LF that is not part of a CRLF: it must not be sent as text."""


class LineEnds:
    """Checks that every CR and LF of a stream belongs to a CRLF."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = _LF
        """The octet before the next chunk; LF at the start, which is the start of a line."""

    def check(self, chunk: bytes) -> None:
        """Look at the next octets. Raises BareLineEnd."""
        if not chunk:
            return
        start = 0
        if self.last == _CR:
            if chunk[0] != _LF:
                raise BareLineEnd("CR without LF")
            start = 1
        self.last = chunk[-1]
        end = len(chunk) - (self.last == _CR)  # whether the LF of a last CR follows is seen in the next chunk
        rest = chunk.replace(b"\r\n", _NO_LINE_END)
        if rest.find(b"\n", start) >= 0 or rest.find(b"\r", 0, end) >= 0:
            raise BareLineEnd("CR or LF outside of CRLF")

    def end(self) -> None:
        """The stream is complete. Raises BareLineEnd when it ends with a CR."""
        if self.last == _CR:
            raise BareLineEnd("CR at the end of the message")


class DotStuffer:
    """Stuffs one message."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends = LineEnds()

    def stuff(self, chunk: bytes) -> bytes:
        """The next octets as they are sent, the same object when nothing was to do. Raises BareLineEnd."""
        ends = self._ends
        at_line_start = ends.last == _LF
        ends.check(chunk)
        stuffed = chunk if _LINE_WITH_DOT.search(chunk) is None else chunk.replace(b"\n.", b"\n..")
        if at_line_start and chunk and chunk[0] == _DOT:
            return b"." + stuffed
        return stuffed

    def finish(self) -> bytes:
        """What ends the message: the dot, with a CRLF before it if one is missing. Raises BareLineEnd."""
        self._ends.end()
        return b".\r\n" if self._ends.last == _LF else b"\r\n.\r\n"


class PlainText:
    """Passes on a message that is known to need no stuffing, and ends it."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = b""

    def stuff(self, chunk: bytes) -> bytes:
        """The same octets."""
        self._end = chunk[-2:] if len(chunk) > 1 else (self._end + chunk)[-2:]
        return chunk

    def finish(self) -> bytes:
        """What ends the message: the dot, with a CRLF before it if one is missing."""
        return b".\r\n" if self._end in (b"", b"\r\n") else b"\r\n.\r\n"


def plain_whole(content: bytes) -> bytes:
    """A whole message that needs no stuffing, and its end."""
    return content + (b".\r\n" if content.endswith(b"\r\n") or not content else b"\r\n.\r\n")


def stuff_whole(content: bytes) -> bytes:
    """A whole message with dots stuffed and its end. Raises BareLineEnd."""
    stuffer = DotStuffer()
    stuffed = stuffer.stuff(content)
    return stuffed + stuffer.finish()
