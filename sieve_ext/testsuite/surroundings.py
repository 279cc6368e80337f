"""What stands around a message in a test: the envelope, by default that which its header suggests."""

from __future__ import annotations

from sieve_ext.message import Message, parse_addresses
from sieve_ext.runtime.envelope import Envelope

USER = "tester"
"""The user whose scripts are run."""

POSTMASTER = "Postmaster <postmaster@example.com>"
"""The postmaster's address."""

HOST = "host.example.com"
"""The name of the host."""

PRODUCT = "Pigeonhole Sieve"
"""What the implementation calls itself: what files written for the reference implementation ask for."""

ENVIRONMENT = {
    "location": "MS",
    "phase": "post",
    "name": PRODUCT,
    "host": HOST,
    "domain": "example.com",
    "vnd.dovecot.username": USER,
    "vnd.dovecot.default-mailbox": "INBOX",
}
"""Items of the environment (RFC 5183) in a test."""

MESSAGE = b"From: sender@example.com\r\nTo: recipient@example.org\r\nSubject: Frop!\r\n\r\nFriep!\r\n"
"""The message before a test file sets one."""


def derived_envelope(message: Message) -> Envelope:
    """The envelope that a message would have come with."""
    recipient = _first(message, "envelope-to", "to") or "recipient@example.org"
    sender = _first(message, "return-path", "sender", "from") or "sender@example.com"
    return Envelope(sender, recipient, recipient, USER)


def _first(message: Message, *names: str) -> str:
    for name in names:
        field = message.get(name)
        if field is None:
            continue
        mailboxes, _ = parse_addresses(field.unfolded)
        if mailboxes and mailboxes[0].address:
            return mailboxes[0].address
    return ""


def envelope_address(text: str, *, may_be_local: bool) -> str | None:
    """The address that a test gives for an envelope, without brackets; "" is none, None is no address."""
    text = text.strip()
    if text in ("", "<>"):
        return ""
    mailboxes, is_broken = parse_addresses(text.encode("utf-8", "replace"))
    if is_broken or len(mailboxes) != 1:
        return None
    mailbox = mailboxes[0]
    if not mailbox.local or (not mailbox.domain and not may_be_local):
        return None
    return mailbox.address


def line_ends(text: str) -> bytes:
    """The octets of a message in a script: every line ends with CRLF, as on the wire."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode("utf-8", "replace")
