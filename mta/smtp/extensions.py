"""What a server session offers in its answer to EHLO or LHLO.

`EXTENSIONS` is the table of every extension that the engine knows; `Offer` computes what is offered now,
for that depends on the protocol, on TLS, on authentication and on who the client is. A keyword that is
not offered is not honoured either: its MAIL and RCPT parameters are refused with 555 5.5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


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
    Extension("BINARYMIME", "RFC 3030", default=False),
    Extension("PRDR", "draft-hall-prdr-00"),
    Extension("LIMITS", "RFC 9422"),
    Extension("STARTTLS", "RFC 3207"),
    Extension("AUTH", "RFC 4954"),
    Extension("DSN", "RFC 3461", default=False),
    Extension("REQUIRETLS", "RFC 8689", default=False),
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


@dataclass(slots=True, frozen=True)
class Conditions:
    """What the offer depends on, besides the settings."""

    tls: bool
    starttls: bool
    """A certificate is there and the listener uses STARTTLS."""
    mechanisms: tuple[str, ...]
    """SASL mechanisms for this client now; none: AUTH is not offered."""
    trusted_xclient: bool = False
    trusted_xforward: bool = False


@dataclass(slots=True, frozen=True)
class Parameters:
    """Numbers that EHLO announces."""

    max_size: int
    max_recipients: int
    max_transactions: int
    min_deliver_by: int = 0
    """Seconds, the smallest by-time accepted (RFC 2852 section 4.1); 0: none announced."""
    max_hold: int = 7 * 86400
    """Seconds, the longest future release (RFC 4865 section 4)."""
    max_hold_until: str = ""
    """The latest date of a future release, RFC 3339; FUTURERELEASE is not offered without it."""


@lru_cache(maxsize=256)
def offer(
    enabled: frozenset[str], parameters: Parameters, conditions: Conditions
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The lines of the EHLO answer after the first, and the keywords in them.

    `enabled` are the keywords of the configuration.
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
                line = f"SIZE {parameters.max_size}"
            case "LIMITS":
                line = f"LIMITS RCPTMAX={parameters.max_recipients} MAILMAX={parameters.max_transactions}"
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
                if parameters.min_deliver_by:
                    line = f"DELIVERBY {parameters.min_deliver_by}"
            case "FUTURERELEASE":
                if not parameters.max_hold_until:
                    continue
                line = f"FUTURERELEASE {parameters.max_hold} {parameters.max_hold_until}"
            case "BINARYMIME":
                if "CHUNKING" not in enabled:
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
