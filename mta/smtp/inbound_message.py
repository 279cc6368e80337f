"""A message while it is being received: DATA (RFC 5321 section 4.1.1.4) and BDAT (RFC 3030).

A reader takes octets, gives back octets of the message, and knows when the chunk and the message are
complete and why the message cannot be accepted. A message that is too large or has bad octets is still
read to its end - the client listens only then - but nothing of it is kept once that is known.
"""

from __future__ import annotations

from typing import Protocol

from mta.reply import Reply
from mta.smtp.state import State
from mta.smtp.wire import DataDecoder, Defect, TextCheck

TOO_LARGE = Reply(552, "5.3.4", "message larger than this server accepts")
BARE_LINE_END = Reply(550, "5.6.0", "the message has CR or LF outside of a CR LF line end")
NUL_OCTET = Reply(550, "5.6.0", "the message has NUL octets")


class MessageLimits(Protocol):
    """What a reader needs of the session's settings."""

    @property
    def max_size(self) -> int:
        """Octets of a message."""

    @property
    def normalise_line_ends(self) -> bool:
        """Bare CR and LF become CRLF."""

    @property
    def strip_nul(self) -> bool:
        """NUL is removed; otherwise it is a reason to refuse."""


_DEFECTS = {None: None, Defect.NUL: NUL_OCTET, Defect.BARE_LINE_END: BARE_LINE_END}


class DataReader:
    """Reads the message after DATA."""

    __slots__ = ("_decoder", "_left", "chunk_size", "done", "problem", "rest", "swallowed")

    def __init__(self, limits: MessageLimits) -> None:
        self._decoder = DataDecoder(
            TextCheck(normalise=limits.normalise_line_ends, strip_nul=limits.strip_nul)
        )
        self._left = limits.max_size
        self.chunk_size = 0
        self.rest = b""
        self.done = False
        self.problem: Reply | None = None
        self.swallowed: tuple[Reply, State] | None = None

    @property
    def chunk_done(self) -> bool:
        """True when the end of data was seen."""
        return self.done

    @property
    def plain(self) -> bool:
        """True when no line begins with a dot and all octets are sound: it may be sent as it is."""
        return self._decoder.plain

    def feed(self, data: bytes) -> bytes:
        """Octets of the message out of `data`; after the end the rest is in `rest`."""
        decoder = self._decoder
        octets = decoder.feed(data)
        if decoder.done:
            self.done = True
            self.rest = decoder.rest
        if self.problem is None:
            self._left -= len(octets)
            self.problem = TOO_LARGE if self._left < 0 else _DEFECTS[decoder.text.defect]
        return octets if self.problem is None else b""

    def finish(self) -> bytes:
        """Octets held back at the end of the message: none, its end was CR LF."""
        return b""


SMALL_CHUNK = 512
"""Octets: a chunk below counts as a command that does nothing, for it costs us as much."""


class BdatReader:
    """Reads the chunks of a message sent with BDAT."""

    __slots__ = ("_last", "_left", "_remaining", "_text", "chunk_size", "problem", "rest", "swallowed")

    def __init__(self, limits: MessageLimits, *, binary: bool) -> None:
        """`binary` is True for BODY=BINARYMIME, which may hold any octets."""
        self._text = (
            None if binary else TextCheck(normalise=limits.normalise_line_ends, strip_nul=limits.strip_nul)
        )
        self._left = limits.max_size
        self._remaining = 0
        self._last = False
        self.chunk_size = 0
        self.rest = b""
        self.problem: Reply | None = None
        self.swallowed: tuple[Reply, State] | None = None

    @property
    def plain(self) -> bool:
        """False: nobody has looked at the beginnings of the lines."""
        return False

    @classmethod
    def swallow(cls, size: int, reply: Reply, state: State) -> BdatReader:
        """A reader that drops `size` octets, after which `reply` is sent and `state` entered."""
        reader = cls.__new__(cls)
        reader._text = None
        reader._left = 0
        reader._remaining = reader.chunk_size = size
        reader._last = False
        reader.rest = b""
        reader.problem = reply
        reader.swallowed = (reply, state)
        return reader

    @property
    def chunk_done(self) -> bool:
        """True when all octets of the chunk are read."""
        return self._remaining == 0

    @property
    def done(self) -> bool:
        """True when all octets of the last chunk are read."""
        return self._last and self._remaining == 0

    def begin_chunk(self, size: int, last: bool) -> None:
        """A BDAT command was read: `size` octets follow."""
        self._remaining = self.chunk_size = size
        self._last = last
        self._left -= size
        if self._left < 0 and self.problem is None:
            self.problem = TOO_LARGE

    def feed(self, data: bytes) -> bytes:
        """Octets of the message out of `data`; what follows the chunk is in `rest`."""
        if len(data) > self._remaining:
            self.rest = data[self._remaining :]
            data = data[: self._remaining]
        self._remaining -= len(data)
        if self._text is not None:
            data = self._text.feed(data)
            if self.problem is None:
                self.problem = _DEFECTS[self._text.defect]
        return data if self.problem is None else b""

    def finish(self) -> bytes:
        """Octets held back at the end of the message: a CR that turned out to be bare."""
        if self._text is None:
            return b""
        data = self._text.finish()
        if self.problem is None:
            self.problem = _DEFECTS[self._text.defect]
        return data if self.problem is None else b""


MessageReader = DataReader | BdatReader
