"""Notifications (RFC 5435) by mail (RFC 5436): the action and the mail."""

from __future__ import annotations

from dataclasses import dataclass, field

from sieve_ext.outgoing.action import MailAction
from sieve_ext.outgoing.compose import crlf, cut_subject, start, text_type, written_address
from sieve_ext.outgoing.mail import Mail, Origin
from sieve_ext.outgoing.mailto import Mailto, Recipient
from sieve_ext.outgoing.sender import postmaster, source_address
from sieve_ext.runtime.actions import Action
from sieve_ext.validate.values import normal_address

PRIORITIES = {1: ("1 (Highest)", "High"), 2: ("3 (Normal)", "Normal"), 3: ("5 (Lowest)", "Low")}
"""X-Priority and Importance for each :importance."""

DEFAULT_BODY = "Notification of new message.\n"


@dataclass(eq=False)
class NotifyAction(MailAction):
    """Tell somebody about the message."""

    name = "notify"
    limit = ("sieve_notify_max_notifications", 10)

    uri: str = ""
    mailto: Mailto = field(default_factory=Mailto)
    """What the URI says."""
    sender: str | None = None
    """The address of :from."""
    importance: int = 2
    """1 is the highest, 3 the lowest."""
    text: str | None = None
    """The text of :message; None where the URI or the message say it."""
    recipients: list[Recipient] = field(default_factory=list)
    """Those of the URI who are not told already by another notification."""

    @property
    def cancels_keep(self) -> bool:
        """False (section 3.8)."""
        return False

    def absorb(self, later: Action) -> bool:
        """Nobody is told twice (section 3.1): `later` only tells who is not told by this."""
        if not isinstance(later, NotifyAction):
            return False
        told = {one.address.lower() for one in self.recipients}
        later.recipients = [one for one in later.recipients if one.address.lower() not in told]
        return not later.recipients

    def describe(self) -> str:
        """One line for people."""
        return f"notify by {self.uri[:200]}"

    def withheld(self, origin: Origin) -> str | None:
        """Programs' messages are not told of (RFC 5436 section 2.7)."""
        for one in origin.message.all("auto-submitted"):
            if one.text.partition(";")[0].strip().lower() != "no":
                return "notify action: not sending notification for auto-submitted message"
        if not self.recipients:
            return "notify action: there are no recipients"
        return None

    def mails(self, origin: Origin) -> list[Mail]:
        """One mail to all recipients."""
        if not self.recipients:
            return []
        header = start(origin)
        header.add("Subject", self._subject(origin))
        header.add_structured(
            "From", written_address(origin.postmaster if self.sender is None else self.sender)
        )
        for name, is_copy in (("To", False), ("Cc", True)):
            listed = [written_address(one.text) for one in self.recipients if one.is_copy is is_copy]
            if listed:
                header.add_structured(name, ", ".join(listed))
        owner = origin.user_email or origin.recipient
        header.add("Auto-Submitted", f'auto-notified; owner-email="{owner}"' if owner else "auto-notified")
        header.add("Precedence", "bulk")
        priority, importance = PRIORITIES[self.importance]
        header.add("X-Priority", priority)
        header.add("Importance", importance)
        for name, text in self.mailto.fields:
            header.add(name, text)
        body = crlf(DEFAULT_BODY if self.mailto.body is None else self.mailto.body)
        kind, encoding = text_type(body)
        header.add("MIME-Version", "1.0")
        header.add("Content-Type", kind)
        header.add("Content-Transfer-Encoding", encoding)
        addresses = tuple(one.address for one in self.recipients)
        return [Mail(self._envelope_from(origin), addresses, header.octets() + body)]

    def _subject(self, origin: Origin) -> str:
        text = self.text if self.text is not None else self.mailto.subject
        if text is None:
            old = origin.message.text("subject")
            text = "Notification: (no subject)" if old is None else f"Notification: {old}"
        return cut_subject(text)

    def _envelope_from(self, origin: Origin) -> str:
        # A notification of what came from nobody goes back to nobody (RFC 5436 section 2.7).
        if not origin.envelope.sender:
            return ""
        key = "sieve_notify_mailto_envelope_from"
        if origin.settings.text(key):
            return source_address(origin, key, "postmaster") or ""
        if self.sender is not None:
            return normal_address(self.sender) or ""
        return postmaster(origin)
