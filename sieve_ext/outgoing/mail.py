"""A mail to be sent, and what is known when it is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sieve_ext.message import Message
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.settings import Settings


@dataclass(slots=True, frozen=True)
class Mail:
    """One mail with its envelope."""

    sender: str
    """The reverse-path without angle brackets, "" for the null sender."""
    recipients: tuple[str, ...]
    """Addresses without angle brackets."""
    octets: bytes
    """Header and body, with CRLF."""


@dataclass(slots=True, frozen=True)
class Origin:
    """What caused a mail: the message, its envelope and the site that answers."""

    message: Message
    """The message as received: answers do not depend on edits of the script (RFC 5293 section 6)."""
    envelope: Envelope
    settings: Settings
    now: datetime
    """The time of the answer, with its zone."""
    postmaster: str
    """Where mail to the administrator goes, with or without a display name."""
    host: str
    """The name of this host, for Message-ID and boundaries."""
    product: str = "Tamis Sieve"
    """What calls itself the author, with its version if that is to be told."""
    names: dict[str, str] = field(default_factory=dict)
    """Identifiers to use instead of random ones, for tests: "message-id", "boundary"."""

    @property
    def recipient(self) -> str:
        """The recipient that the script ran for, "" if unknown."""
        return self.envelope.recipient

    @property
    def original_recipient(self) -> str:
        """The recipient as the sender gave it, "" if unknown."""
        return self.envelope.original_recipient or self.envelope.recipient

    @property
    def user_email(self) -> str:
        """The user's own address, "" if there is none set (`sieve_user_email`)."""
        return self.settings.text("sieve_user_email").strip("<> ")
