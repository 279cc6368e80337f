"""What a server session offers in its answer to EHLO or LHLO.

`EXTENSIONS` is the table of every extension that the engine knows; `Offer` computes what is offered now,
for that depends on the protocol, on TLS, on authentication and on who the client is. A keyword that is
not offered is not honoured either: its MAIL and RCPT parameters are refused with 555 5.5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import NamedTuple

from mta.smtp.parameters import NO_LIMITS, ParameterLimits


@dataclass(slots=True, frozen=True)
class Extension:
    """One EHLO keyword: where it is specified, and whether a session offers it unless configured."""

    keyword: str
    rfc: str
    default: bool = True
    """False: only offered when the configuration says that what is behind it is honoured."""


EXTENSIONS: tuple[Extension, ...] = (
    Extension("PIPELINING", "RFC 2920"),
    Extension("SIZE", "RFC 1870"),
    Extension("8BITMIME", "RFC 6152"),
    Extension("SMTPUTF8", "RFC 6531"),
    Extension("ENHANCEDSTATUSCODES", "RFC 2034"),
    Extension("CHUNKING", "RFC 3030"),
    Extension("BINARYMIME", "RFC 3030"),
    Extension("PRDR", "draft-hall-prdr-00"),
    Extension("LIMITS", "RFC 9422"),
    Extension("STARTTLS", "RFC 3207"),
    Extension("AUTH", "RFC 4954"),
    Extension("DSN", "RFC 3461", default=False),
    Extension("REQUIRETLS", "RFC 8689"),
    Extension("DELIVERBY", "RFC 2852", default=False),
    Extension("FUTURERELEASE", "RFC 4865", default=False),
    Extension("MT-PRIORITY", "RFC 6710", default=False),
    Extension("ETRN", "RFC 1985", default=False),
    Extension("VRFY", "RFC 5321"),
    Extension("HELP", "RFC 5321"),
    Extension("XCLIENT", "Postfix XCLIENT_README"),
    Extension("XFORWARD", "Postfix XFORWARD_README"),
)

DEFAULT_OFFER = frozenset(extension.keyword for extension in EXTENSIONS if extension.default)
"""Keywords that need nothing but the engine."""

XCLIENT_ATTRIBUTES = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
XFORWARD_ATTRIBUTES = "NAME ADDR PORT PROTO HELO IDENT SOURCE"


class Conditions(NamedTuple):
    """What the offer depends on, besides the settings."""

    tls: bool
    starttls: bool
    """A certificate is there and the listener uses STARTTLS."""
    mechanisms: tuple[str, ...]
    """SASL mechanisms for this client now; none: AUTH is not offered."""
    trusted_xclient: bool = False
    trusted_xforward: bool = False


@dataclass(slots=True, frozen=True)
class Numbers:
    """Numbers that EHLO announces."""

    max_size: int
    max_recipients: int
    max_transactions: int
    limits: ParameterLimits = NO_LIMITS
    """FUTURERELEASE is offered with both of its bounds or not at all (RFC 4865 section 4)."""


def offer(
    enabled: frozenset[str], numbers: Numbers, conditions: Conditions
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The lines of the EHLO answer after the first, and the keywords in them.

    `enabled` are the keywords of the configuration. What needs the BODY parameter goes with 8BITMIME, which
    defines it: its clients send BODY whether 8BITMIME is offered or not.
    """
    lines: list[str] = []
    keywords: set[str] = set()
    for extension in EXTENSIONS:
        keyword = extension.keyword
        if keyword not in enabled:
            continue
        line = keyword
        match keyword:
            case "SIZE":
                line = f"SIZE {numbers.max_size}"
            case "LIMITS":
                line = f"LIMITS RCPTMAX={numbers.max_recipients}"
                if numbers.max_transactions:
                    line += f" MAILMAX={numbers.max_transactions}"
            case "STARTTLS":
                if conditions.tls or not conditions.starttls:
                    continue
            case "AUTH":
                if not conditions.mechanisms:
                    continue
                line = "AUTH " + " ".join(conditions.mechanisms)
            case "REQUIRETLS":
                if not conditions.tls:  # RFC 8689 section 4.1: only inside TLS
                    continue
            case "DELIVERBY":
                if numbers.limits.min_by_seconds:
                    line = f"DELIVERBY {numbers.limits.min_by_seconds}"
            case "FUTURERELEASE":
                limits = numbers.limits
                if limits.max_hold_seconds is None or limits.latest_hold_until is None:
                    continue
                until = limits.latest_hold_until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                line = f"FUTURERELEASE {limits.max_hold_seconds} {until}"
            case "BINARYMIME":
                if "CHUNKING" not in enabled or "8BITMIME" not in enabled:
                    continue
            case "SMTPUTF8":
                if "8BITMIME" not in enabled:  # RFC 6531 section 3.1
                    continue
            case "XCLIENT":
                if not conditions.trusted_xclient:
                    continue
                line = f"XCLIENT {XCLIENT_ATTRIBUTES}"
            case "XFORWARD":
                if not conditions.trusted_xforward:
                    continue
                line = f"XFORWARD {XFORWARD_ATTRIBUTES}"
        lines.append(line)
        keywords.add(keyword)
    return tuple(lines), frozenset(keywords)
