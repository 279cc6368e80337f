"""Header fields of reports, safe whatever goes into them.

Servers of others answer with anything, and addresses and Message-IDs come from anywhere. Everything passes
`clean`, which leaves printable characters and single blanks, and `field`, which folds; so no value can end
its field, begin another one or make a line longer than `MAX_LINE`.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from mta.address import Address, AddressError
from mta.dsn.values import RecipientReport
from mta.envelope import OriginalRecipient
from mta.reply import Reply
from mta.smtp.xtext import encode_utf8_address

MAX_LINE = 998
"""Octets of a line without CRLF (RFC 5322 section 2.1.1)."""
FOLD_COLUMNS = 78
"""Octets of a line where a blank allows it (RFC 5322 section 2.1.1)."""
MAX_REPLY = 2000
"""Characters of a server's reply in a report. Four times the longest line that a server may send."""
MAX_MESSAGE_ID = 250
"""Characters of a Message-ID that a report refers to."""
MAX_REFERENCES = 10
"""Message-IDs in References: the first ones of a thread say nothing that the last ones do not."""

_WORD = 200
"""Characters of a word, beyond which it is cut: 800 octets at most."""


def clean(text: str, *, utf8: bool) -> str:
    """`text` on one line: printable characters (ASCII without `utf8`), "?" for others, single blanks."""
    if not (text.isprintable() and (utf8 or text.isascii())):
        text = "".join(
            c if c.isprintable() and (utf8 or c.isascii()) else " " if c.isspace() and c.isascii() else "?"
            for c in text
        )
    return " ".join(text.split())


def field(name: str, value: str, *, utf8: bool = False) -> bytes:
    """A header field with its CRLF, folded at blanks; words that fit no line are cut. b"" for nothing."""
    words = list(_words(clean(value, utf8=utf8)))
    if not words:
        return b""
    lines: list[bytes] = []
    line = f"{name}: ".encode() + words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) <= FOLD_COLUMNS:
            line += b" " + word
        else:
            lines.append(line)
            line = b" " + word
    lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"


def address_field(name: str, kind: str, address: str, *, utf8: bool) -> bytes:
    """A field "type; address", as it is: blanks in a quoted local part count."""
    return verbatim_field(name, f"{kind}; {address}", utf8=utf8)


def verbatim_field(name: str, value: str, *, utf8: bool) -> bytes:
    """A field on one line with all its blanks.

    One that fits no line is folded and so damaged; nothing that a session accepts is as long as that.
    """
    text = "".join(c if c.isprintable() and (utf8 or c.isascii()) else "?" for c in value)
    line = f"{name}: {text}\r\n".encode()
    return line if len(line) <= MAX_LINE + 2 else field(name, value, utf8=utf8)


def final_recipient(address: Address, *, utf8: bool) -> bytes:
    """Final-Recipient (RFC 3464 section 2.3.2; type utf-8: RFC 6533 section 3)."""
    if address.text.isascii():
        return address_field("Final-Recipient", "rfc822", address.text, utf8=utf8)
    return _utf8_field("Final-Recipient", address.text, utf8=utf8)


def original_recipient(original: OriginalRecipient, *, utf8: bool) -> bytes:
    """Original-Recipient from ORCPT, decoded (RFC 3464 section 2.3.1, RFC 3461 section 6.3)."""
    kind = clean(original.address_type, utf8=False).replace(" ", "").replace(";", "")
    if kind == "utf-8":
        return _utf8_field("Original-Recipient", original.address, utf8=utf8)
    return address_field("Original-Recipient", kind, original.address, utf8=utf8)


def diagnostic(report: RecipientReport, *, utf8: bool) -> bytes:
    """Diagnostic-Code: the reply of a server, or our own reason (RFC 3464 section 2.3.6); b"" without one.

    The reply of a server has type "smtp", for LMTP too, whose replies are the same. What we say ourselves
    has a type of its own, so that no program takes it for somebody else's reply.
    """
    if report.reply is None:
        return b""
    kind = "smtp" if report.peer else "X-Tamis"
    return field("Diagnostic-Code", f"{kind}; {reply_text(report.reply)}", utf8=utf8)


def reply_text(reply: Reply) -> str:
    """A reply on one line: code, enhanced code, text, at most `MAX_REPLY` characters of it; not cleaned.

    An enhanced code that says nothing is left out: most servers that seem to send it have sent none.
    """
    enhanced = "" if reply.enhanced == f"{reply.code // 100}.0.0" else reply.enhanced
    parts = (str(reply.code), enhanced, *reply.text.split("\n"))
    text = " ".join(part for part in parts if part)
    return text if len(text) <= MAX_REPLY else text[: MAX_REPLY - 4] + " ..."


def peer_name(peer: str) -> str:
    """The name or address literal of a server for Remote-MTA (RFC 3464 section 2.3.5).

    `peer` is "host:port", or "host[address]:port" for a server of the world; "" for none and for a socket's
    path, which means nothing outside of this machine.
    """
    if not peer or peer.startswith("/"):
        return ""
    host, colon, port = peer.rpartition(":")
    if not colon or not port.isdigit():
        host = peer
    if not host.startswith("["):
        host = host.partition("[")[0]
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ip_address(host)
    except ValueError:
        return clean(host, utf8=False)
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


def message_ids(text: str) -> list[str]:
    """The well-formed Message-IDs in a field's text, with their brackets, in order."""
    return [
        word
        for word in text.split()
        if 3 <= len(word) <= MAX_MESSAGE_ID
        and word[0] == "<"
        and word[-1] == ">"
        and word.isascii()
        and word.isprintable()
        and not {"<", ">"} & set(word[1:-1])
    ]


def mailbox(address: Address, *, utf8: bool) -> str:
    """An address for To, in ASCII where that is possible; an empty group when it cannot be written without
    `utf8` (RFC 5322 section 3.4)."""
    try:
        text = address.to_ascii().text
    except AddressError:
        if not utf8:
            return "sender:;"
        text = address.text
    return f"<{text}>" if text else "sender:;"


def _utf8_field(name: str, address: str, *, utf8: bool) -> bytes:
    """Plain UTF-8 in message/global-delivery-status, all ASCII in message/delivery-status (RFC 6533)."""
    if utf8:
        return address_field(name, "utf-8", address, utf8=True)
    return address_field(name, "utf-8", encode_utf8_address(address, unitext=False), utf8=False)


def _words(text: str) -> Iterable[bytes]:
    for word in text.split():
        for start in range(0, len(word), _WORD):
            yield word[start : start + _WORD].encode()
