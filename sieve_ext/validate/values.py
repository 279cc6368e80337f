"""What must hold of a string by its meaning: addresses, header names. Each returns what is wrong, or None.

The same functions serve constants when a script is loaded and strings with variables when it runs.
"""

from __future__ import annotations

import re

from sieve_ext.message import Mailbox, is_field_name, parse_addresses

_ascii_local = re.compile(r"[\x21-\x7e ]+", re.ASCII).fullmatch
_domain = re.compile(
    r"[^\x00-\x20\x7f()<>\[\]:;@\\,\".]+(?:\.[^\x00-\x20\x7f()<>\[\]:;@\\,\".]+)*"
    r"|\[[^\x00-\x20\x7f\[\]\\]+\]"
).fullmatch

ADDRESS_OCTETS = 320
"""Longest address: 64 for the local part, 255 for the domain (RFC 5321 section 4.5.3.1), one for the "@"."""

ADDRESS_HEADERS = frozenset(
    [
        *("from", "to", "cc", "bcc", "sender", "reply-to"),
        *("resent-from", "resent-to", "resent-cc", "resent-bcc", "resent-sender", "resent-reply-to"),
        *("delivered-to", "x-original-to", "errors-to", "return-receipt-to", "disposition-notification-to"),
        *("mail-followup-to", "mail-reply-to", "apparently-to", "x-beenthere", "return-path"),
        *("abuse-reports-to", "x-complaints-to", "envelope-to", "x-envelope-from", "x-envelope-to"),
    ]
)
"""Fields that hold addresses, lower case: those of RFC 5228 section 5.1 and what programs add."""


def read_address(text: str) -> Mailbox | str:
    """The one address that `text` is, with or without a display name; or why it is none, as text."""
    if not text.strip():
        return "empty address"
    if len(text) > ADDRESS_OCTETS * 2:
        return "address is too long"
    found, broken = parse_addresses(text.strip().encode("utf-8", "replace"))
    if len(found) > 1:
        return "not a single address (found ',')"
    if not found or broken:
        return "not an address"
    mailbox = found[0]
    if mailbox.group:
        return "a group is no single address"
    if not mailbox.domain:
        return f"invalid or lonely local part '{mailbox.local}' (expecting '@')"
    if not _ascii_local(mailbox.local):
        return "invalid local part"
    if not _domain(mailbox.domain) or text.rstrip(" \t\r\n>").endswith("."):
        return "invalid or missing domain"
    return mailbox


def normal_address(text: str) -> str | None:
    """local@domain of an address, None if it is none."""
    mailbox = read_address(text)
    return mailbox.address if isinstance(mailbox, Mailbox) else None


def redirect_address(text: str) -> str | None:
    """What is wrong with the address of a redirect."""
    problem = read_address(text)
    if isinstance(problem, str):
        return f"specified redirect address '{text}' is invalid: {problem}"
    return None


def header_name(text: str) -> str | None:
    """What is wrong with the name of a header field."""
    if text and is_field_name(text):
        return None
    return f"specified header field name '{text}' is invalid"


def address_header(text: str) -> str | None:
    """What is wrong with the name of a field whose addresses are to be read."""
    if text.lower() in ADDRESS_HEADERS:
        return None
    return f"specified header '{text}' is not allowed for the address test"
