"""One header field: as received, decoded on demand; and how a new one is written.

A `Field` is a value that never changes; decoding is done once, when first asked for. Reading tolerates
anything. Writing (`make_field`, `raw_field`) cannot be used to smuggle a second field: line ends inside a
value become folding and NUL is dropped.
"""

from __future__ import annotations

import re

from msgspec import Struct

from sieve_ext.message.addresses import Mailboxes, parse_addresses
from sieve_ext.message.words import decode_words, encode_names, encode_words

FOLD_COLUMNS = 78
"""Columns that a written line should keep to, without CRLF (RFC 5322 section 2.1.1)."""

ADDRESS_FIELDS = frozenset(
    (
        *("from", "sender", "reply-to", "to", "cc", "bcc"),
        *("resent-from", "resent-sender", "resent-reply-to", "resent-to", "resent-cc", "resent-bcc"),
        *("disposition-notification-to", "return-receipt-to", "mail-followup-to", "mail-reply-to"),
    )
)
"""Fields that are lists of addresses, in lower case."""

_is_name = re.compile(r"[!-9;-~]+").fullmatch
_folding = re.compile(r"\r?\n[ \t]?").sub
_line_end = re.compile(rb"\r\n?|\n")


class Field(Struct, eq=False):
    """A header field (RFC 5322 section 2.2)."""

    line: str
    """The field in Latin-1, one character an octet, without its last LF."""
    index: int = -1
    """Place among the fields as received, from 0; -1 when an edit has put the field there."""
    _text: str | None = None
    _addresses: Mailboxes | None = None

    @property
    def name(self) -> str:
        """The name as written, "" for a line that is no field."""
        name, colon, _ = self.line.partition(":")
        return name.rstrip(" \t") if colon else ""

    @property
    def key(self) -> str:
        """The name in lower case."""
        return self.name.lower()

    @property
    def raw(self) -> bytes:
        """The whole field with name, folding and line end, as it is sent."""
        return self.line.encode("latin-1") + b"\n"

    @property
    def size(self) -> int:
        """Octets of `raw`."""
        return len(self.line) + 1

    @property
    def value(self) -> bytes:
        """What follows the colon, octet by octet: leading blank and folding kept, last line end removed."""
        return self.line.partition(":")[2].removesuffix("\r").encode("latin-1")

    @property
    def unfolded(self) -> bytes:
        """The value without folding (RFC 5322 section 2.2.3) and without blanks around it; not decoded."""
        value = self.line.partition(":")[2]
        if "\n" in value:
            value = value.replace("\r\n", "").replace("\n", "")
        return value.strip(" \t\r").encode("latin-1")

    @property
    def text(self) -> str:
        """The value unfolded, encoded words decoded (RFC 2047), blanks around it removed."""
        text = self._text
        if text is None:
            text = self.line.partition(":")[2]
            if "\n" in text:
                # A tab that continues a line stands for the blank that was folded (Dovecot reads it so, too).
                text = _folding(" ", text)
            text = text.strip(" \t\r")
            if not text.isascii() or "=?" in text:
                text = decode_words(text.encode("latin-1"))
            self._text = text
        return text

    @property
    def addresses(self) -> Mailboxes:
        """The value as a list of addresses (RFC 5322 section 3.4)."""
        if self._addresses is None:
            self._addresses = parse_addresses(self.unfolded)
        return self._addresses

    def __repr__(self) -> str:
        return f"Field({self.line!r})"


def is_field_name(name: str) -> bool:
    """True for a name that RFC 5322 section 2.2 allows: printable ASCII without colon and blank."""
    return _is_name(name) is not None


def raw_field(name: str, value: bytes, separator: bytes = b" ") -> Field:
    """A new field from octets that are sent as they are, as a milter gives them.

    `separator` stands between the colon and `value`; b"" when the value brings its own leading blank
    (milter's SMFIP_HDR_LEADSPC). Every line end in `value` (LF, CR or CRLF) becomes CRLF and a blank where
    none follows; line ends at its end and NUL are dropped. Raises ValueError for a name that is none.
    """
    if not is_field_name(name):
        raise ValueError(f"not a header field name: {name!r}")
    value = value.rstrip(b"\r\n").replace(b"\0", b"")
    if b"\n" in value or b"\r" in value:
        first, *more = _line_end.split(value)
        # A continuation of blanks alone would end the header for some readers.
        lines = (line if line[:1] in (b" ", b"\t") else b" " + line for line in more if line.strip(b" \t"))
        value = b"\r\n".join((first, *lines))
    return Field(f"{name}:" + (separator + value).decode("latin-1") + "\r")


def make_field(name: str, text: str, *, utf8: bool = False) -> Field:
    """A new field from text: encoded (RFC 2047, or UTF-8 when `utf8`, RFC 6532) and folded.

    In fields of addresses the names are encoded, and not the addresses behind them.

    Control characters become blanks. Lines keep to `FOLD_COLUMNS` where there is a blank to fold at.
    Raises ValueError for a name that is none.
    """
    if not is_field_name(name):
        raise ValueError(f"not a header field name: {name!r}")
    if not text.isprintable():
        text = "".join(c if c >= " " and c != "\x7f" else " " for c in text)
    text = text.strip()
    if not utf8:
        text = encode_names(text) if name.lower() in ADDRESS_FIELDS else encode_words(text)
    line = f"{name}:"
    lines: list[str] = []
    for word in text.split(" "):
        if len(line) + 1 + len(word) > FOLD_COLUMNS and word and line.strip(" ") and line != f"{name}:":
            lines.append(line)
            line = f" {word}"
        else:
            line = f"{line} {word}"
    lines.append(line)
    octets = "\r\n".join(lines).encode("utf-8", "replace")
    return Field(octets.decode("latin-1") + "\r")


def split_raw_fields(raw: bytes) -> list[Field]:
    """Fields from whole header fields with their line ends, as rendered before.

    Raises ValueError when one of them is no field.
    """
    fields = [Field(line) for line in _split(raw.decode("latin-1"))]
    if not all(is_field_name(field.name) for field in fields):
        raise ValueError("not a header field")
    return fields


def _split(text: str) -> list[str]:
    if not text.endswith("\n"):
        raise ValueError("a header field without its line end")
    return re.split(r"\n(?![ \t])", text[:-1])
