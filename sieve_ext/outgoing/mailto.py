"""mailto URIs (RFC 6068) as the method of a notification (RFC 5436)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from sieve_ext.message import is_field_name
from sieve_ext.validate.values import normal_address, read_address

RECIPIENTS = 8
"""Recipients of one notification; more are ignored."""

FIELDS = 16
"""Further header fields that one URI may set; more are ignored."""

RESERVED = frozenset(
    [
        *("auto-submitted", "received", "message-id", "date", "bcc", "from", "sender", "return-path"),
        *("mime-version", "content-type", "content-transfer-encoding", "precedence", "x-sieve"),
        *("x-priority", "importance", "resent-from", "resent-to", "resent-cc", "resent-bcc"),
        *("in-reply-to", "references"),
    ]
)
"""Fields that a URI may not set (RFC 5436 section 2.7), and those that the notification has already."""

_bad_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_in_address = re.compile(r"[^A-Za-z0-9\-._~!$&'*+,@%/]").search
_in_field = re.compile(r"[^A-Za-z0-9\-._~!$'()*+,;:@=%]").search
"""What may not stand as it is in the address, and in names and values of fields (RFC 6068 section 2)."""


@dataclass(slots=True, frozen=True)
class Recipient:
    """One recipient of a notification."""

    text: str
    """As the URI has it, perhaps with a display name."""
    address: str
    is_copy: bool = False
    """It stands in Cc."""


@dataclass(slots=True)
class Mailto:
    """What a URI asks for."""

    recipients: list[Recipient] = field(default_factory=list)
    subject: str | None = None
    body: str | None = None
    fields: list[tuple[str, str]] = field(default_factory=list)
    """Further header fields."""
    error: str | None = None
    """Why it is none."""
    warnings: list[str] = field(default_factory=list)
    """What of it is ignored."""


def parse_mailto(uri: str) -> Mailto:
    """Read a URI, which begins with `mailto:` in whatever case; never raises."""
    found = Mailto()
    try:
        _read(uri.partition(":")[2], found)
    except ValueError as error:
        found.error = str(error)
    if found.error is None and not found.recipients:
        found.warnings.append("notification URI specifies no recipients")
    return found


def _read(rest: str, found: Mailto) -> None:
    to, _, query = rest.partition("?")
    _add_recipients(_decode(to, "'to' part", _in_address), False, found)
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        key = _decode(name, "header field name part").lower()
        text = _decode(value, "header field value part")
        if not key:
            continue
        if not is_field_name(key):
            raise ValueError(f"invalid header field name '{key[:100]}'")
        _add_field(key, text, found)


def _add_field(key: str, text: str, found: Mailto) -> None:
    match key:
        case "to" | "cc":
            _add_recipients(text, key == "cc", found)
        case "subject":
            if found.subject is not None:
                found.warnings.append("ignored duplicate subject field")
            else:
                found.subject = text
        case "body":
            if found.body is not None:
                found.warnings.append("ignored duplicate body field")
            else:
                found.body = text
        case _ if key in RESERVED:
            found.warnings.append(f"ignored reserved header field '{key}'")
        case _ if len(found.fields) >= FIELDS:
            found.warnings.append(f"ignored header field '{key}': more than {FIELDS} are specified")
        case _:
            found.fields.append((key.title(), text))


def _add_recipients(text: str, is_copy: bool, found: Mailto) -> None:
    if not text.strip():
        return
    whole = read_address(text)
    pieces = [text] if not isinstance(whole, str) else _split(text)
    for piece in pieces:
        address = normal_address(piece)
        if address is None:
            raise ValueError(f"invalid recipient '{piece.strip()[:200]}': {read_address(piece)}")
        if any(one.address.lower() == address.lower() for one in found.recipients):
            found.warnings.append(f"ignored duplicate recipient '{address}'")
        elif len(found.recipients) >= RECIPIENTS:
            found.warnings.append(f"ignored recipient '{address}': more than {RECIPIENTS} are specified")
        else:
            found.recipients.append(Recipient(piece.strip(), address, is_copy))


def _split(text: str) -> list[str]:
    """At commas outside of quotation marks."""
    return [piece for piece in re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', text) if piece.strip()]


def _decode(text: str, where: str, forbidden: Callable[[str], re.Match[str] | None] = _in_field) -> str:
    if _bad_escape(text):
        raise ValueError("invalid % encoding")
    wrong = forbidden(text)
    if wrong is not None:
        raise ValueError(f"invalid character '{wrong[0]}' in {where}")
    return unquote_to_bytes(text.encode("utf-8", "replace")).decode("utf-8", "replace")
