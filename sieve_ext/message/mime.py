"""The MIME structure of a message: its parts, where they are, what they say (RFC 2045, 2046, 2049).

`read_structure` walks once through the body, looking only for the boundaries that are open and for the
header sections of parts; it keeps offsets and those headers, never content. A `Part` reads its content when
asked to, chunk by chunk.

Boundaries are compared as RFC 2046 section 5.1.1 says: a line that begins with "--" and the boundary, of
several open ones the longest; alone on its line, that of an outer part ends all parts within. Broken
structure gives the parts that are there: without a closing line the last part goes to the end, a multipart
without boundary is a leaf, a part's header that is cut by a boundary ends there. Depth, number of parts and
the header of a part are bounded (`sieve_ext.message.limits`); `Structure.is_truncated` says that a bound was
met. The time is linear in the size of the body (times the depth of nesting at worst); nothing raises but
what the reader does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice

from sieve_ext.message import limits
from sieve_ext.message.boundary import BodyScanner
from sieve_ext.message.charset import decode_charset, decode_unlabelled
from sieve_ext.message.header import Header
from sieve_ext.message.index import HeaderIndex
from sieve_ext.message.parameters import Parameterised, boundary_of, media_type, parse_parameters
from sieve_ext.message.transfer import KNOWN, decode_transfer
from sieve_ext.message.words import decode_words

_folded_lines = re.compile(rb"(?:[ \t][^\n]*+(?:\n|\Z))*+").match
_boundaries = re.compile(r"boundary[*0-9]*+\s*+[=(]", re.IGNORECASE).findall
"""What could be read as a parameter of that name, within a comment or another value too."""

_MESSAGES = ("message/rfc822", "message/global")
_ENCODED = ("base64", "quoted-printable")
_DESCRIBING = ("content-type", "content-disposition")

ReadRange = Callable[[int, int], Iterator[bytes]]
"""The octets of a message's body from one offset to before another, in order."""


class Part:
    """One body part, or the whole message as the outermost one.

    Offsets are in octets from the start of the message's body, so that edits of the header move nothing.
    """

    def __init__(self, header: Header, start: int, depth: int, default_type: str, read: ReadRange) -> None:
        """`start` is where the part's body begins; its end is set when it has been found."""
        self.header = header
        self.start = start
        """Where the body of the part begins."""
        self.end = start
        """Where it ends."""
        self.header_start = start
        """Where its header begins; `start` for the message itself, whose header is not in the body."""
        self.depth = depth
        """0 for the message, 1 for its parts."""
        self.parts: list[Part] = []
        """Parts of a multipart; the one message in a message/rfc822 part."""
        self._default_type = default_type
        self._read = read

    @cached_property
    def _media(self) -> Parameterised:
        field = self.header.get("content-type")
        return media_type(field.unfolded if field else b"", self._default_type)

    @cached_property
    def disposition(self) -> Parameterised:
        """Content-Disposition (RFC 2183): "inline", "attachment", other, or "" when there is none."""
        field = self.header.get("content-disposition")
        return parse_parameters(field.unfolded) if field else Parameterised("", {})

    @property
    def content_type(self) -> str:
        """ "type/subtype" in lower case; text/plain, in a digest message/rfc822, when not given or broken."""
        return self._media.value

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of Content-Type by lower-case name."""
        return self._media.parameters

    @cached_property
    def boundary(self) -> bytes | None:
        """The boundary parameter as it stands in lines of the body, None if there is none."""
        field = self.header.get("content-type")
        return boundary_of(field.unfolded) if field else None

    @property
    def charset(self) -> str:
        """The charset parameter as given, "" if none."""
        return self.parameters.get("charset", "")

    @property
    def filename(self) -> str:
        """The name of an attachment, "" if none; from the disposition, else from Content-Type (RFC 2183)."""
        return self.disposition.parameters.get("filename", "") or self.parameters.get("name", "")

    @property
    def transfer_encoding(self) -> str:
        """Content-Transfer-Encoding in lower case; "7bit" if none is given (RFC 2045 section 6.1)."""
        field = self.header.get("content-transfer-encoding")
        return parse_parameters(field.unfolded).value if field else "7bit"

    @property
    def is_decodable(self) -> bool:
        """False for a transfer encoding that is not known: what is inside cannot be read as its type says
        (RFC 2045 section 6.4)."""
        return not self.transfer_encoding or self.transfer_encoding in KNOWN

    @property
    def description(self) -> str:
        """Content-Description decoded, "" if none."""
        field = self.header.get("content-description")
        return decode_words(field.unfolded) if field else ""

    @property
    def is_multipart(self) -> bool:
        """True for every multipart type, whether or not parts were found in it."""
        return self.content_type.startswith("multipart/")

    @property
    def size(self) -> int:
        """Octets of the body of the part as it is transferred."""
        return self.end - self.start

    def raw_chunks(self) -> Iterator[bytes]:
        """The body of the part as it is transferred."""
        return self._read(self.start, self.end)

    def octets(self, start: int, end: int) -> bytes:
        """Octets of the body of the message from offset `start` to before `end`: what is between parts."""
        return b"".join(self._read(start, end)) if end > start else b""

    def chunks(self) -> Iterator[bytes]:
        """The body of the part with its transfer encoding undone."""
        return decode_transfer(self.raw_chunks(), self.transfer_encoding)

    def content(self, limit: int = limits.PART_TEXT_OCTETS) -> bytes:
        """The first `limit` octets of `chunks`."""
        out: list[bytes] = []
        room = limit
        for chunk in self.chunks():
            out.append(chunk[:room])
            room -= len(chunk)
            if room <= 0:
                break
        return b"".join(out)

    def text(self, limit: int = limits.PART_TEXT_OCTETS) -> str:
        """The first `limit` decoded octets as text of the part's charset.

        Without a charset, or with one that is unknown, they are read as UTF-8 or Windows-1252.
        """
        octets = self.content(limit)
        text = decode_charset(octets, self.charset) if self.charset else None
        return decode_unlabelled(octets) if text is None else text

    def walk(self) -> Iterator[Part]:
        """This part and all within it, each before its own parts."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.parts))


class Structure:
    """The parts of a message."""

    __slots__ = ("is_doubtful", "is_truncated", "part_count", "root")

    def __init__(self, root: Part) -> None:
        """`root` is the message as a part."""
        self.root = root
        self.part_count = 1
        """Parts that were found, the message included."""
        self.is_truncated = False
        """True when a limit left something out: depth, parts, a part's header, a boundary, parameters."""
        self.is_doubtful = False
        """True when a part says twice what it is (type, encoding, disposition, boundary), or has its parts
        encoded, against RFC 2045 section 6.4: readers differ."""

    def leaves(self, limit: int = limits.MIME_PARTS) -> list[Part]:
        """Parts without parts, in order."""
        return list(islice((part for part in self.root.walk() if not part.parts), limit))


def read_structure(header: Header, size: int, read: ReadRange) -> Structure:
    """The structure of a message with this header and a body of `size` octets."""
    root = Part(header, 0, 0, "text/plain", read)
    structure = Structure(root)
    root.end = size
    if root.is_multipart or root.content_type in _MESSAGES:
        _Walk(structure, BodyScanner(read(0, size)), size, read).run()
    else:
        _look_at(header, structure)
    return structure


def _look_at(header: Header, structure: Structure) -> None:
    """Find out whether the header of a part says more of it than is looked at, or says it twice."""
    if header.count("content-transfer-encoding") > 1:
        structure.is_doubtful = True
    for name in _DESCRIBING:
        field = header.get(name)
        if field is None:
            continue
        if header.count(name) > 1 or len(_boundaries(field.line)) > 1:
            structure.is_doubtful = True
        if field.line.count(";") > limits.PARAMETERS:
            structure.is_truncated = True


def _is_message(part: Part) -> bool:
    # RFC 2046 section 5.2.1: only identity encodings; an encoded one is opaque.
    return part.content_type in _MESSAGES and part.transfer_encoding not in _ENCODED


class _Walk:
    """Goes once through a body and hangs parts into the structure."""

    def __init__(self, structure: Structure, scanner: BodyScanner, size: int, read: ReadRange) -> None:
        self._structure = structure
        self._scanner = scanner
        self._size = size
        self._read = read
        # Parts from the root down that have not ended; the level of each open boundary's multipart in it.
        self._open: list[Part] = []
        self._levels: list[int] = []

    def run(self) -> None:
        root = self._structure.root
        self._enter(root)
        while (found := self._scanner.next_delimiter()) is not None:
            level = self._levels[found.place]
            del self._levels[found.place + (not found.is_closing) :]
            self._close(level + 1, found.end_before)
            if found.is_closing:
                continue
            if self._structure.part_count >= limits.MIME_PARTS:
                self._structure.is_truncated = True
                break
            parent = self._open[level]
            self._begin(
                parent, "message/rfc822" if parent.content_type == "multipart/digest" else "text/plain"
            )
        self._close(0, self._size)

    def _begin(self, parent: Part, default_type: str) -> None:
        """Read the header of a part at the scanner's position and go into it."""
        header_start = self._scanner.position
        block, is_cut = self._scanner.read_header(limits.PART_HEADER_OCTETS)
        self._structure.is_truncated |= is_cut
        if block.startswith((b" ", b"\t")):
            # They continue no field, and other readers go on to the fields behind them.
            block = block[_folded_lines(block).end() :]  # type: ignore[union-attr]
        part = Part(
            Header(HeaderIndex(block)), self._scanner.position, parent.depth + 1, default_type, self._read
        )
        part.header_start = header_start
        parent.parts.append(part)
        self._structure.part_count += 1
        self._enter(part)

    def _enter(self, part: Part) -> None:
        self._open.append(part)
        _look_at(part.header, self._structure)
        if part.is_multipart:
            boundary = part.boundary
            if boundary is None:
                return
            is_cut = len(boundary) > limits.BOUNDARY_OCTETS
            self._structure.is_truncated |= is_cut or part.depth >= limits.MIME_DEPTH
            if part.depth < limits.MIME_DEPTH:
                self._scanner.open(boundary[: limits.BOUNDARY_OCTETS], is_cut=is_cut)
                self._levels.append(len(self._open) - 1)
        elif _is_message(part):
            if part.depth < limits.MIME_DEPTH and self._structure.part_count < limits.MIME_PARTS:
                self._begin(part, "text/plain")
            else:
                self._structure.is_truncated = True
        elif part.content_type in _MESSAGES:
            self._structure.is_doubtful = True

    def _close(self, level: int, end: int) -> None:
        while len(self._open) > level:
            part = self._open.pop()
            if part.is_multipart and not part.parts and part.transfer_encoding in _ENCODED:
                self._structure.is_doubtful = True
            # The empty line of a header may be the line break of a boundary, too.
            end = part.end = max(part.start, end)
