"""The answer of somebody who is away (RFC 5230): whether to send it, and what it is.

Nothing is sent to nobody, to oneself, to lists, to programs, nor about a message that was not addressed to
the user (sections 4.5, 4.6 and 5; RFC 3834 section 2). The rules are checked in the order in which they are
written here; the text of the first that applies is for the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from sieve_ext.message import is_field_name
from sieve_ext.outgoing.action import MailAction
from sieve_ext.outgoing.compose import crlf, cut_subject, identifiers, phrase, start, written_address
from sieve_ext.outgoing.mail import Mail, Origin
from sieve_ext.outgoing.sender import postmaster
from sieve_ext.runtime.actions import Action
from sieve_ext.runtime.settings import Settings
from sieve_ext.validate.values import normal_address

DAY = 86400

SETTINGS = {
    "sieve_vacation_min_period": "least time between two answers to one sender, 1 day by default",
    "sieve_vacation_default_period": "that time where the script says nothing, 7 days by default",
    "sieve_vacation_max_period": "longest such time, 60 days by default, 0 for no limit",
    "sieve_vacation_default_subject": "subject of answers to messages without one",
    "sieve_vacation_default_subject_template": "subject of answers, %{subject} being that of the message",
    "sieve_vacation_use_original_recipient": "count the recipient before aliases as the user's address",
    "sieve_vacation_check_recipient": "answer only what is addressed to the user, yes by default",
    "sieve_vacation_send_from_recipient": "the recipient is the envelope's sender, not the null sender",
    "sieve_vacation_to_header_ignore_envelope": "look for :addresses and the user's address only",
}

LIST_FIELDS = (
    *("list-id", "list-owner", "list-subscribe", "list-post"),
    *("list-unsubscribe", "list-archive", "list-help"),
)
"""Fields of mailing lists (RFC 2919, RFC 2369)."""

TO_FIELDS = ("to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc")
"""Where the user's address must be (section 4.5)."""

NAME_FIELDS = ("sender", "from", "resent-from", "reply-to")
"""Where the sender's display name is looked for."""

ADDRESSES = 10_000
"""Addresses of a message that are compared with the user's."""


def periods(settings: Settings) -> tuple[int, int, int]:
    """Least, usual and longest seconds between two answers to one sender; longest 0 for no limit."""
    least = int(settings.period("sieve_vacation_min_period", DAY))
    most = int(settings.period("sieve_vacation_max_period", 60 * DAY))
    default = int(settings.period("sieve_vacation_default_period", 7 * DAY))
    default = max(default, least)
    return least, min(default, most) if most else default, most


@dataclass(eq=False)
class VacationAction(MailAction):
    """Answer the sender."""

    name = "vacation"
    answers = True
    limit = None

    reason: str = ""
    """What to say: text, or with `is_mime` an entity with its header."""
    subject: str | None = None
    """None, or empty, for the one that is made of the message's."""
    sender: str | None = None
    """The address of :from, perhaps with a display name; None for the user's."""
    addresses: tuple[str, ...] = ()
    """More addresses of the user, as the script has them."""
    handle: str | None = None
    is_mime: bool = False
    seconds: int = 7 * DAY
    """How long the same sender does not get the answer again; 0 for every time."""

    @property
    def cancels_keep(self) -> bool:
        """False: the message goes where it would (section 4)."""
        return False

    def conflict(self, other: Action) -> str | None:
        """One answer only (sections 4 and 4.7)."""
        if other is self or other.executed or self.executed or not other.answers:
            return None
        where = f"line {min(self.position.line, other.position.line)}"
        if isinstance(other, VacationAction):
            return f"duplicate vacation action not allowed (previously triggered one was here: {where})"
        return (
            f"vacation action conflicts with other action: the {other.shown_name} action ({where})"
            " also sends a response back to the sender"
        )

    def absorb(self, later: Action) -> bool:
        """What would answer once more is left out when this has been sent already."""
        return self.executed and later.answers

    def describe(self) -> str:
        """One line for people."""
        return f"vacation with reason {self.reason[:100]!r}"

    # Whether to answer

    def withheld(self, origin: Origin) -> str | None:
        """The first rule that forbids an answer."""
        found = next(self._objections(origin), None)
        return None if found is None else f"vacation action: no response sent: {found}"

    def _objections(self, origin: Origin) -> Iterator[str]:
        message, sender = origin.message, origin.envelope.sender
        if not sender or (sender.isascii() and normal_address(sender) is None):
            yield "the envelope has no sender to answer"
            return
        if not origin.recipient:
            yield "the envelope has no recipient"
        own = {address.lower() for address in self.own_addresses(origin, everything=True)}
        if sender.lower() in own:
            yield f"<{sender}> is an address of the user"
        name = next((name for name in LIST_FIELDS if name in message), None)
        if name is not None:
            yield f"the message comes from a mailing list (it has {name.title()})"
        for field in message.all("auto-submitted"):
            if field.text.partition(";")[0].strip().lower() != "no":
                yield "the message was sent by a program (Auto-Submitted)"
        for field in message.all("precedence"):
            if field.text.strip().lower() in ("junk", "bulk", "list"):
                yield f"the message has Precedence: {field.text.strip()[:20]}"
        for field in message.all("x-auto-response-suppress"):
            wanted = {word.strip().lower() for word in field.text.split(",")}
            if wanted & {"all", "oof"}:
                yield "the message asks for no answer (X-Auto-Response-Suppress)"
        if is_system_address(sender):
            yield f"<{sender}> is the address of a program"
        if origin.settings.boolean(
            "sieve_vacation_check_recipient",
            not origin.settings.boolean("sieve_vacation_dont_check_recipient"),
        ) and not self.addressed(origin):
            yield "the message is not addressed to the user"

    def own_addresses(self, origin: Origin, everything: bool = False) -> list[str]:
        """The user's addresses, the one to answer from first; `everything` ignores settings about them."""
        settings = origin.settings
        found: list[str | None] = []
        if everything or not settings.boolean("sieve_vacation_to_header_ignore_envelope"):
            found.append(origin.recipient)
            if everything or settings.boolean("sieve_vacation_use_original_recipient"):
                found.append(origin.original_recipient)
        found.append(origin.user_email)
        found += [normal_address(address) for address in self.addresses]
        return [address for address in found if address]

    def addressed(self, origin: Origin) -> str | None:
        """The user's address in the message's header, None if it is not there (section 4.5)."""
        own = {address.lower(): address for address in reversed(self.own_addresses(origin))}
        left = ADDRESSES
        for name in TO_FIELDS:
            for field in origin.message.all(name):
                for mailbox in field.addresses.mailboxes:
                    left -= 1
                    if left < 0:
                        return None
                    found = own.get(mailbox.address.lower())
                    if found is not None:
                        return found
        return None

    def reply_key(self, origin: Origin) -> tuple[bytes, int] | None:
        """The sender and the handle, or what stands for one (section 4.2)."""
        if not self.seconds:
            return None
        if self.handle is not None:
            parts = ["handle", self.handle]
        else:
            parts = ["no-handle", self.reason, self.subject or "", self.sender or "", str(self.is_mime)]
        parts.append((origin.envelope.sender or "").lower())
        digest = hashlib.blake2b(digest_size=20)
        for part in parts:
            octets = part.encode("utf-8", "surrogatepass")
            digest.update(len(octets).to_bytes(4, "big") + octets)
        return digest.digest(), self.seconds

    # The answer

    def mails(self, origin: Origin) -> list[Mail]:
        """The answer; the rules are not asked again."""
        to = origin.envelope.sender or ""
        if not to:
            return []
        own = self.addressed(origin) or (self.own_addresses(origin) or [""])[0] or origin.recipient
        header = start(origin)
        header.add_structured("From", self._from(origin, own))
        header.add_structured("To", named(origin, to))
        header.add("Subject", self._subject(origin))
        message_id = identifiers(origin, "message-id")
        references = identifiers(origin, "references")
        if message_id:
            header.add_structured("In-Reply-To", message_id)
        if message_id or references:
            header.add_structured("References", _last_references(f"{references} {message_id}"))
        header.add("Auto-Submitted", "auto-replied (vacation)")
        header.add("Precedence", "bulk")
        header.add("X-Auto-Response-Suppress", "All")
        header.add("MIME-Version", "1.0")
        octets = header.octets().removesuffix(b"\r\n") + self._entity()
        envelope_from = ""
        if origin.settings.boolean("sieve_vacation_send_from_recipient"):
            envelope_from = own
        return [Mail(envelope_from, (to,), octets)]

    def _from(self, origin: Origin, own: str) -> str:
        if self.sender is not None:
            return written_address(self.sender)
        return f"<{own}>" if own else f"<{postmaster(origin)}>"

    def _subject(self, origin: Origin) -> str:
        if self.subject:
            return cut_subject(self.subject)
        settings = origin.settings
        old = origin.message.text("subject")
        if old is None:
            return cut_subject(settings.text("sieve_vacation_default_subject") or "Automated reply")
        template = settings.text("sieve_vacation_default_subject_template") or "Auto: %{subject}"
        return cut_subject(template.replace("%$", "%{subject}").replace("%{subject}", old))

    def _entity(self) -> bytes:
        body = crlf(self.reason)
        if self.is_mime:
            return mime_entity(body)
        return b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + body


def is_system_address(address: str) -> bool:
    """True for senders that are programs by their name (section 4.6; RFC 3834 section 2)."""
    local = address.rpartition("@")[0].lower()
    return (
        local in ("mailer-daemon", "listserv", "majordomo")
        or local.startswith("owner-")
        or local.endswith("-request")
    )


def named(origin: Origin, address: str) -> str:
    """An address with the display name that the message gives it."""
    wanted = address.lower()
    for name in NAME_FIELDS:
        for field in origin.message.all(name):
            for mailbox in field.addresses.mailboxes[:ADDRESSES]:
                if mailbox.name and mailbox.address.lower() == wanted:
                    return f"{phrase(mailbox.name)} <{address}>"
    return f"<{address}>"


def mime_entity(octets: bytes) -> bytes:
    """A MIME entity of a script (section 4.4), made safe: of its header only Content-* fields are taken.

    Text without a header becomes a plain text.
    """
    head, _, body = octets.partition(b"\r\n\r\n")
    if octets.startswith(b"\r\n"):
        head, body = b"", octets[2:]
    kept: list[bytes] = []
    keeps = False
    for line in head.split(b"\r\n") if head else []:
        if not line.startswith((b" ", b"\t")):
            name = line.partition(b":")[0].decode("latin-1").rstrip()
            if b":" not in line or not is_field_name(name):
                kept, body = [], octets
                break
            keeps = name.lower().startswith("content-")
        if keeps:
            kept.append(line)
    if not any(line.lower().startswith(b"content-type") for line in kept):
        kept.append(b"Content-Type: text/plain; charset=utf-8")
    return b"\r\n".join((*kept, b"", body))


def _last_references(text: str) -> str:
    """The last of many references: threads need not grow for ever."""
    return " ".join(text.split()[-50:])
