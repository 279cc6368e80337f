"""Refusing a message (RFC 5429): the actions, and the notification where nobody waits for a reply.

The notification is an MDN (RFC 8098) with the reason for people, the disposition for programs, and the header
of the message. It goes to the sender of the envelope, from the null sender.
"""

from __future__ import annotations

from dataclasses import dataclass

from sieve_ext.outgoing.action import MailAction
from sieve_ext.outgoing.compose import (
    crlf,
    identifiers,
    multipart,
    new_boundary,
    original_header,
    start,
    written_address,
)
from sieve_ext.outgoing.mail import Mail, Origin
from sieve_ext.runtime.actions import Action


@dataclass(eq=False)
class RejectAction(MailAction):
    """Refuse the message, with `reason`."""

    name = "reject"
    answers = True
    reason: str = ""

    def conflict(self, other: Action) -> str | None:
        """Nothing may deliver the message, and nothing else answer it (section 2.2 and 2.3)."""
        if other is self or other.executed or self.executed:
            return None
        if isinstance(other, RejectAction):
            return (
                "duplicate reject/ereject action not allowed (previously triggered one was here:"
                f" line {min(self.position.line, other.position.line)})"
            )
        if other.delivers:
            return _conflict(other, "tries to deliver the message")
        if other.answers:
            return _conflict(other, "also sends a response to the sender")
        return None

    def absorb(self, later: Action) -> bool:
        """What would answer once more is left out when the message has been refused already."""
        return self.executed and later.answers

    def describe(self) -> str:
        """One line for people."""
        return f"{self.name} with reason {self.reason[:100]!r}"

    def withheld(self, origin: Origin) -> str | None:
        """Nobody is told where there is no sender, or no recipient in whose name to tell."""
        if not origin.envelope.sender:
            return f"{self.name} action: discarded, the envelope has no sender to tell"
        if not origin.recipient:
            return f"{self.name} action: discarded, the envelope has no recipient"
        return None

    def mails(self, origin: Origin) -> list[Mail]:
        """The notification."""
        if self.withheld(origin) is not None:
            return []
        sender = origin.envelope.sender or ""
        header = start(origin)
        header.add_structured("From", written_address(origin.postmaster))
        header.add_structured("To", f"<{sender}>")
        header.add("Subject", "Automatically rejected mail")
        header.add("Auto-Submitted", "auto-replied (rejected)")
        header.add("Precedence", "bulk")
        header.add("MIME-Version", "1.0")
        boundary = new_boundary(origin)
        header.add(
            "Content-Type",
            f'multipart/report; report-type=disposition-notification; boundary="{boundary}"',
        )
        parts = [self._explanation(origin), self._disposition(origin), _original(origin)]
        return [Mail("", (sender,), header.octets() + multipart(boundary, parts))]

    def _explanation(self, origin: Origin) -> bytes:
        text = f"Your message to <{origin.recipient}> was automatically rejected:\n{self.reason}\n"
        return (
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline\r\n"
            b"Content-Transfer-Encoding: 8bit\r\n\r\n" + crlf(text)
        )

    def _disposition(self, origin: Origin) -> bytes:
        lines = [
            "Content-Type: message/disposition-notification",
            "",
            f"Reporting-UA: {origin.host}; {origin.product}",
            f"Original-Recipient: rfc822; {origin.original_recipient}",
            f"Final-Recipient: rfc822; {origin.recipient}",
        ]
        message_id = identifiers(origin, "message-id")
        if message_id:
            lines.append(f"Original-Message-ID: {message_id}")
        lines += ["Disposition: automatic-action/MDN-sent-automatically; deleted", ""]
        return crlf("\n".join(lines))


@dataclass(eq=False)
class ErejectAction(RejectAction):
    """Refuse the message in the protocol, with `reason`."""

    name = "ereject"


def _conflict(other: Action, what: str) -> str:
    return (
        f"reject/ereject action conflicts with other action: the {other.shown_name} action"
        f" (line {other.position.line}) {what}"
    )


def _original(origin: Origin) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" + original_header(origin) + b"\r\n\r\n"
