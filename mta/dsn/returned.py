"""The third part of a report: the message it is about, or its header (RFC 6522, RFC 6533).

The whole message is returned only with a failure (RFC 3461 section 4.3), when RET does not ask for the
header, when it is not over the limit and can be sent as it is. In all other cases it is the header, cut at a
field when it is over its own limit.

Octets over 127, over-long lines and stray line ends in a header need a form of their own: message/global and
message/global-headers where the report may be UTF-8, else a header in quoted-printable. A message whose
header needs that is not returned whole where UTF-8 may not go, for nothing but the header could be encoded.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from mailqueue.store.base import Blob
from mta.dsn.fields import MAX_LINE
from mta.dsn.values import Action, RecipientReport
from mta.envelope import BodyType, Envelope

MAX_MESSAGE = 100 * 1024
"""Octets of a message that is returned whole. Enough for a letter; who sent more has it."""
MAX_HEADER = 32 * 1024
"""Octets of a header that is returned. Ten times a usual one with many signatures."""


@dataclass(slots=True, frozen=True)
class Original:
    """The message that a report is about."""

    envelope: Envelope
    header: bytes
    """The header block with CRLF line ends and the empty line."""
    body: Blob
    body_8bit: bool
    """True when the body has octets over 127, or that is not known."""
    arrived: float
    """Seconds since 1970."""
    client: str = ""
    """Who handed it to us, as "name ([address])"; "" when that is nobody's business."""
    queue_id: str = ""


@dataclass(slots=True, frozen=True)
class Limits:
    """How much of a message is returned, in octets; 0 for nothing of that kind."""

    message: int = MAX_MESSAGE
    header: int = MAX_HEADER


@dataclass(slots=True, frozen=True)
class Part:
    """A body part: its Content fields with the empty line, and what follows them."""

    head: bytes
    pieces: tuple[bytes | Blob, ...]
    utf8: bool = False
    """It makes the report one for SMTPUTF8 only."""
    eight_bit: bool = False


def returned(
    original: Original, reports: Sequence[RecipientReport], limits: Limits, *, utf8: bool, eight_bit: bool
) -> Part | None:
    """The part for `original`, None when the limits allow nothing.

    `utf8` and `eight_bit` say what the way of the report can take.
    """
    whole = _whole(original, utf8=utf8, eight_bit=eight_bit) if _wanted(original, reports, limits) else None
    return whole or _header(original.header, limits.header, utf8=utf8)


def _wanted(original: Original, reports: Sequence[RecipientReport], limits: Limits) -> bool:
    envelope = original.envelope
    return (
        any(report.action is Action.FAILED for report in reports)
        and envelope.ret != "HDRS"
        # RFC 8689 section 5: less is returned of what must not be seen on the way.
        and not envelope.require_tls
        # message/rfc822 cannot be encoded, and binary content needs BINARYMIME on the whole way back.
        and envelope.body is not BodyType.BINARY_MIME
        and len(original.header) + original.body.size <= limits.message
    )


def _whole(original: Original, *, utf8: bool, eight_bit: bool) -> Part | None:
    pieces = (original.header, original.body)
    if original.header.isascii():
        if not original.body_8bit:
            return Part(_content("message/rfc822", "7bit"), pieces)
        return Part(_content("message/rfc822", "8bit"), pieces, eight_bit=True) if eight_bit else None
    if utf8 and is_utf8(original.header):
        return Part(_content("message/global", "8bit"), pieces, utf8=True, eight_bit=True)
    return None


def _header(header: bytes, limit: int, *, utf8: bool) -> Part | None:
    header = bounded(header.removesuffix(b"\r\n") if header.endswith(b"\r\n\r\n") else header, limit)
    if not header.strip():
        return None
    if _is_clean(header):
        if header.isascii():
            return Part(_content("text/rfc822-headers", "7bit"), (header,))
        if utf8 and is_utf8(header):
            return Part(_content("message/global-headers", "8bit"), (header,), utf8=True, eight_bit=True)
    return Part(_content("text/rfc822-headers", "quoted-printable"), (quoted_printable(header),))


def bounded(header: bytes, limit: int) -> bytes:
    """The first fields of a header that fit into `limit` octets; part of the first if not even it does."""
    if len(header) <= limit:
        return header
    end = limit
    while (end := header.rfind(b"\r\n", 0, end)) >= 0:
        if header[end + 2 : end + 3] not in (b" ", b"\t"):
            return header[: end + 2]
    end = header.rfind(b"\r\n", 0, limit)
    return header[: end + 2] if end >= 0 else header[:limit]


def quoted_printable(text: bytes) -> bytes:
    """`text` in quoted-printable, its CRLF kept as line ends (RFC 2045 section 6.7)."""
    lines = text.split(b"\r\n")
    return b"\r\n".join(binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in lines)


def is_utf8(octets: bytes) -> bool:
    """True when `octets` is well-formed UTF-8."""
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_clean(header: bytes) -> bool:
    """True when all line ends are CRLF, no line is over-long and there is no NUL."""
    lines = header.split(b"\r\n")
    return all(
        len(line) <= MAX_LINE and b"\r" not in line and b"\n" not in line and b"\0" not in line
        for line in lines
    )


def _content(kind: str, encoding: str) -> bytes:
    return (
        f"Content-Type: {kind}\r\nContent-Description: {_DESCRIPTIONS[kind]}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    ).encode("ascii")


_DESCRIPTIONS = {
    "message/rfc822": "Your message",
    "message/global": "Your message",
    "text/rfc822-headers": "Header of your message",
    "message/global-headers": "Header of your message",
}
