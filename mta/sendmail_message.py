"""A message as a script writes it becomes one that can be sent; pure.

Line ends become CRLF, NUL octets are taken out, the end of the header is found or made, recipients are read
from it, Bcc is taken out, From, Date and Message-ID are added where they are missing, and addresses get the
domain that they lack.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mta.address import Address, AddressError, parse_address
from mta.sendmail_complete import complete_header
from mta.trace import missing_fields
from sieve_ext.message import Message
from sieve_ext.message.addresses import Mailbox, parse_addresses
from sieve_ext.message.field import make_field
from sieve_ext.message.limits import MAILBOXES

RECIPIENT_FIELDS = ("to", "cc", "bcc")
RESENT_FIELDS = ("resent-to", "resent-cc", "resent-bcc")
HIDDEN_FIELDS = ("bcc", "resent-bcc")

UNREADABLE = "\ufffd"
"""What octets that are no UTF-8 are read as."""

_SYNTAX = re.compile(rb'[":(\\]')
"""Where a semicolon may be more than a separator of addresses."""
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_LINE_END = re.compile(rb"\r\n|\r|\n")


class RecipientError(ValueError):
    """An address that nothing can be sent to; the text says why."""


@dataclass(slots=True, frozen=True)
class Outgoing:
    """A message ready to be sent."""

    octets: bytes
    recipients: tuple[Address, ...]
    """Those of the command line and of the header, each once."""
    has_8bit: bool
    utf8_header: bool
    """The header has UTF-8: it needs SMTPUTF8 where that is offered. Latin-1 is not allowed there either."""


def cut_at_dot(octets: bytes) -> bytes:
    """What stands before the first line that is a single dot."""
    if octets in (b".", b".\n", b".\r\n") or octets.startswith((b".\n", b".\r\n")):
        return b""
    found = re.search(rb"(?<=\n)\.\r?(\n|\Z)", octets)
    return octets if found is None else octets[: found.start()]


def crlf(octets: bytes) -> bytes:
    """The same with CRLF at the end of each line, the last one too, and without NUL (RFC 5322 section 4)."""
    fixed = _LINE_END.sub(b"\r\n", octets.replace(b"\0", b""))
    return fixed if fixed.endswith(b"\r\n") or not fixed else fixed + b"\r\n"


def with_header_end(octets: bytes) -> bytes:
    """The same with the empty line between header and body, where a line that is no field begins the body.

    The "From " line of a mailbox before the header is left out.
    """
    if octets.startswith((b"From ", b">From ")):
        octets = octets[octets.find(b"\n") + 1 :]
    position = 0
    is_first = True
    while position < len(octets):
        end = octets.find(b"\r\n", position)
        line = octets[position:end]
        if not line:
            return octets
        is_continuation = line[:1] in (b" ", b"\t") and not is_first
        if not is_continuation and not _FIELD.match(line):
            break
        is_first = False
        position = end + 2
    return octets[:position] + b"\r\n" + octets[position:]


def prepare(
    octets: bytes,
    recipients: Sequence[str],
    *,
    from_header: bool,
    sender: Address,
    full_name: str,
    origin: str,
    hostname: str,
    now: float,
    entropy: Callable[[int], bytes],
) -> Outgoing:
    """Make the message. `origin` is the domain of addresses without one. Raises RecipientError."""
    message = Message(with_header_end(crlf(octets)))
    found = [address for word in recipients for address in read_recipients(as_octets(word), origin)]
    if from_header:
        found += _recipients_of(message, origin)
        message.remove([field for field in message.fields if field.key in HIDDEN_FIELDS])
    complete_header(message, origin)
    added, _ = missing_fields(message, now, hostname, entropy)
    if "from" not in message:
        # Mail needs an author (RFC 5322 section 3.6), and what has no sender is that of a mail system.
        nobody = parse_address(f"MAILER-DAEMON@{origin}")
        added = (from_field(nobody, "") if sender.is_null else from_field(sender, full_name)) + added
    if added:
        message.prepend(added)
    header = message.render_header()
    return Outgoing(
        b"".join(message.chunks()),
        tuple({(address.local, address.domain): address for address in found}.values()),
        message.has_8bit or not header.isascii(),
        not header.isascii() and _is_utf8(header),
    )


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def as_octets(word: str) -> bytes:
    """A word of the command line in UTF-8; octets of it that were none stay as they were."""
    return word.encode("utf-8", "surrogateescape")


def read_recipients(text: bytes, origin: str) -> list[Address]:
    """The addresses of a word of the command line, or of a header field. Raises RecipientError."""
    read = parse_addresses(text)
    if read.is_broken and b";" in text and not _SYNTAX.search(text):
        read = parse_addresses(text.replace(b";", b","))  # as Outlook shows a list, and people write one
    shown = textwrap.shorten(text.decode("utf-8", "replace"), 200, placeholder=" ...")
    if len(read.mailboxes) >= MAILBOXES:
        raise RecipientError(f"{shown}: more than {MAILBOXES} addresses")
    if any(UNREADABLE in mailbox.address for mailbox in read.mailboxes):
        raise RecipientError(f"{shown}: the address is neither ASCII nor UTF-8")
    if read.is_broken or any(not mailbox.local for mailbox in read.mailboxes):
        raise RecipientError(f"{shown}: no mail address")
    return [complete(mailbox, origin, shown) for mailbox in read.mailboxes]


def complete(mailbox: Mailbox, origin: str, shown: str) -> Address:
    """Its address, with `origin` as the domain if it has none. Raises RecipientError."""
    text = mailbox.address
    try:
        return parse_address(text if mailbox.domain else f"{text}@{origin}")
    except AddressError as error:
        raise RecipientError(f"{shown}: {error}") from error


def from_field(sender: Address, full_name: str) -> bytes:
    """A From field with its CRLF."""
    name = " ".join("".join(c if c.isprintable() else " " for c in full_name).split())
    if not name:
        return b"From: " + sender.text.encode() + b"\r\n"
    if name.isascii():
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'From: "{quoted}" <{sender.text}>\r\n'.encode()
    # An encoded word for the name alone: an address in one would be none (RFC 2047 section 5).
    word = make_field("X", name).raw.partition(b":")[2].strip()
    return b"From: " + word + b" <" + sender.text.encode() + b">\r\n"


def _recipients_of(message: Message, origin: str) -> Iterable[Address]:
    names = RESENT_FIELDS if any(name in message for name in RESENT_FIELDS) else RECIPIENT_FIELDS
    return [
        address
        for name in names
        for field in message.all(name)
        if field.unfolded.strip()
        for address in read_recipients(field.unfolded, origin)
    ]
