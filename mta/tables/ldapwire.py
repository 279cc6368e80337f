"""The part of LDAP that a table needs, as octets (RFC 4511): bind, search, StartTLS; and nothing else.

There is no living library for asyncio that installs without a compiler and OpenLDAP's headers, and this much
is small: messages are built here, and read into `Entry`, `Result` or `Other`. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MESSAGE_MOST = 1024 * 1024
"""Octets of the longest message that is read, which is one entry."""
START_TLS = b"1.3.6.1.4.1.1466.20037"
SCOPES = ("base", "one", "sub")


class Tag(IntEnum):
    """The first octet of an element: of BER, and of operations (RFC 4511 appendix B)."""

    BOOLEAN = 0x01
    INTEGER = 0x02
    OCTETS = 0x04
    ENUMERATED = 0x0A
    SEQUENCE = 0x30
    BIND = 0x60
    BOUND = 0x61
    SEARCH = 0x63
    ENTRY = 0x64
    DONE = 0x65
    EXTENDED = 0x77
    ANSWERED = 0x78


class Code(IntEnum):
    """Results (RFC 4511 section 4.1.9)."""

    SUCCESS = 0
    NO_SUCH_OBJECT = 32


class WireError(Exception):
    """The octets are no message of LDAP."""


@dataclass(slots=True, frozen=True)
class Entry:
    """What was found: its attributes, in the order of the server."""

    number: int
    attributes: tuple[tuple[str, tuple[bytes, ...]], ...]


@dataclass(slots=True, frozen=True)
class Result:
    """The end of an operation: 0 is success (RFC 4511 section 4.1.9)."""

    number: int
    code: int
    text: str


@dataclass(slots=True, frozen=True)
class Other:
    """A message that nobody needs, such as a reference to another server."""

    number: int


def element(tag: int, *contents: bytes) -> bytes:
    """An element of BER with a definite length."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def integer(value: int, tag: int = Tag.INTEGER) -> bytes:
    """A number that is not negative."""
    return element(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(value: bytes) -> bytes:
    """An octet string."""
    return element(Tag.OCTETS, value)


def bind(number: int, name: str, password: str) -> bytes:
    """A simple bind; without name and password it is anonymous."""
    content = integer(3) + octets(name.encode()) + element(0x80, password.encode())
    return element(Tag.SEQUENCE, integer(number), element(Tag.BIND, content))


def start_tls(number: int) -> bytes:
    """The wish for TLS (RFC 4511 section 4.14)."""
    return element(Tag.SEQUENCE, integer(number), element(Tag.EXTENDED, element(0x80, START_TLS)))


def search(
    number: int, base: bytes, scope: str, filter: bytes, attributes: tuple[str, ...],
    entries: int, seconds: int,
) -> bytes:  # fmt: skip
    """A search; `filter` is encoded already. Aliases are not followed. No attributes: none are sent."""
    wanted = attributes or ("1.1",)
    content = (
        octets(base), integer(SCOPES.index(scope), Tag.ENUMERATED), integer(0, Tag.ENUMERATED),
        integer(entries), integer(seconds), element(Tag.BOOLEAN, b"\0"), filter,
        element(Tag.SEQUENCE, *(octets(one.encode()) for one in wanted)),
    )  # fmt: skip
    return element(Tag.SEQUENCE, integer(number), element(Tag.SEARCH, *content))


def length(head: bytes) -> tuple[int, int] | None:
    """How long the head of an element is and its content, None when `head` is too short to say."""
    if len(head) < 2:
        return None
    first = head[1]
    if first < 0x80:
        return 2, first
    more = first & 0x7F
    if not 1 <= more <= 4:
        raise WireError(f"a length of {more} octets")
    if len(head) < 2 + more:
        return None
    return 2 + more, int.from_bytes(head[2 : 2 + more], "big")


def parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that follow each other. Raises WireError."""
    place = 0
    while place < len(content):
        sizes = length(content[place : place + 6])
        if sizes is None or place + sum(sizes) > len(content):
            raise WireError("an element goes beyond its end")
        begin = place + sizes[0]
        yield content[place], content[begin : begin + sizes[1]]
        place = begin + sizes[1]


def read(message: bytes) -> Entry | Result | Other:
    """A whole message. Raises WireError."""
    (tag, content), *rest = _some(message, 1)
    if tag != Tag.SEQUENCE or rest:
        raise WireError("it is no message")
    (tag, value), (kind, operation), *_ = _some(content, 2)
    if tag != Tag.INTEGER or not 1 <= len(value) <= 4:
        raise WireError("it has no number")
    number = int.from_bytes(value, "big")
    if kind == Tag.ENTRY:
        _, (_, attributes), *_ = _some(operation, 2)
        return Entry(number, tuple(_attribute(one) for _, one in parts(attributes)))
    if kind in (Tag.BOUND, Tag.DONE, Tag.ANSWERED):
        (tag, code), _, (_, text), *_ = _some(operation, 3)
        if tag != Tag.ENUMERATED or not 1 <= len(code) <= 4:
            raise WireError("a result without a code")
        return Result(number, int.from_bytes(code, "big"), text.decode("utf-8", "replace"))
    return Other(number)


def _attribute(content: bytes) -> tuple[str, tuple[bytes, ...]]:
    (_, name), (_, values), *_ = _some(content, 2)
    return name.decode("utf-8", "replace"), tuple(value for _, value in parts(values))


def _some(content: bytes, least: int) -> list[tuple[int, bytes]]:
    found = list(parts(content))
    if len(found) < least:
        raise WireError("something is missing")
    return found
