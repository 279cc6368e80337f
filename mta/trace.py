"""Trace and repair fields: Received, Return-Path, Date, Message-ID, and what is wrong with a header.

Received (RFC 5321 section 4.4) is written for every message, so its parts that do not change in a session
are put together once (`ReceivedTemplate`) and the date is kept for a second. The client's words go into it:
HELO and recipient are reduced to harmless characters, so a client cannot add a line, close a comment or
forge a clause. Protocol types are those of RFC 3848 and RFC 6531 section 4.3.

Date and Message-ID are added on submission only (RFC 6409 section 8): a relay does not repair mail.
`header_problems` gives the reply for a header that is not accepted, None for all others.

Time (seconds since 1970) and randomness are parameters. Nothing here raises.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from mta.address import Address
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message
from sieve_ext.message.limits import HEADER_FIELDS, HEADER_OCTETS

PRODUCT = "Tamis"
"""The comment behind our name in Received."""

MAX_HOPS = 100
"""Received fields above which a message is taken to loop. RFC 5321 section 6.3: at least 100. (Postfix counts
to 50; long list and forwarding chains with several filters a hop come near that.)"""

HELO_OCTETS = 255
"""Octets of the client's HELO that go into Received: the longest domain name (RFC 1035 section 2.3.4)."""

QUICKLY_READ = 16 * 1024
"""Octets of a message whose header is indexed within some milliseconds, whatever it is."""
_empty_line = re.compile(rb"\n\r?\n").search
_field_ends = re.compile(rb"\n(?![ \t])").finditer

_HELO_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]")
_COMMENT_SAFE = _HELO_SAFE | frozenset("/+*=")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

FOLD_COLUMNS = 78
"""Columns of a line without CRLF (RFC 5322 section 2.1.1)."""


# Dates and identifiers


def date_time(now: float, zone: int | None = None) -> str:
    """`now` as an RFC 5322 section 3.3 date-time with numeric zone, "Sat, 22 Nov 2025 10:15:08 +0000".

    `zone` is seconds east of UTC, None for the zone of this machine.
    """
    second = int(now // 1)
    if zone is None:
        zone = time.localtime(second).tm_gmtoff
    t = time.gmtime(second + zone)
    sign = "-" if zone < 0 else "+"
    hours, minutes = divmod(abs(zone) // 60, 60)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} {sign}{hours:02d}{minutes:02d}"
    )


class Clock:
    """Dates of the running second: `date(now)` formats once a second, however often it is asked."""

    __slots__ = ("_second", "_text", "_zone")

    def __init__(self, zone: int | None = None) -> None:
        """`zone` as in `date_time`."""
        self._zone = zone
        self._second: float | None = None
        self._text = ""

    def date(self, now: float) -> str:
        """`date_time(now)`."""
        second = now // 1
        if second != self._second:
            self._text = date_time(second, self._zone)
            self._second = second
        return self._text


_clock = Clock()


def message_id(now: float, hostname: str, entropy: bytes) -> str:
    """A new Message-ID (RFC 5322 section 3.6.4), "<20251122101508.hex@hostname>".

    `entropy` is random octets, 8 or more, different for each message; `hostname` is our name.
    """
    t = time.gmtime(int(now))
    stamp = f"{t.tm_year:04d}{t.tm_mon:02d}{t.tm_mday:02d}{t.tm_hour:02d}{t.tm_min:02d}{t.tm_sec:02d}"
    return f"<{stamp}.{entropy.hex()}@{hostname}>"


# Received and Return-Path


def protocol_type(session: Session, smtputf8: bool) -> str:
    """The value of the WITH clause (RFC 3848, RFC 6531 section 4.3, registry "Mail Transmission Types").

    Plain HELO is "SMTP", over TLS too: the registry has no type for that.
    """
    lmtp = session.protocol == "lmtp"
    if not session.esmtp and not lmtp:
        return "SMTP"
    base = "LMTP" if lmtp else "SMTP" if smtputf8 else "ESMTP"
    return f"{'UTF8' if smtputf8 else ''}{base}{'S' if session.tls else ''}{'A' if session.user else ''}"


class ReceivedTemplate:
    """The Received field of one session; make it anew after EHLO, STARTTLS and AUTH."""

    __slots__ = ("_clock", "_session", "_start")

    def __init__(
        self, session: Session, hostname: str, *, client_name: str = "", clock: Clock = _clock
    ) -> None:
        """`hostname` is our name; `client_name` the client's name by reverse DNS, "" when it is not known."""
        literal = _address_literal(session.client_ip)
        where = literal or ("local socket" if session.client_address == "unix" else session.client_address)
        helo = _clean(session.helo, _HELO_SAFE, HELO_OCTETS) or literal or "unknown"
        name = _clean(client_name, _HELO_SAFE, HELO_OCTETS) if client_name else ""
        info = f"{name} {where}" if name else where
        # Each clause on a line of its own: the fold that stays within the columns for all usual names.
        lines = [f"Received: from {helo} ({info})"]
        if len(lines[0]) > FOLD_COLUMNS:
            lines = [f"Received: from {helo}", f" ({info})"]
        if session.tls is not None:
            tls = session.tls
            version = _clean(tls.version, _COMMENT_SAFE, 20)
            cipher = _clean(tls.cipher, _COMMENT_SAFE, 80)
            lines.append(f" (using {version} with cipher {cipher} ({tls.bits}/{tls.bits} bits))")
        lines.append(f" by {hostname} ({PRODUCT})")
        self._start = "\r\n".join(lines)
        self._session = session
        self._clock = clock

    def render(
        self,
        transaction_id: str,
        now: float,
        recipient: Address | None = None,
        *,
        smtputf8: bool = False,
        priority: int | None = None,
    ) -> bytes:
        """The field with its CRLF.

        `transaction_id` is printable ASCII without blanks. `recipient` is the only recipient of the message;
        None when there are several, whom the field would tell of each other (RFC 5321 section 7.2).
        `smtputf8` is that of the transaction; without it no local part outside ASCII is named. `priority` is
        that of MT-PRIORITY, None where the client names none (RFC 6710 section 4.1).
        """
        clause = f" with {protocol_type(self._session, smtputf8)} id {transaction_id}"
        start = self._start
        line_start = len(start) - start.rfind("\n") - 1
        fold = "\r\n" if line_start + len(clause) > FOLD_COLUMNS else ""
        date = self._clock.date(now)
        if priority is not None:
            path = _path(recipient, smtputf8) if recipient is not None else ""
            tail = f"\r\n for {path}" if path else ""
            return f"{start}{fold}{clause}{tail}\r\n PRIORITY {priority};\r\n {date}\r\n".encode()
        if recipient is not None and (path := _path(recipient, smtputf8)):
            head = f" for {path};"
            gap = "\r\n" if len(head) + 1 + len(date) > FOLD_COLUMNS else ""
            return f"{start}{fold}{clause}\r\n{head}{gap} {date}\r\n".encode()
        return f"{start}{fold}{clause};\r\n {date}\r\n".encode()


def return_path_field(sender: Address) -> bytes:
    """Return-Path with its CRLF, for final delivery (RFC 5321 section 4.4)."""
    return f"Return-Path: <{_printable(sender.text)}>\r\n".encode()


def _path(recipient: Address, smtputf8: bool) -> str:
    text = recipient.text
    if not text.isascii():
        # A domain has a spelling in ASCII, which keeps the header such that every next hop takes it.
        if recipient.domain and recipient.local.isascii():
            text = recipient.to_ascii().text
        elif not smtputf8:
            return ""
    return f"<{_printable(text)}>" if text else ""


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def _clean(text: str, safe: frozenset[str], limit: int) -> str:
    text = text[:limit]
    if safe.issuperset(text):
        return text
    return "".join(c if c in safe else "?" for c in text)


def _address_literal(address: str) -> str:
    """An address literal (RFC 5321 section 4.1.3) of an IP address, "" for ""."""
    if ":" in address:
        return f"[IPv6:{_clean(address.partition('%')[0], _HELO_SAFE, 45)}]"
    return f"[{address}]" if address else ""


# What a header lacks, and what is wrong with it


def missing_fields(
    message: Message, now: float, hostname: str, entropy: Callable[[int], bytes]
) -> tuple[bytes, str]:
    """Date and Message-ID as far as `message` has none (RFC 6409 section 8), each with its CRLF.

    The second value is the new Message-ID with its brackets, "" if there is one already. For submission
    only. `entropy(n)` gives n random octets (`os.urandom`).
    """
    fields, added = b"", ""
    if "date" not in message:
        fields = f"Date: {_clock.date(now)}\r\n".encode("ascii")
    if "message-id" not in message:
        added = message_id(now, hostname, entropy(12))
        fields += f"Message-ID: {added}\r\n".encode("ascii")
    return fields, added


def hop_count(message: Message) -> int:
    """How many Received fields there are (RFC 5321 section 6.3)."""
    return message.count("received")


@dataclass(slots=True, frozen=True)
class HeaderLimits:
    """What header is accepted; 0 switches a limit off."""

    octets: int = HEADER_OCTETS
    """The header section."""
    fields: int = HEADER_FIELDS
    """Header fields."""
    hops: int = MAX_HOPS
    """Received fields."""
    line_octets: int = 0
    """Longest line of the header without CRLF. Off: RFC 5322 section 2.1.1 allows 998, yet mail with longer
    lines is common and relayed by everybody; refusing it loses mail and protects nothing, for no buffer
    here depends on it."""
    require_from: bool = False
    """Exactly one From field with at least one address (RFC 5322 section 3.6); for submission."""


def oversized(head: bytes, limits: HeaderLimits) -> Reply | None:
    """The reply that refuses a message for the size of its header, which `head` begins with.

    For a message that nobody has looked at: to index a MiB of tiny fields takes a quarter of a second. None
    is no promise, `header_problems` looks at all.
    """
    if len(head) <= QUICKLY_READ or head[:1] <= b" ":
        return None
    found = _empty_line(head, 0, limits.octets + 2 if limits.octets else len(head))
    if found is None and limits.octets and len(head) > limits.octets + 2:
        return _too_large(limits)
    end = found.start() if found is not None else len(head)
    if found is None and head.endswith((b"\n", b"\n\r")):
        end = head.rindex(b"\n")
    if limits.fields and head.count(b"\n", 0, end) >= limits.fields:
        fields = 1 + sum(1 for _ in _field_ends(head, 0, end))
        if fields > limits.fields:
            return _too_many(limits)
    return None


def _too_large(limits: HeaderLimits) -> Reply:
    return Reply(552, "5.3.4", f"Message header is larger than {limits.octets} octets")


def _too_many(limits: HeaderLimits) -> Reply:
    return Reply(552, "5.3.4", f"Message has more than {limits.fields} header fields")


def header_problems(message: Message, limits: HeaderLimits) -> Reply | None:
    """The reply that refuses `message` for its header, None if it is acceptable."""
    if message.begins_folded:
        # Nobody writes this by accident, and the line would continue the fields that we put in front.
        return Reply(554, "5.6.0", "Message begins with a continuation line")
    if limits.octets and (message.original_header_size > limits.octets or message.is_header_cut):
        return _too_large(limits)
    if limits.fields and message.field_count > limits.fields:
        return _too_many(limits)
    if limits.hops and hop_count(message) > limits.hops:
        return Reply(
            554, "5.4.6", "Too many hops: the message is looping", f"over {limits.hops} Received fields"
        )
    if limits.line_octets and message.longest_line > limits.line_octets:
        return Reply(554, "5.6.0", f"A line of the header is longer than {limits.line_octets} octets")
    if limits.require_from:
        return _from_problem(message)
    return None


def _from_problem(message: Message) -> Reply | None:
    fields = message.all("from")
    if len(fields) != 1:
        text = "Message has more than one From field" if fields else "Message has no From field"
    elif not any(mailbox.local for mailbox in fields[0].addresses.mailboxes):
        text = "Message has no address in its From field"
    else:
        return None
    return Reply(550, "5.6.0", f"{text} (RFC 5322 section 3.6)")
