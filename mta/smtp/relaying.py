"""What a message asks of the next hop, and what the next hop can do: the meeting of envelope and EHLO.

Pure functions that decide, before anything is sent, whether a message may go to this server at all
(`refusal`), how its addresses are spelt there (`path`), and how MAIL and RCPT read (`mail_command`,
`rcpt_command`).

An extension that the server does not offer is left out where the RFC lets a relay do that, and is a
refusal with the code of its RFC where it does not: a size over the announced one (RFC 1870), binary content
(RFC 3030), 8-bit content (RFC 6152, if so configured), UTF-8 addresses and header fields (RFC 6531),
REQUIRETLS (RFC 8689) and DELIVERBY in mode R (RFC 2852). LMTP is final delivery, not relaying: the last
two rest with us there.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from mta.address import Address, AddressError, has_controls
from mta.envelope import BINARY_MIME, SEVEN_BIT, Envelope, Recipient
from mta.reply import Reply
from mta.session import Session
from mta.smtp.capabilities import size_limit
from mta.smtp.parameter_encoding import encode_mail_parameters, encode_rcpt_parameters

MAX_COMMAND = 2048
"""Octets of a command that we send. RFC 5321 section 4.5.3.1.4 allows 512 and each extension adds to it
(about 1,800 in all for MAIL, 1,600 for RCPT); no server has to take more."""

TOO_LARGE = Reply(552, "5.3.4", "The message is larger than the next server accepts")
NEEDS_BINARY = Reply(554, "5.6.3", "The next server does not accept binary content")
NEEDS_8BIT = Reply(554, "5.6.3", "The next server does not accept 8-bit content")
NEEDS_UTF8_HEADER = Reply(554, "5.6.9", "The next server does not accept header fields in UTF-8")
NEEDS_UTF8_SENDER = Reply(553, "5.6.7", "The next server does not accept the sender's non-ASCII address")
NEEDS_UTF8_RECIPIENT = Reply(553, "5.6.7", "The next server does not accept non-ASCII addresses")
NEEDS_TLS = Reply(550, "5.7.30", "The next server does not support REQUIRETLS")
NEEDS_DELIVER_BY = Reply(554, "5.3.3", "The next server does not support the DELIVERBY that was asked for")
UNSENDABLE = Reply(553, "5.1.3", "The address cannot be sent to the next server")
CANNOT = frozenset(
    (
        TOO_LARGE,
        NEEDS_BINARY,
        NEEDS_8BIT,
        NEEDS_UTF8_HEADER,
        NEEDS_UTF8_SENDER,
        NEEDS_UTF8_RECIPIENT,
        NEEDS_TLS,
        NEEDS_DELIVER_BY,
        UNSENDABLE,
    )
)
"""What we say for a server that lacks something: it was not asked, and another one may have it."""


# Looked up for each message; a global is cheaper than an attribute of an Enum.


class ContentFacts(Struct, frozen=True):
    """What the next hop has to know of the content before it comes."""

    size: int
    has_8bit: bool = False
    has_utf8_header: bool = False
    """A header field has octets over 127 (RFC 6532)."""
    plain: bool = False
    """Known to have no line that begins with a dot and no CR or LF outside of CRLF."""


def refusal(
    envelope: Envelope,
    facts: ContentFacts,
    offered: Mapping[str, str],
    *,
    lmtp: bool,
    secure: bool,
    eight_bit_anyway: bool,
) -> Reply | None:
    """The reply for all recipients when this message may not go to this server, else None.

    `secure` says that the connection has TLS with a verified certificate. `eight_bit_anyway` sends 8-bit
    content to a server without 8BITMIME as it is: nearly all take it, and there is no conversion here.
    """
    limit = size_limit(offered)
    if limit and facts.size > limit:
        return TOO_LARGE
    if envelope.body is BINARY_MIME and not ("BINARYMIME" in offered and "CHUNKING" in offered):
        return NEEDS_BINARY
    if facts.has_8bit and not eight_bit_anyway and "8BITMIME" not in offered:
        return NEEDS_8BIT
    if envelope.smtputf8 and "SMTPUTF8" not in offered:
        if facts.has_utf8_header and not lmtp:
            return NEEDS_UTF8_HEADER
        if not envelope.sender.local.isascii():
            return NEEDS_UTF8_SENDER
    if not lmtp:
        if envelope.require_tls and not (secure and "REQUIRETLS" in offered):
            return NEEDS_TLS
        if envelope.deliver_by and envelope.deliver_by.mode == "R" and "DELIVERBY" not in offered:
            return NEEDS_DELIVER_BY
    return None


def path(address: Address, offered: Mapping[str, str], *, smtputf8: bool = True) -> bytes | None:
    """The address between angle brackets as this server may read it, None when there is no such spelling.

    Without SMTPUTF8, which the server does not offer or the message (`smtputf8`) did not come with, the
    domain goes as A-labels (RFC 6531 section 3.2); a local part has no other form. Whatever an address value
    was made of, no CR, LF, NUL or other control character is ever sent.
    """
    text = address.text
    if has_controls(text):
        return None
    if not text.isascii() and not (smtputf8 and "SMTPUTF8" in offered):
        try:
            text = address.to_ascii().text
        except AddressError:
            if "SMTPUTF8" not in offered:
                return None
    if ("<" in text or ">" in text) and not text.startswith('"'):
        return None  # legal in a quoted local part alone
    return f"<{text}>".encode()


def mail_command(
    envelope: Envelope,
    facts: ContentFacts,
    offered: Mapping[str, str],
    sender: bytes,
    *,
    prdr: bool,
    utf8: bool = False,
) -> tuple[bytes, bool]:
    """The MAIL command with the parameters that this server takes; and whether PRDR is among them.

    `prdr` says that a reply for each recipient is welcome, `utf8` that one of them is not ASCII. 8-bit
    content is declared as such even when our client did not, and so are addresses.
    """
    if not offered:
        return b"MAIL FROM:" + sender + b"\r\n", False
    parameters = encode_mail_parameters(envelope, offered, size=facts.size)
    if facts.has_8bit and envelope.body is SEVEN_BIT and "8BITMIME" in offered:
        parameters += " BODY=8BITMIME"
    if not envelope.smtputf8 and (utf8 or not sender.isascii()):
        parameters += " SMTPUTF8"
    prdr = "PRDR" in offered and (prdr or envelope.prdr)
    if prdr and not envelope.prdr:
        parameters += " PRDR"
    return b"MAIL FROM:" + sender + parameters.encode("utf-8") + b"\r\n", prdr


def rcpt_command(recipient: Recipient, offered: Mapping[str, str], forward_path: bytes) -> bytes:
    """The RCPT command with the parameters that this server takes."""
    if recipient.notify is None and recipient.original is None:
        return b"RCPT TO:" + forward_path + b"\r\n"
    parameters = encode_rcpt_parameters(recipient, offered)
    return b"RCPT TO:" + forward_path + parameters.encode("ascii") + b"\r\n"


def client_attributes(session: Session) -> dict[str, str]:
    """What XCLIENT and XFORWARD tell a next hop about the client of a session.

    What a trusted peer forwarded to us takes the place of what we see ourselves: it knows the first client,
    and what it does not say of that one is not known.
    """
    known = session.forwarded or {
        "NAME": session.client_name,
        "ADDR": session.client_ip,
        "PORT": str(session.client_port) if session.client_port else "",
        "HELO": session.helo,
        "PROTO": "LMTP" if session.protocol == "lmtp" else "ESMTP" if session.esmtp else "SMTP",
        "LOGIN": session.user,
    }
    return {name: value for name, value in known.items() if value}
