"""The ESMTP parameters of MAIL and RCPT, server side: from keyword and value to fields of the envelope.

`apply_mail_parameters` and `apply_rcpt_parameters` look each keyword up in one table, ask whether its
extension was offered in this session, and let its parser set the field. The parsers are public: each
takes the value as `mta.smtp.syntax.split_parameters` yields it and returns the typed value.

A keyword that nobody knows or that belongs to an extension that was not offered is answered 555 5.5.4
(RFC 5321 section 4.1.1.11), a bad or missing value 501 5.5.4. Everything raises SyntaxProblem; fields
set before that keep their value, so the caller drops the envelope. The way back, from envelope to
parameters for a next hop, is `mta.smtp.parameter_encoding`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from mta.address import AddressError, parse_address
from mta.envelope import BINARY_MIME, BodyType, DeliverBy, Envelope, OriginalRecipient, Recipient
from mta.reply import Reply
from mta.smtp.syntax import Parameters, SyntaxProblem
from mta.smtp.xtext import XtextError, parse_utf8_address, parse_xtext

MAX_SIZE_DIGITS = 20
"""Digits of SIZE (RFC 1870 section 3)."""
MAX_ENVID = 100
"""Characters of ENVID, encoded (RFC 3461 section 4.4)."""
MAX_ORCPT = 500
"""Characters of ORCPT with its address type, encoded (RFC 3461 section 4.2)."""
MAX_AUTH = 500
"""Characters of AUTH=, encoded (RFC 4954 section 5)."""
MAX_SECONDS_DIGITS = 9
"""Digits of BY and HOLDFOR in seconds: 31 years (RFC 2852 section 4, RFC 4865 section 4.1)."""
MAX_PRIORITY = 9
"""Largest MT-PRIORITY; the smallest is its negative (RFC 6710 section 3)."""

NOTIFY_WORDS = frozenset({"NEVER", "SUCCESS", "FAILURE", "DELAY"})


@dataclass(slots=True, frozen=True)
class ParameterLimits:
    """Bounds that the server announced in its EHLO reply; None bounds nothing."""

    max_hold_seconds: int | None = None
    """Longest HOLDFOR (max-future-release-interval of RFC 4865)."""
    latest_hold_until: datetime | None = None
    """Latest HOLDUNTIL, with a time zone (max-future-release-date-time of RFC 4865)."""
    min_by_seconds: int | None = None
    """Shortest BY in mode R (min-by-time of RFC 2852)."""


NO_LIMITS = ParameterLimits()


def apply_mail_parameters(
    envelope: Envelope, parameters: Parameters, offered: Collection[str], limits: ParameterLimits = NO_LIMITS
) -> None:
    """Set the fields of `envelope` that the parameters of MAIL name.

    `offered` holds the EHLO keywords, upper case, offered in this session; empty after HELO. Raises
    SyntaxProblem (501 5.5.4, 555 5.5.4).
    """
    for keyword, value in parameters:
        entry = _MAIL.get(keyword)
        if entry is None or entry[0] not in offered:
            raise _unknown("MAIL", keyword)
        entry[1](envelope, value)
    # `is` on a module name: looking a member up on an enumeration costs as much as setting the field.
    if envelope.body is BINARY_MIME and "BINARYMIME" not in offered:
        raise _unknown("MAIL", "BODY=BINARYMIME")
    if limits is not NO_LIMITS:
        _check_limits(envelope, limits)


def apply_rcpt_parameters(recipient: Recipient, parameters: Parameters, offered: Collection[str]) -> None:
    """Set the fields of `recipient` that the parameters of RCPT name; `offered` and errors as for MAIL."""
    for keyword, value in parameters:
        entry = _RCPT.get(keyword)
        if entry is None or entry[0] not in offered:
            raise _unknown("RCPT", keyword)
        entry[1](recipient, value)


def parse_size(value: str | None) -> int:
    """SIZE: octets, 0 when the client does not know (RFC 1870 section 6)."""
    if value is None or not value.isdecimal() or not value.isascii() or len(value) > MAX_SIZE_DIGITS:
        raise _bad("Bad SIZE value")
    return int(value)


def parse_body(value: str | None) -> BodyType:
    """BODY: 7BIT, 8BITMIME (RFC 6152) or BINARYMIME (RFC 3030), in any case."""
    body = _BODY_TYPES.get(value.upper() if value is not None else "")
    if body is None:
        raise _bad("Bad BODY value")
    return body


def parse_auth(value: str | None) -> str:
    """AUTH=: the mailbox that submitted the message, or "<>" (RFC 4954 section 5).

    What decodes but is no mailbox counts as "<>", which is what the RFC wants done with an identity that
    cannot be used. Whether the client may be believed is the caller's question.
    """
    if value is None or len(value) > MAX_AUTH:
        raise _bad("Bad AUTH value")
    try:
        decoded = parse_xtext(value)
    except XtextError as error:
        raise _bad("Bad AUTH value", str(error)) from error
    try:
        return parse_address(decoded).text
    except AddressError:
        return "<>"


def parse_ret(value: str | None) -> str:
    """RET: "FULL" or "HDRS" (RFC 3461 section 4.3)."""
    ret = value.upper() if value is not None else ""
    if ret not in ("FULL", "HDRS"):
        raise _bad("Bad RET value")
    return ret


def parse_envid(value: str | None) -> str:
    """ENVID: printable ASCII, decoded (RFC 3461 section 4.4)."""
    if value is None or len(value) > MAX_ENVID:
        raise _bad("Bad ENVID value")
    try:
        envid = parse_xtext(value)
    except XtextError as error:
        raise _bad("Bad ENVID value", str(error)) from error
    if not envid.isascii():
        raise _bad("Bad ENVID value")
    return envid


def parse_notify(value: str | None) -> frozenset[str]:
    """NOTIFY: NEVER alone, or some of SUCCESS, FAILURE and DELAY (RFC 3461 section 4.1)."""
    words = frozenset(value.upper().split(",")) if value is not None else frozenset[str]()
    if not words or not words <= NOTIFY_WORDS or ("NEVER" in words and len(words) > 1):
        raise _bad("Bad NOTIFY value")
    return words


def parse_orcpt(value: str | None) -> OriginalRecipient:
    """ORCPT: address type in lower case and decoded address (RFC 3461 section 4.2, RFC 6533 section 3).

    Postfix and others say rfc822 of addresses beyond ASCII too, which are those of type utf-8.
    """
    address_type, semicolon, encoded = value.partition(";") if value is not None else ("", "", "")
    address_type = address_type.lower()
    if not semicolon or not encoded or not _is_atom(address_type) or value is None or len(value) > MAX_ORCPT:
        raise _bad("Bad ORCPT value")
    try:
        if address_type == "utf-8":
            return OriginalRecipient(address_type, parse_utf8_address(encoded))
        address = parse_xtext(encoded)
    except XtextError as error:
        raise _bad("Bad ORCPT value", str(error)) from error
    if not address.isascii():
        if address_type != "rfc822":
            raise _bad("Bad ORCPT value", "an address outside ASCII that is not of type utf-8")
        address_type = "utf-8"
    return OriginalRecipient(address_type, address)


def parse_by(value: str | None) -> DeliverBy:
    """BY: seconds, mode N or R and whether to trace (RFC 2852 section 4); mode R needs a positive time."""
    time, semicolon, mode = value.partition(";") if value is not None else ("", "", "")
    mode = mode.upper()
    digits = time[1:] if time[:1] in ("-", "+") else time
    if not semicolon or not _is_number(digits) or mode not in ("N", "NT", "R", "RT"):
        raise _bad("Bad BY value")
    seconds = int(time)
    if mode[0] == "R" and seconds <= 0:
        raise _bad("BY in mode R needs a positive time")
    return DeliverBy(seconds, mode[0], len(mode) == 2)


def parse_hold_for(value: str | None) -> int:
    """HOLDFOR: seconds, positive (RFC 4865 section 4.1)."""
    if value is None or not _is_number(value) or int(value) == 0:
        raise _bad("Bad HOLDFOR value")
    return int(value)


def parse_hold_until(value: str | None) -> str:
    """HOLDUNTIL: an Internet date-time, as written (RFC 4865 section 4.1, RFC 3339)."""
    if value is None or parse_date_time(value) is None:
        raise _bad("Bad HOLDUNTIL value")
    return value.upper()


def parse_priority(value: str | None) -> int:
    """MT-PRIORITY: -9 to 9 (RFC 6710 section 3)."""
    digit = value.removeprefix("-") if value is not None else ""
    if value is None or len(digit) != 1 or not _is_number(digit) or value == "-0":
        raise _bad("Bad MT-PRIORITY value")
    return int(value)


def parse_flag(keyword: str, value: str | None) -> bool:
    """A parameter that takes no value: SMTPUTF8 (RFC 6531), REQUIRETLS (RFC 8689), PRDR."""
    if value is not None:
        raise _bad(f"{keyword} takes no value")
    return True


def parse_date_time(text: str) -> datetime | None:
    """An RFC 3339 date-time with its zone, in UTC; None when it is none.

    The range is the one that UTC can express, and a leap second counts as the second before it.
    """
    text = text.upper()
    if len(text) < 20 or text[10] != "T" or not text.isascii() or not _has_zone(text):
        return None
    if text[17:19] == "60":
        text = text[:17] + "59" + text[19:]
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _has_zone(text: str) -> bool:
    if text[4] + text[7] + text[13] + text[16] != "--::":
        return False
    rest = text[19:]
    if rest[0] == ".":
        rest = rest[1:].lstrip("0123456789")
        if not text[20].isdigit():
            return False
    return rest == "Z" or (len(rest) == 6 and rest[0] in "+-" and rest[3] == ":")


def _check_limits(envelope: Envelope, limits: ParameterLimits) -> None:
    if (
        limits.max_hold_seconds is not None
        and envelope.hold_for is not None
        and envelope.hold_for > limits.max_hold_seconds
    ):
        raise _bad("HOLDFOR is longer than offered")
    if limits.latest_hold_until is not None and envelope.hold_until is not None:
        until = parse_date_time(envelope.hold_until)
        if until is None or until > limits.latest_hold_until:
            raise _bad("HOLDUNTIL is later than offered")
    by = envelope.deliver_by
    if by is not None and by.mode == "R" and by.seconds < (limits.min_by_seconds or 0):
        raise _bad("BY is shorter than offered")


def _is_number(text: str) -> bool:
    return 0 < len(text) <= MAX_SECONDS_DIGITS and text.isascii() and text.isdigit()


def _is_atom(text: str) -> bool:
    return bool(text) and text.isascii() and text.replace("-", "a").isalnum()


def _bad(text: str, cause: str = "") -> SyntaxProblem:
    return SyntaxProblem(Reply(501, "5.5.4", text, cause=cause))


def _unknown(command: str, keyword: str) -> SyntaxProblem:
    # The keyword is a few safe characters of the client's own text: it helps whoever debugs the client.
    return SyntaxProblem(Reply(555, "5.5.4", f"Unsupported {command} parameter: {keyword[:32]}"))


_BODY_TYPES = {body.value: body for body in BodyType}

_MailEntry = tuple[str, Callable[[Envelope, str | None], None]]
_RcptEntry = tuple[str, Callable[[Recipient, str | None], None]]


def _set_size(envelope: Envelope, value: str | None) -> None:
    envelope.size = parse_size(value)


def _set_body(envelope: Envelope, value: str | None) -> None:
    envelope.body = parse_body(value)


def _set_smtputf8(envelope: Envelope, value: str | None) -> None:
    envelope.smtputf8 = parse_flag("SMTPUTF8", value)


def _set_auth(envelope: Envelope, value: str | None) -> None:
    envelope.auth = parse_auth(value)


def _set_ret(envelope: Envelope, value: str | None) -> None:
    envelope.ret = parse_ret(value)


def _set_envid(envelope: Envelope, value: str | None) -> None:
    envelope.envid = parse_envid(value)


def _set_require_tls(envelope: Envelope, value: str | None) -> None:
    envelope.require_tls = parse_flag("REQUIRETLS", value)


def _set_deliver_by(envelope: Envelope, value: str | None) -> None:
    envelope.deliver_by = parse_by(value)


def _set_hold_for(envelope: Envelope, value: str | None) -> None:
    envelope.hold_for = parse_hold_for(value)
    _check_one_hold(envelope)


def _set_hold_until(envelope: Envelope, value: str | None) -> None:
    envelope.hold_until = parse_hold_until(value)
    _check_one_hold(envelope)


def _check_one_hold(envelope: Envelope) -> None:
    if envelope.hold_for is not None and envelope.hold_until is not None:
        raise _bad("HOLDFOR and HOLDUNTIL exclude each other")


def _set_priority(envelope: Envelope, value: str | None) -> None:
    envelope.priority = parse_priority(value)


def _set_prdr(envelope: Envelope, value: str | None) -> None:
    envelope.prdr = parse_flag("PRDR", value)


def _set_notify(recipient: Recipient, value: str | None) -> None:
    recipient.notify = parse_notify(value)


def _set_original(recipient: Recipient, value: str | None) -> None:
    recipient.original = parse_orcpt(value)


_MAIL: dict[str, _MailEntry] = {
    "SIZE": ("SIZE", _set_size),
    "BODY": ("8BITMIME", _set_body),
    "SMTPUTF8": ("SMTPUTF8", _set_smtputf8),
    "AUTH": ("AUTH", _set_auth),
    "RET": ("DSN", _set_ret),
    "ENVID": ("DSN", _set_envid),
    "REQUIRETLS": ("REQUIRETLS", _set_require_tls),
    "BY": ("DELIVERBY", _set_deliver_by),
    "HOLDFOR": ("FUTURERELEASE", _set_hold_for),
    "HOLDUNTIL": ("FUTURERELEASE", _set_hold_until),
    "MT-PRIORITY": ("MT-PRIORITY", _set_priority),
    "PRDR": ("PRDR", _set_prdr),
}
"""Keyword of MAIL: the EHLO keyword of its extension, and what sets the field."""

_RCPT: dict[str, _RcptEntry] = {
    "NOTIFY": ("DSN", _set_notify),
    "ORCPT": ("DSN", _set_original),
}
"""Keyword of RCPT: the same."""
