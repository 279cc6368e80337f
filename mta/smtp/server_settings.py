"""What the sessions of a listener share: names, numbers and rules, each with its default."""

from __future__ import annotations

from dataclasses import dataclass

from mta.smtp.extensions import DEFAULT_OFFER


@dataclass(slots=True, frozen=True)
class ServerSettings:
    """What a listener's sessions share."""

    hostname: str
    protocol: str = "smtp"
    """ "smtp", "submission" or "lmtp"."""
    greeting: str = "Tamis"
    max_size: int = 50 * 1024 * 1024
    """Octets of a message (RFC 1870)."""
    max_recipients: int = 1000
    """Recipients of a message; RFC 5321 section 4.5.3.1.8 asks for at least 100."""
    max_transactions: int = 1000
    """Messages in a session: balances long-lived clients over workers and generations."""
    max_errors: int = 20
    """Refused commands in a session before it is ended: harvesting and guessing."""
    max_idle_commands: int = 100
    """Commands in a row that move no mail."""
    normalise_line_ends: bool = False
    """Bare CR and LF become CRLF; otherwise the message is refused."""
    refuse_nul: bool = True
    offered: frozenset[str] = DEFAULT_OFFER
    starttls: bool = False
    require_tls: bool = False
    """Refuse everything but NOOP, EHLO, STARTTLS and QUIT before TLS (530 5.7.0)."""
    min_deliver_by: int = 0
    max_hold: int = 7 * 86400
    max_hold_until: str = ""
