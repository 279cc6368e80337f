"""What the sessions of a listener share: names, numbers and rules, each with its default."""

from __future__ import annotations

from dataclasses import dataclass, field

from mta.reply import Reply
from mta.smtp.extensions import DEFAULT_OFFER, Conditions
from mta.smtp.parameters import NO_LIMITS, ParameterLimits


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
    """Messages in a session, 0 for no limit: balances long-lived clients over workers and generations."""
    max_errors: int = 20
    """Refused commands in a session before it is ended: harvesting and guessing."""
    max_idle_commands: int = 100
    """Commands in a row that move no mail."""
    normalise_line_ends: bool = False
    """Bare CR and LF become CRLF; otherwise the message is refused."""
    strip_nul: bool = False
    """NUL is removed; otherwise the message is refused."""
    offered: frozenset[str] = DEFAULT_OFFER
    starttls: bool = False
    require_tls: bool = False
    """Refuse everything but NOOP, EHLO, STARTTLS and QUIT before TLS (530 5.7.0)."""
    qualify_domain: str = ""
    """Domain that senders and recipients without one get; "": they are refused."""
    parameter_limits: ParameterLimits = NO_LIMITS
    """Bounds of HOLDFOR, HOLDUNTIL and BY, announced in EHLO where their extensions are offered."""
    answers: dict[Conditions | None, tuple[Reply, frozenset[str]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Answers to EHLO made so far, by what they depend on; None for HELO. There are only a few."""
    greeting_reply: Reply = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        protocol = "LMTP" if self.protocol == "lmtp" else "ESMTP"
        reply = Reply(220, "", f"{self.hostname} {protocol} {self.greeting}")
        object.__setattr__(self, "greeting_reply", reply)
