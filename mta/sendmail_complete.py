"""Addresses without a domain in the header of a message that a program of this machine gives us; pure.

Cron writes `From: root (Cron Daemon)`. Outside of the machine that is no address: other servers refuse the
message (RFC 5322 section 3.4.1 wants a domain), or an answer goes nowhere.
"""

from __future__ import annotations

import re

from sieve_ext.message import Message
from sieve_ext.message.addresses import Mailbox, parse_addresses

ADDRESS_FIELDS = tuple(
    prefix + name for prefix in ("", "resent-") for name in ("from", "sender", "reply-to", "to", "cc", "bcc")
)
"""The fields that hold addresses (RFC 5322 section 3.6)."""

_TOKEN = re.compile(
    rb"(?P<blank>\s++)"
    rb'|(?P<word>[^()<>\[\]:;@\\,".\s]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")'
    rb"|(?P<special>.)",
    re.DOTALL,
)
_COMMENT_TOKEN = re.compile(rb"[()]|\\.", re.DOTALL)


def complete_header(message: Message, origin: str) -> None:
    """Give each address of the header that has no domain that of `origin`.

    A field that cannot be read for sure stays as it is.
    """
    for key in ADDRESS_FIELDS:
        for number, field in enumerate(message.all(key), 1):
            value = completed(field.value, origin)
            if value is not None:
                message.replace(field.name, number, value, separator=b"")


def completed(value: bytes, origin: str) -> bytes | None:
    """The value of a field with `@origin` behind each bare local part, all else octet by octet as it was.

    None when there is nothing to do, or when the field is broken.
    """
    read = parse_addresses(_unfolded(value))
    if read.is_broken or not any(_is_bare(mailbox) for mailbox in read.mailboxes):
        return None
    domain = b"@" + origin.encode()
    pieces: list[bytes] = []
    begin = 0
    for end in _bare_ends(value):
        pieces += (value[begin:end], domain)
        begin = end
    new = b"".join((*pieces, value[begin:]))
    wanted = [(m.local, origin if _is_bare(m) else m.domain) for m in read.mailboxes]
    found = parse_addresses(_unfolded(new))
    if found.is_broken or [(m.local, m.domain) for m in found.mailboxes] != wanted:
        return None
    return new


def _is_bare(mailbox: Mailbox) -> bool:
    return bool(mailbox.local) and not mailbox.domain


def _unfolded(value: bytes) -> bytes:
    return value.replace(b"\r\n", b"").strip(b" \t\r")


def _bare_ends(value: bytes) -> list[int]:
    """The places behind local parts that have no domain."""
    ends: list[int] = []
    last_word = -1
    has_domain = is_closed = False
    position = 0
    while (token := _TOKEN.match(value, position)) is not None:
        position = token.end()
        text = token.group()
        if token.lastgroup == "word":
            last_word = position
        elif text == b"(":
            position = _comment_end(value, position)
        elif text == b"@":
            has_domain = True
        elif text in (b"<", b":"):  # what stands before is a name
            last_word, has_domain = -1, False
        elif text in (b">", b",", b";"):
            if last_word >= 0 and not has_domain and not is_closed:
                ends.append(last_word)
            last_word, has_domain, is_closed = -1, False, text == b">"
    if last_word >= 0 and not has_domain and not is_closed:
        ends.append(last_word)
    return ends


def _comment_end(value: bytes, start: int) -> int:
    depth = 1
    for match in _COMMENT_TOKEN.finditer(value, start):
        depth += {b"(": 1, b")": -1}.get(match.group(), 0)
        if not depth:
            return match.end()
    return len(value)
