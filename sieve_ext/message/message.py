"""A message: its header fields, its body, its edits, and the octets that come out.

`Message` is made from the first octets of a message, its size and a way to read all of it again; it keeps
none of the body. The header is indexed once (`sieve_ext.message.index`), everything else happens when it is
asked for: decoding of a field, MIME structure, reading of the body.

Edits are an overlay over the original octets: fields are added, changed and deleted, the body replaced, and
every look-up sees the edited message at once, while `original_size` and the octets as received stay. A
`snapshot` is a message of its own that starts from the edits so far. `chunks` yields the edited message; an
unedited one comes out octet for octet, by way of the very objects that went in.

Nothing here raises because of what a message contains. What the reader `chunks` raises (a failing disk)
passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from sieve_ext.message import limits
from sieve_ext.message.field import Field, make_field, raw_field, split_raw_fields
from sieve_ext.message.index import HeaderIndex
from sieve_ext.message.overlay import Overlay


class Message:
    """One message (RFC 5322), edited or not."""

    __slots__ = (
        "_body",
        "_body_size",
        "_chunks",
        "_cut",
        "_fields",
        "_has_8bit",
        "_head",
        "_index",
        "_original_size",
        "_overlay",
    )

    def __init__(
        self,
        head: bytes,
        size: int | None = None,
        chunks: Callable[[], Iterator[bytes]] | None = None,
        *,
        has_8bit: bool | None = None,
    ) -> None:
        """`head` is the start of the message, with its whole header section.

        `size` is the octets of the message, by default those of `head`. `chunks` gives all octets of the
        message from the first, each time that it is called; it may be None when `head` is all. `has_8bit`
        says whether an octet over 127 occurs, if that is known.
        """
        self._head = head
        self._index = HeaderIndex(head)
        self._original_size = len(head) if size is None else size
        self._cut = False
        if self._original_size > len(head) and self._index.body_offset == self._index.header_end:
            # The header goes on beyond `head`. Its last field may, too: it is left to the body, whole.
            self._cut = True
            if self._index.lines:
                self._index = HeaderIndex(head[: self._index.offsets[-1]])
        self._chunks = chunks
        self._has_8bit = has_8bit
        self._fields: list[Field | None] | None = None
        self._overlay: Overlay | None = None
        self._body: Callable[[], Iterator[bytes]] | None = None
        self._body_size = -1

    # Fields

    @property
    def fields(self) -> list[Field]:
        """All fields in order, those without a name too."""
        if self._overlay is not None:
            return list(self._overlay)
        return [self._field(index) for index in range(len(self._index.lines))]

    @property
    def field_count(self) -> int:
        """How many fields there are."""
        return len(self._index.lines) if self._overlay is None else len(self._overlay)

    def __contains__(self, key: object) -> bool:
        """True when a field of the lower-case name `key` exists."""
        return isinstance(key, str) and self.count(key) > 0

    def keys(self) -> list[str]:
        """The lower-case names that occur, each once."""
        names = self._index.by_name if self._overlay is None else self._overlay.keys()
        return [name for name in names if name]

    def count(self, key: str) -> int:
        """How many fields have the lower-case name `key`."""
        if self._overlay is not None:
            return len(self._overlay.named(key))
        return len(self._index.by_name.get(key, ()))

    def get(self, key: str) -> Field | None:
        """The first field of the lower-case name `key`."""
        if self._overlay is not None:
            return next(iter(self._overlay.named(key)), None)
        places = self._index.by_name.get(key)
        return self._field(places[0]) if places else None

    def all(self, key: str) -> list[Field]:
        """The fields of the lower-case name `key` in order."""
        if self._overlay is not None:
            return self._overlay.named(key)
        return [self._field(place) for place in self._index.by_name.get(key, ())]

    def text(self, key: str) -> str | None:
        """The decoded value of the first field of the lower-case name `key`, None if there is none."""
        field = self.get(key)
        return None if field is None else field.text

    def offset(self, field: Field) -> int:
        """Where `field` begins in the message as received, in octets; -1 for one that an edit made."""
        return -1 if field.index < 0 else self._index.offsets[field.index]

    def _field(self, index: int) -> Field:
        if self._fields is None:
            self._fields = [None] * len(self._index.lines)
        field = self._fields[index]
        if field is None:
            field = self._fields[index] = Field(self._index.lines[index], index)
        return field

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

    # Edits

    @property
    def is_edited(self) -> bool:
        """True when an edit was made."""
        return self._overlay is not None or self._body is not None

    def insert_field(self, field: Field, position: int | None = 0) -> None:
        """Put `field` before the field at `position` (from 0, the top); None or too large: at the end."""
        self._edit().insert(field, position)

    def add(self, name: str, text: str, position: int | None = 0, *, utf8: bool = False) -> None:
        """Add a field from text; see `make_field`. Raises ValueError for a bad name."""
        self._edit().insert(make_field(name, text, utf8=utf8), position)

    def add_raw(
        self, name: str, value: bytes, position: int | None = None, *, separator: bytes = b" "
    ) -> None:
        """Add a field from octets (milter: add at the end, insert at `position`); see `raw_field`.

        `position` counts all fields from 0. Raises ValueError for a bad name.
        """
        self._edit().insert(raw_field(name, value, separator), position)

    def prepend(self, raw: bytes) -> None:
        """Put whole fields, with their line ends, in front. Raises ValueError if they are none."""
        overlay = self._edit()
        for field in reversed(split_raw_fields(raw)):
            overlay.insert(field, 0)

    def replace(
        self, name: str, number: int, value: bytes, *, separator: bytes = b" ", skip: int = 0
    ) -> bool:
        """Change the `number`-th field (from 1; 0 is taken as 1) of `name`, in any case, to octets `value`.

        The first `skip` fields of the header are not counted: a milter does not see the Received field
        that the MTA has put in front, so its numbers leave it out (its insert positions do not). False,
        and nothing is changed, when there is no such field; Postfix then adds the field at the end, and
        a caller that serves a milter should. Raises ValueError for a bad name.
        """
        return self._edit().replace(name.lower(), number, raw_field(name, value, separator), skip)

    def delete(self, name: str, number: int, *, skip: int = 0) -> bool:
        """Delete the `number`-th field of `name`, counted as in `replace`; False if there is none."""
        return self._edit().delete(name.lower(), number, skip)

    def remove(self, fields: Collection[Field]) -> int:
        """Delete these very fields, which `fields` or `all` gave; returns how many were there."""
        return self._edit().remove(fields) if fields else 0

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

    def snapshot(self) -> Message:
        """A message with the edits so far, independent of edits to come; body and index are shared."""
        copy = object.__new__(Message)
        for name in Message.__slots__:
            setattr(copy, name, getattr(self, name))
        if self._overlay is not None:
            copy._overlay = Overlay(self._overlay)
        return copy

    def _edit(self) -> Overlay:
        if self._overlay is None:
            fields: Iterable[Field] = self.fields
            lines = self._index.lines
            if lines and self._head[self._index.header_end - 1] != 10:
                # The last field lacks its line end, which it needs when another comes behind it.
                *most, last = fields
                fields = [*most, Field(lines[-1].removesuffix("\r") + "\r", last.index)]
            self._overlay = Overlay(fields)
        return self._overlay

    # Octets of the message as it stands

    def render_header(self) -> bytes:
        """The header section as it stands, without the empty line."""
        if self._overlay is None:
            return self._head[: self._index.header_end]
        return b"".join([field.raw for field in self._overlay])

    @property
    def size(self) -> int:
        """Octets of the message as it stands."""
        if not self.is_edited:
            return self._original_size
        header = self._index.header_end if self._overlay is None else sum(f.size for f in self._overlay)
        return header + len(self._separator) + self.body_size

    @property
    def body_size(self) -> int:
        """Octets of the body as it stands."""
        return self._body_size if self._body is not None else self._original_size - self._index.body_offset

    @property
    def _separator(self) -> bytes:
        """The empty line between header and body, b"" when the message has none."""
        separator = self._head[self._index.header_end : self._index.body_offset]
        return separator or (b"\r\n" if self._body is not None else b"")

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

    @property
    def has_8bit(self) -> bool:
        """True when an octet over 127 occurs; after edits also when one occurred before."""
        if self._has_8bit is None:
            self._has_8bit = not all(chunk.isascii() for chunk in self._original_chunks())
        if self._has_8bit or not self.is_edited:
            return self._has_8bit
        return not all(chunk.isascii() for chunk in self.chunks())

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
