"""Reports as messages: multipart/report with a part for people, one for programs, and the message itself.

The form is that of RFC 6522 and RFC 3464; RFC 6533 where an address is not ASCII and the way back takes
UTF-8. The report says that it was made by a machine (RFC 3834 section 5) and refers to the message it is
about. `render` is a function of its arguments: time and randomness are passed in, and nothing is read but the
header. The returned message is not copied; the body of a report gives its octets when it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from mailqueue.store.base import Blob
from mta.address import NULL, Address
from mta.dsn.decide import Kind
from mta.dsn.fields import (
    MAX_LINE,
    MAX_REFERENCES,
    clean,
    diagnostic,
    field,
    final_recipient,
    mailbox,
    message_ids,
    original_recipient,
    peer_name,
    verbatim_field,
)
from mta.dsn.returned import Limits, Original, Part, quoted_printable, returned
from mta.dsn.values import RecipientReport
from mta.dsn.wording import wording
from mta.envelope import BodyType, Envelope, Recipient
from mta.trace import date_time, message_id
from sieve_ext.message import Message

ENTROPY = 32
"""Random octets that a report needs, 16 for its boundary, which no message can know, and 16 for its
Message-ID."""

DEFAULT_LIMITS = Limits()


@dataclass(slots=True, frozen=True)
class Reporter:
    """Who reports."""

    hostname: str
    """Our name: Reporting-MTA, and the domain of From and Message-ID."""
    zone: int = 0
    """Seconds east of UTC in which times are written."""


@dataclass(slots=True, frozen=True)
class Way:
    """What the way back can take."""

    utf8: bool = False
    """SMTPUTF8. True is a good guess when the message itself came with it."""
    eight_bit: bool = True
    """8BITMIME."""


PLAIN_WAY = Way()


class Body:
    """The body of a report: a `Blob` that gives the returned message without keeping it."""

    __slots__ = ("_pieces", "size")

    def __init__(self, pieces: Sequence[bytes | Blob]) -> None:
        """`pieces` are put together in order."""
        self._pieces = tuple(pieces)
        self.size = sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in self._pieces)

    def chunks(self) -> Iterator[bytes]:
        """All octets in order; may be called again. Raises what the returned message's `chunks` raises."""
        return chain.from_iterable(
            (piece,) if isinstance(piece, bytes) else piece.chunks() for piece in self._pieces
        )


@dataclass(slots=True, frozen=True)
class Report:
    """A report, ready for the queue."""

    envelope: Envelope
    header: bytes
    """The header block with the empty line."""
    body: Body
    message_id: str


def render(
    original: Original,
    reports: Sequence[RecipientReport],
    reporter: Reporter,
    *,
    to: Address,
    now: float,
    entropy: bytes,
    kind: Kind = Kind.REPORT,
    way: Way = PLAIN_WAY,
    limits: Limits = DEFAULT_LIMITS,
) -> Report:
    """One report about `original` for all of `reports`, which are not empty.

    `to` is the sender, or the postmaster for a NOTICE. `now` is seconds since 1970, `entropy` has `ENTROPY`
    random octets. Raises ValueError for less of them.
    """
    if len(entropy) < ENTROPY:
        raise ValueError(f"a report needs {ENTROPY} random octets")
    boundary = f"=_{entropy[:16].hex()}"
    third = returned(original, reports, limits, utf8=way.utf8, eight_bit=way.eight_bit)
    utf8 = way.utf8 and (
        not to.local.isascii()
        or (third is not None and third.utf8)
        or any(not _is_ascii(report.recipient) for report in reports)
    )
    words = wording(original, reports, kind, reporter.hostname, reporter.zone)
    parts = [_text(words.lines), _status(original, reports, reporter, utf8=utf8)]
    if third is not None:
        parts.append(third)
    eight_bit = any(part.eight_bit for part in parts)
    made = message_id(now, reporter.hostname, entropy[16:ENTROPY])
    header = _header(original, reporter, words.subject, made, to, now, utf8=utf8)
    header += (
        f"Content-Type: multipart/report; report-type=delivery-status;\r\n"
        f' boundary="{boundary}"\r\n'
        f"Content-Transfer-Encoding: {'8bit' if eight_bit else '7bit'}\r\n\r\n"
    ).encode("ascii")
    envelope = report_envelope(original.envelope, to=to, utf8=utf8, eight_bit=eight_bit)
    return Report(envelope, header, Body(_join(parts, boundary.encode("ascii"))), made)


def report_envelope(about: Envelope, *, to: Address, utf8: bool, eight_bit: bool) -> Envelope:
    """The envelope of a report on the message of `about` (RFC 3461 section 6.1).

    The sender is null and NOTIFY is NEVER, RET is left out. A report quotes the message, so it needs the same
    protection on its way (RFC 8689 section 5).
    """
    return Envelope(
        NULL,
        [Recipient(to, notify=frozenset({"NEVER"}))],
        body=BodyType.EIGHT_BIT_MIME if eight_bit else BodyType.SEVEN_BIT,
        smtputf8=utf8,
        require_tls=about.require_tls,
    )


def _header(
    original: Original, reporter: Reporter, subject: str, made: str, to: Address, now: float, *, utf8: bool
) -> bytes:
    """The fields but the last ones, which tell of the content."""
    fields = [
        field("From", f"Mail Delivery System <MAILER-DAEMON@{reporter.hostname}>"),
        field("To", mailbox(to, utf8=utf8), utf8=utf8),
        field("Subject", subject),
        field("Date", date_time(now, reporter.zone)),
        field("Message-ID", made),
        *_references(original.header),
        field("Auto-Submitted", "auto-replied"),
        field("MIME-Version", "1.0"),
    ]
    return b"".join(fields)


def _references(header: bytes) -> list[bytes]:
    """In-Reply-To and References (RFC 5322 section 3.6.4, RFC 3834 section 3.1); none without a name."""
    message = Message(header)
    about = message_ids(message.text("message-id") or "")
    if len(about) != 1:
        return []
    before = message_ids(message.text("references") or "") or message_ids(message.text("in-reply-to") or "")
    thread = [*before[-MAX_REFERENCES + 1 :], about[0]]
    return [field("In-Reply-To", about[0]), field("References", " ".join(thread))]


def _text(lines: Sequence[str]) -> Part:
    text = "\r\n".join((*lines, ""))
    octets = text.encode("utf-8")
    plain = text.isascii() and max(map(len, lines)) <= MAX_LINE
    charset, encoding = ("us-ascii", "7bit") if plain else ("utf-8", "quoted-printable")
    head = (
        f"Content-Type: text/plain; charset={charset}\r\nContent-Description: What happened\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return Part(head.encode("ascii"), (octets if plain else quoted_printable(octets),))


def _status(
    original: Original, reports: Sequence[RecipientReport], reporter: Reporter, *, utf8: bool
) -> Part:
    """The part for programs: fields about the message, then a group of fields for each recipient."""
    groups = [_message_fields(original, reporter, utf8=utf8)]
    groups += (_recipient_fields(report, original.queue_id, reporter.zone, utf8=utf8) for report in reports)
    octets = b"\r\n".join(groups)
    eight_bit = not octets.isascii()
    head = (
        f"Content-Type: message/{'global-' if utf8 else ''}delivery-status\r\n"
        f"Content-Description: What happened, for programs\r\n"
        f"Content-Transfer-Encoding: {'8bit' if eight_bit else '7bit'}\r\n\r\n"
    )
    return Part(head.encode("ascii"), (octets,), utf8=utf8, eight_bit=eight_bit)


def _message_fields(original: Original, reporter: Reporter, *, utf8: bool) -> bytes:
    """RFC 3464 section 2.2; ENVID decoded (RFC 3461 section 6.3)."""
    envelope = original.envelope
    fields = []
    if envelope.envid and envelope.envid.strip():
        fields.append(verbatim_field("Original-Envelope-Id", envelope.envid, utf8=False))
    fields.append(field("Reporting-MTA", f"dns; {reporter.hostname}"))
    if client := clean(original.client, utf8=utf8):
        fields.append(field("Received-From-MTA", f"dns; {client}", utf8=utf8))
    fields.append(field("Arrival-Date", date_time(original.arrived, reporter.zone)))
    if envelope.deliver_by is not None:
        due = original.arrived + envelope.deliver_by.seconds
        fields.append(field("Deliver-By-Date", date_time(due, reporter.zone)))  # RFC 2852
    return b"".join(fields)


def _recipient_fields(report: RecipientReport, queue_id: str, zone: int, *, utf8: bool) -> bytes:
    """RFC 3464 section 2.3, in its order."""
    recipient = report.recipient
    fields = []
    if recipient.original is not None:
        fields.append(original_recipient(recipient.original, utf8=utf8))
    fields.append(final_recipient(recipient.address, utf8=utf8))
    fields.append(field("Action", report.action.value))
    fields.append(field("Status", report.status))
    if name := peer_name(report.peer):
        fields.append(field("Remote-MTA", f"dns; {name}"))
    fields.append(diagnostic(report, utf8=utf8))
    if report.last_attempt is not None:
        fields.append(field("Last-Attempt-Date", date_time(report.last_attempt, zone)))
    if queue_id:
        fields.append(field("Final-Log-ID", queue_id))
    if report.retry_until is not None:
        fields.append(field("Will-Retry-Until", date_time(report.retry_until, zone)))
    return b"".join(fields)


def _is_ascii(recipient: Recipient) -> bool:
    original = recipient.original
    return recipient.address.text.isascii() and (original is None or original.address.isascii())


def _join(parts: Sequence[Part], boundary: bytes) -> list[bytes | Blob]:
    """The parts between their delimiters (RFC 2046 section 5.1.1)."""
    pieces: list[bytes | Blob] = []
    for number, part in enumerate(parts):
        pieces.append((b"\r\n--" if number else b"--") + boundary + b"\r\n" + part.head)
        pieces += part.pieces
    pieces.append(b"\r\n--" + boundary + b"--\r\n")
    return pieces
