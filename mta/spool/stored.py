"""A queued message as a transport sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mailqueue.store.base import Blob
from mta.content import AbandonedError, MessageBuffer


class Tail:
    """The octets of a message from an offset on, as the queue takes a body (`mailqueue.store.base.Blob`)."""

    __slots__ = ("_content", "_offset", "size")

    def __init__(self, content: MessageBuffer, offset: int) -> None:
        """`offset` is where the body begins; the content must live until the queue has taken it."""
        self._content = content
        self._offset = offset
        self.size = content.size - offset

    def chunks(self) -> Iterator[bytes]:
        """All octets in order. Raises SpillError."""
        position, end = self._offset, self._content.size
        while position < end:
            chunk = self._content.read(position, TAIL_CHUNK)
            if not chunk:
                return
            position += len(chunk)
            yield chunk


TAIL_CHUNK = 256 * 1024
"""Octets of a large body that are read at a time."""
IN_MEMORY = 256 * 1024
"""Octets of a message that is put together in memory to be sent."""


class Stored:
    """Header and body of a queued message (`mta.content.Content`)."""

    __slots__ = ("_may_deliver", "body", "has_8bit", "head", "plain", "size")

    def __init__(
        self,
        header: bytes,
        body: Blob,
        *,
        has_8bit: bool,
        plain: bool,
        may_deliver: Callable[[], bool],
    ) -> None:
        """`may_deliver` is asked before each piece: False when the message may be somebody else's by now."""
        self.size = len(header) + body.size
        self.has_8bit = has_8bit
        self.plain = plain
        self.head = header
        """The first octets, with all header fields; all octets of a small message."""
        self.body = body
        """The octets after the header block."""
        self._may_deliver = may_deliver
        if self.size <= IN_MEMORY:
            self.head = b"".join((header, *body.chunks()))

    def is_wanted(self) -> bool:
        """False when another node may have taken the message over."""
        return self._may_deliver()

    def chunks(self) -> Iterator[bytes]:
        """All octets in order. Raises AbandonedError and what the body raises."""
        self._check()
        yield self.head
        if self.size > IN_MEMORY:
            for chunk in self.body.chunks():
                self._check()
                yield chunk

    def _check(self) -> None:
        if not self._may_deliver():
            raise AbandonedError("another node may have taken the message over")
