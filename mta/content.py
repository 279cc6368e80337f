"""The octets of a message: in memory up to 1 MiB, then in an unlinked temporary file.

`MessageBuffer` takes the chunks that the data decoder yields, keeps the head (where the header fields
are) in memory in any case and never holds more than one chunk of the rest once it has spilled.
`Rendered` is what a transport sends: new header fields in front of the original octets.

A full disk or a failing write raises `SpillError`: the transaction answers 452 4.3.1 and keeps nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct

MEMORY_LIMIT = 1024 * 1024
"""Octets of a message kept in memory before it goes to a temporary file."""
SMALL = 4096
"""Octets under which a chunk is put together with those after it."""
CHUNK = 64 * 1024
"""Octets read from the file at a time: a page-cache read well under a millisecond."""


class SpillError(Exception):
    """The temporary file could not be written or read (environment: disk full, I/O error)."""


class AbandonedError(SpillError):
    """The client has gone: what is on its way must not be completed."""


class Content(Protocol):
    """A complete message as octets with CRLF line ends."""

    @property
    def size(self) -> int:
        """Octets."""

    @property
    def has_8bit(self) -> bool:
        """True when an octet over 127 occurs."""

    @property
    def plain(self) -> bool:
        """True when no line begins with a dot and all line ends are CRLF; False when that is not known."""

    @property
    def head(self) -> bytes:
        """The first octets, with all header fields and at most `MEMORY_LIMIT` of them."""

    def is_wanted(self) -> bool:
        """False when the client has gone that the message came from: it must not be completed."""

    def chunks(self) -> Iterator[bytes]:
        """All octets in order, in pieces of any size; may be called again. Raises SpillError."""


class MessageBuffer:
    """Collects a message as it arrives."""

    __slots__ = ("_fd", "_pieces", "_spill_dir", "has_8bit", "plain", "size")

    def __init__(self, spill_dir: str | None = None) -> None:
        """`spill_dir` is the folder of temporary files, None for the system's."""
        # A message that arrives in one chunk stays that object; small chunks share a growing buffer, so that
        # there are never many pieces.
        self._pieces: list[bytes | bytearray] = []
        self._fd = -1
        self._spill_dir = spill_dir
        self.size = 0
        self.has_8bit = False
        self.plain = False
        """Set by who knows that no line begins with a dot and all line ends are CRLF."""

    def append(self, chunk: bytes) -> None:
        """Add octets at the end. Raises SpillError."""
        if not self.has_8bit and not chunk.isascii():
            self.has_8bit = True
        self.size += len(chunk)
        if self._fd >= 0:
            self._write(chunk)
            return
        pieces = self._pieces
        if not pieces or len(chunk) >= SMALL:
            pieces.append(chunk)
        elif isinstance(pieces[-1], bytearray):
            pieces[-1] += chunk
        else:
            pieces.append(bytearray(chunk))
        if self.size > MEMORY_LIMIT:
            self._spill()

    @property
    def head(self) -> bytes:
        """The octets kept in memory: all of a small message, the first `MEMORY_LIMIT` of a large one."""
        pieces = self._pieces
        if len(pieces) != 1:
            pieces[:] = [b"".join(pieces)]
        head = pieces[0]
        assert isinstance(head, bytes)  # a growing buffer is never the first piece
        return head

    @property
    def spilled(self) -> bool:
        """True when a temporary file is in use."""
        return self._fd >= 0

    def is_wanted(self) -> bool:
        """True: what is collected here knows of no client."""
        return True

    def chunks(self) -> Iterator[bytes]:
        """All octets in order."""
        if self._fd < 0:
            if self.size:
                yield self.head
            return
        position = 0
        while position < self.size:
            chunk = self.read(position, CHUNK)
            if not chunk:
                raise SpillError("a temporary file is shorter than what was written to it")
            position += len(chunk)
            yield chunk

    def read(self, offset: int, count: int) -> bytes:
        """`count` octets from `offset`, fewer at the end. Raises SpillError."""
        if self._fd < 0:
            return self.head[offset : offset + count]
        try:
            return os.pread(self._fd, count, offset)
        except OSError as error:
            raise SpillError(f"reading a temporary file: {error}") from error

    def close(self) -> None:
        """Free memory and file; the buffer is empty afterwards."""
        self._pieces.clear()
        self.size = 0
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _spill(self) -> None:
        try:
            self._fd = os.open(self._spill_dir or tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError:
            self._fd = self._named_spill()
        head = self.head
        self._write(head)
        self._pieces = [head[:MEMORY_LIMIT]]

    def _named_spill(self) -> int:
        # Some file systems have no O_TMPFILE.
        try:
            fd, path = tempfile.mkstemp(prefix="tamis-", dir=self._spill_dir)
            os.unlink(path)
        except OSError as error:
            raise SpillError(f"creating a temporary file: {error}") from error
        return fd

    def _write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            try:
                written = os.write(self._fd, view)
            except OSError as error:
                raise SpillError(f"writing a temporary file: {error}") from error
            view = view[written:]


class Rendered(Struct, eq=False):
    """A message with header fields put in front of it: what a transport sends.

    Before each piece, and before it hands out the only one of a small message, it asks whether the client is
    still there. When it is not, AbandonedError keeps the transport from ending the message: the client will
    send it again, and nobody must get it twice.
    """

    _prefix: bytes
    """Whole header fields, each with its CRLF."""
    _content: Content
    _alive: Callable[[], bool] = lambda: True

    @property
    def size(self) -> int:
        """Octets, prefix included."""
        return len(self._prefix) + self._content.size

    @property
    def has_8bit(self) -> bool:
        """True when an octet over 127 occurs."""
        return self._content.has_8bit or not self._prefix.isascii()

    @property
    def plain(self) -> bool:
        """That of the content: header fields never begin with a dot."""
        return self._content.plain

    @property
    def head(self) -> bytes:
        """The first octets, with all header fields."""
        return self._prefix + self._content.head

    def is_wanted(self) -> bool:
        """True while the client is there."""
        return self._alive()

    def chunks(self) -> Iterator[bytes]:
        """All octets in order; a small message is one chunk. Raises SpillError and AbandonedError."""
        self._check()
        head = self._content.head
        return iter((self._prefix + head,)) if self._content.size == len(head) else self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        yield self._prefix
        for chunk in self._content.chunks():
            self._check()
            yield chunk

    def _check(self) -> None:
        if not self.is_wanted():
            raise AbandonedError("the client has gone")
