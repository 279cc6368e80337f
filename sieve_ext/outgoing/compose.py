"""Writing a mail: header fields, text, parts."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from email.utils import format_datetime

from sieve_ext.message import make_field
from sieve_ext.message.words import encode_words
from sieve_ext.outgoing.mail import Origin
from sieve_ext.validate.values import read_address

SUBJECT = 256
"""Longest subject of a mail that a script makes, in characters."""

_message_id = re.compile(rb"<[!-;=?-~]{1,960}>").findall
"""In a line of its own it has room (RFC 5322 section 2.1.1)."""


def new_message_id(origin: Origin) -> str:
    """A Message-ID with its angle brackets."""
    given = origin.names.get("message-id")
    return given or f"<sieve-{int(origin.now.timestamp())}-{secrets.token_hex(8)}@{origin.host}>"


def new_boundary(origin: Origin) -> str:
    """A boundary between parts, that does not occur in text by chance."""
    return origin.names.get("boundary") or f"=_sieve-{secrets.token_hex(12)}"


class Header:
    """A header section in the making."""

    def __init__(self) -> None:
        """Empty."""
        self._lines: list[bytes] = []

    def add(self, name: str, text: str) -> None:
        """A field of text, encoded and folded; nothing in it can begin another field."""
        self._lines.append(make_field(name, text).raw)

    def add_structured(self, name: str, text: str) -> None:
        """A field whose text has been written for a header already: addresses, identifiers, parameters.

        What is beyond ASCII in it, in addresses themselves, stays as it is (RFC 6532).
        """
        self._lines.append(make_field(name, text, utf8=True).raw)

    def octets(self) -> bytes:
        """The fields, with the empty line behind them."""
        return b"".join(self._lines) + b"\r\n"


def written_address(address: str) -> str:
    """An address as it stands in a header field: `local@domain`, with its display name if any."""
    found = read_address(address)
    if isinstance(found, str) or address.isascii():
        return address.strip()
    if not found.name:
        return found.address
    return f"{phrase(found.name)} <{found.address}>"


def phrase(name: str) -> str:
    """A display name as RFC 5322 section 3.2.5 wants it: an atom, a quoted string, or encoded words."""
    if not name.isascii():
        return encode_words(name)
    if all(character.isalnum() or character in "!#$%&'*+-/=?^_`{|}~" for character in name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def start(origin: Origin) -> Header:
    """The fields that every mail begins with."""
    header = Header()
    header.add("X-Sieve", origin.product)
    header.add("Message-ID", new_message_id(origin))
    header.add("Date", written_date(origin.now))
    return header


def written_date(now: datetime) -> str:
    """A time as RFC 5322 section 3.3 wants it."""
    return format_datetime(now)


def crlf(text: str) -> bytes:
    """Text of a script in UTF-8 with CRLF, ending with one; empty stays empty."""
    octets = text.encode("utf-8", "replace").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    octets = octets.replace(b"\n", b"\r\n")
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


def text_type(body: bytes) -> tuple[str, str]:
    """Content-Type and Content-Transfer-Encoding of plain text."""
    if body.isascii():
        return "text/plain; charset=us-ascii", "7bit"
    return "text/plain; charset=utf-8", "8bit"


def original_header(origin: Origin) -> bytes:
    """The header of the message as received, with CRLF, without the empty line."""
    lines = origin.message.render_header().replace(b"\r\n", b"\n")
    return lines.replace(b"\n", b"\r\n")


def identifiers(origin: Origin, name: str) -> str:
    """The Message-IDs in a field of the message, nothing else of it; "" if there is none."""
    field = origin.message.get(name)
    return "" if field is None else b" ".join(_message_id(field.unfolded)).decode("ascii")


def cut_subject(text: str) -> str:
    """A subject without line ends, cut to `SUBJECT`."""
    text = " ".join(text.split("\n")).replace("\r", "")
    return text if len(text) <= SUBJECT else text[: SUBJECT - 1] + "\u2026"


def multipart(boundary: str, parts: list[bytes]) -> bytes:
    """The body of a multipart (RFC 2046 section 5.1.1); each part with its header."""
    dash = b"--" + boundary.encode("ascii", "replace")
    pieces = [b"This is a MIME-encapsulated message\r\n\r\n"]
    for part in parts:
        pieces += [dash, b"\r\n", part, b"\r\n"]
    return b"".join((*pieces, dash, b"--\r\n"))
