"""Abuse reports (RFC 5965): the action and the mail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sieve_ext.outgoing.action import MailAction
from sieve_ext.outgoing.compose import (
    crlf,
    multipart,
    new_boundary,
    original_header,
    start,
    text_type,
    written_address,
)
from sieve_ext.outgoing.mail import Mail, Origin
from sieve_ext.outgoing.sender import source_address
from sieve_ext.runtime.actions import Action

_is_token = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+").fullmatch


def _is_feedback(report_type: str) -> bool:
    return report_type.strip().lower() == "feedback-report"


def feedback_type(text: str) -> str | None:
    """What is wrong with a type of feedback: it is no token (RFC 2045 section 5.1)."""
    return None if _is_token(text) else f"specified report feedback type '{text[:100]}' is invalid"


@dataclass(eq=False)
class ReportAction(MailAction):
    """Report the message."""

    name = "report"

    kind: str = "abuse"
    text: str = ""
    """What it is about, for people."""
    address: str = ""
    """Whom to tell."""
    headers_only: bool = False
    """The report has only the header of the message."""

    @property
    def cancels_keep(self) -> bool:
        """False."""
        return False

    def absorb(self, later: Action) -> bool:
        """One report of a type to an address."""
        return (
            isinstance(later, ReportAction)
            and later.kind.lower() == self.kind.lower()
            and later.address == self.address
        )

    def describe(self) -> str:
        """One line for people."""
        return f"report as {self.kind} to <{self.address}>"

    def withheld(self, origin: Origin) -> str | None:
        """The user is sent no reports of messages to him: they would come back. Nor is anybody of a report:
        two users who report to each other would do it for ever."""
        if self.address.lower() in (origin.recipient.lower(), origin.user_email.lower()):
            return f"report action: not sending a report to the user's own address <{self.address}>"
        root = origin.message.structure.root
        if root.content_type == "multipart/report" and _is_feedback(root.parameters.get("report-type", "")):
            return "report action: not sending a report of a report"
        return None

    def mails(self, origin: Origin) -> list[Mail]:
        """The report, from the null sender."""
        header = start(origin)
        header.add_structured("From", self._from(origin))
        header.add_structured("To", f"<{self.address}>")
        subject = origin.message.text("subject")
        header.add("Subject", f"Report: {'(message without subject)' if subject is None else subject}")
        header.add("Auto-Submitted", "auto-generated (report)")
        header.add("MIME-Version", "1.0")
        boundary = new_boundary(origin)
        header.add(
            "Content-Type", f'multipart/report; report-type=feedback-report; boundary="{boundary}"'
        )  # fmt: skip
        parts = [self._explanation(), self._feedback(origin), b"".join(self._message(origin))]
        return [Mail("", (self.address,), header.octets() + multipart(boundary, parts))]

    def _from(self, origin: Origin) -> str:
        key = "sieve_report_from"
        if origin.settings.text(key, "postmaster").lower() == "postmaster":
            return written_address(origin.postmaster)
        address = source_address(origin, key, "postmaster")
        return f"<{address}>" if address else written_address(origin.postmaster)

    def _explanation(self) -> bytes:
        body = crlf(self.text)
        kind, encoding = text_type(body)
        return (
            f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n"
            "Content-Disposition: inline\r\n\r\n"
        ).encode("ascii") + body

    def _feedback(self, origin: Origin) -> bytes:
        lines = [
            "Content-Type: message/feedback-report",
            "",
            "Version: 1",
            f"Feedback-Type: {self.kind}",
            f"User-Agent: {origin.product}",
        ]
        if origin.envelope.sender is not None:
            lines.append(f"Original-Mail-From: <{origin.envelope.sender}>")
        if origin.original_recipient:
            lines.append(f"Original-Rcpt-To: <{origin.original_recipient}>")
        user = origin.user_email or origin.recipient
        if user:
            lines.append(f"Dovecot-Reporting-User: <{user}>")
        return crlf("\n".join((*lines, "")))

    def _message(self, origin: Origin) -> Iterator[bytes]:
        if self.headers_only:
            yield b"Content-Type: text/rfc822-headers\r\nContent-Disposition: attachment\r\n\r\n"
            yield original_header(origin)
            return
        yield b"Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"
        yield from origin.message.chunks()
