"""A message: its header fields, its body, its edits, and the octets that come out.

`Message` is made from the first octets of a message, its size and a way to read all of it again; it keeps
none of the body. The header is indexed once (`sieve_ext.message.index`), everything else happens when it is
asked for: decoding of a field, MIME structure, reading of the body.

Edits are an overlay over the original octets: fields are added, changed and deleted, the body is replaced,
and every look-up sees the edited message at once, while `original_size` and the octets as received stay.
Positions and numbers follow the header as it stands after the edits before: what was deleted is not counted
(so do Postfix and RFC 5293 section 5). A `snapshot` is a message of its own that starts from the edits so
far. `chunks` yields the edited message; an unedited one comes out octet for octet, by way of the very
objects that went in.

Nothing here raises because of what a message contains. What the reader `chunks` raises (a failing disk)
passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sieve_ext.message import limits
from sieve_ext.message.edits import EditableHeader
from sieve_ext.message.header import Header
from sieve_ext.message.index import HeaderIndex
from sieve_ext.message.mime import Structure, read_structure


class Message(EditableHeader):
    """One message (RFC 5322), edited or not."""

    __slots__ = (
        "_body",
        "_body_size",
        "_chunks",
        "_cut",
        "_has_8bit",
        "_head",
        "_original_size",
        "_read",
        "_structure",
    )

    def __init__(
        self,
        head: bytes,
        size: int | None = None,
        chunks: Callable[[], Iterator[bytes]] | None = None,
        *,
        has_8bit: bool | None = None,
        read: Callable[[int, int], bytes] | None = None,
    ) -> None:
        """`head` is the start of the message, with its whole header section.

        `size` is the octets of the message, by default those of `head`. `chunks` gives all octets of the
        message from the first, each time that it is called; it may be None when `head` is all. `has_8bit`
        says whether an octet over 127 occurs, if that is known. `read(offset, count)` gives octets from the
        middle; without it each part of a large message is reached by reading all that stands before it.
        """
        index = HeaderIndex(head)
        if size is None:
            size = len(head)
        self._cut = False
        if size > len(head) and index.body_offset == index.header_end and not head.startswith((b" ", b"\t")):
            # The header goes on beyond `head`. Its last field may, too: it is left to the body, whole.
            self._cut = True
            if index.lines:
                index = HeaderIndex(head[: index.offsets[-1]])
        EditableHeader.__init__(self, index)
        self._head = head
        self._original_size = size
        self._chunks = chunks
        self._has_8bit = has_8bit
        self._read = read
        self._structure: Structure | None = None
        self._body: Callable[[], Iterator[bytes]] | None = None
        self._body_size = -1

    # What was received, measured

    @property
    def original_size(self) -> int:
        """Octets of the message as received."""
        return self._original_size

    @property
    def original_header_size(self) -> int:
        """Octets of the header section as received, without the empty line."""
        return self._index.header_end

    @property
    def body_offset(self) -> int:
        """Where the body begins in the message as received."""
        return self._index.body_offset

    @property
    def has_header_end(self) -> bool:
        """False when no empty line was found in `head`: there is no body, or the header is longer than it.

        In the second case the last field that begins in `head` and what follows it count as the body.
        """
        return self._index.body_offset > self._index.header_end

    @property
    def begins_folded(self) -> bool:
        """True when the first line begins with white space: there is no header, and no empty line.

        Fields must not simply be put in front of such a message, for its first line would continue the
        last of them. `chunks` puts an empty line between.
        """
        return self._head.startswith((b" ", b"\t"))

    @property
    def is_header_cut(self) -> bool:
        """True when the header section goes on beyond the `head` that was given."""
        return self._cut

    @property
    def longest_line(self) -> int:
        """Octets of the longest line of the header as received, without its line end."""
        return self._index.longest_line

    @property
    def malformed_fields(self) -> int:
        """Lines of the header as received that are no field: no colon, or nothing before it."""
        return self._index.malformed

    @property
    def has_long_header(self) -> bool:
        """True when the header is over `limits.HEADER_OCTETS`, or not wholly in `head`."""
        return self._cut or self._index.header_end > limits.HEADER_OCTETS

    @property
    def has_many_fields(self) -> bool:
        """True over `limits.HEADER_FIELDS`."""
        return len(self._index.lines) > limits.HEADER_FIELDS

    @property
    def has_long_line(self) -> bool:
        """True when a line of the header is over `limits.LINE_OCTETS`."""
        return self._index.longest_line > limits.LINE_OCTETS

    # Edits of the body

    @property
    def is_edited(self) -> bool:
        """True when an edit was made."""
        return self._order is not None or self._body is not None

    def replace_body(self, body: bytes | Callable[[], Iterator[bytes]], size: int | None = None) -> None:
        """Give the message another body: octets, or a reader of `size` octets like that of the constructor.

        Raises ValueError for a reader without size.
        """
        if isinstance(body, bytes):
            octets = body
            self._body = lambda: iter((octets,) if octets else ())
            self._body_size = len(octets)
        elif size is None:
            raise ValueError("a body to be read needs its size")
        else:
            self._body = body
            self._body_size = size
        self._structure = None

    def snapshot(self) -> Message:
        """A message with the edits so far, independent of edits to come; body and index are shared."""
        copy = object.__new__(Message)
        for kind in (Header, EditableHeader, Message):
            for name in kind.__slots__:
                setattr(copy, name, getattr(self, name))
        if self._order is not None:
            copy._order = list(self._order)
            copy._lines = list(self._lines)
            copy._by_name = dict(self._by_name)
            self._shared = set(self._by_name)
            copy._shared = set(self._by_name)
        copy._fields = list(self._fields)
        return copy

    def original(self) -> Message:
        """The message as received, without any edits."""
        if not self.is_edited:
            return self
        return Message(
            self._head, self._original_size, self._chunks, has_8bit=self._has_8bit, read=self._read
        )

    # MIME

    def _edit(self, key: str) -> list[int]:
        if key.startswith("content-"):
            self._structure = None
        return EditableHeader._edit(self, key)

    @property
    def structure(self) -> Structure:
        """The parts of the message as it stands; found when first asked for, see `sieve_ext.message.mime`."""
        if self._structure is None:
            # Parts that knew this message would keep it, and its file, until the collector finds both.
            copy = self.snapshot()
            self._structure = read_structure(copy, self.body_size, copy._body_range)
        return self._structure

    def _body_range(self, start: int, end: int) -> Iterator[bytes]:
        if self._body is None:
            offset = self._index.body_offset
            if len(self._head) >= offset + end:
                yield self._head[offset + start : offset + end]
                return
            if self._read is not None:
                while start < end:
                    chunk = self._read(offset + start, min(end - start, limits.READ_OCTETS))
                    if not chunk:
                        return
                    start += len(chunk)
                    yield chunk
                return
        position = 0
        for chunk in self.body_chunks():
            if position + len(chunk) > start:
                yield chunk[max(start - position, 0) : end - position]
            position += len(chunk)
            if position >= end:
                return

    # Octets of the message as it stands

    def render_header(self) -> bytes:
        """The header section as it stands, without the empty line."""
        if self._order is None:
            return self._head[: self._index.header_end]
        return EditableHeader.render_header(self)

    @property
    def size(self) -> int:
        """Octets of the message as it stands."""
        if not self.is_edited:
            return self._original_size
        if self._order is None:
            header = self._index.header_end
        else:
            header = sum(len(line) + 1 for number in self._order if (line := self._lines[number]))
        return header + len(self._separator) + self.body_size

    @property
    def body_size(self) -> int:
        """Octets of the body as it stands."""
        return self._body_size if self._body is not None else self._original_size - self._index.body_offset

    @property
    def _separator(self) -> bytes:
        """The empty line between header and body as it stands, b"" when the message has and needs none."""
        separator = self._head[self._index.header_end : self._index.body_offset]
        if self.begins_folded or (self._body is not None and not separator.endswith(b"\n")):
            return b"\r\n"
        return separator

    @property
    def head(self) -> bytes:
        """The first octets as they stand with all header fields; all of a message up to `HEAD_OCTETS`."""
        if not self.is_edited and (
            len(self._head) >= self._original_size or self._original_size > limits.HEAD_OCTETS
        ):
            return self._head
        if self.size <= limits.HEAD_OCTETS:
            return b"".join(self.chunks())
        head = self.render_header() + self._separator
        return head if self._body is not None else head + self._head[self._index.body_offset :]

    def is_wanted(self) -> bool:
        """True: a message knows of no client that may have gone."""
        return True

    @property
    def plain(self) -> bool:
        """False: whether a line begins with a dot is not known here."""
        return False

    @property
    def has_8bit(self) -> bool:
        """True when an octet over 127 occurs; after edits also when one occurred before."""
        if self._has_8bit is None:
            self._has_8bit = not all(chunk.isascii() for chunk in self._original_chunks())
        if self._has_8bit or not self.is_edited:
            return self._has_8bit
        if not self.render_header().isascii():
            return True
        return self._body is not None and not all(chunk.isascii() for chunk in self._body())

    def chunks(self) -> Iterator[bytes]:
        """All octets as they stand, in order; a message that is all in `head` is one chunk."""
        if not self.is_edited:
            yield from self._original_chunks()
            return
        start = self.render_header() + self._separator
        if self._body is None and len(self._head) >= self._original_size:
            yield start + self._head[self._index.body_offset :]
            return
        yield start
        yield from self.body_chunks()

    def body_chunks(self) -> Iterator[bytes]:
        """The octets of the body as it stands, in order."""
        if self._body is not None:
            yield from self._body()
            return
        skip = self._index.body_offset
        for chunk in self._original_chunks():
            if skip >= len(chunk):
                skip -= len(chunk)
            elif skip:
                yield chunk[skip:]
                skip = 0
            else:
                yield chunk

    def _original_chunks(self) -> Iterator[bytes]:
        if self._chunks is not None and len(self._head) < self._original_size:
            return self._chunks()
        return iter((self._head,) if self._head else ())
