"""Carrying out the result of a script: into the mail store, and to an outbox that stands for the network.

What to do for an action is a table by the action's class; what is not in it needs nothing to be done here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sieve_ext.message import Message
from sieve_ext.outgoing import MailAction, Origin
from sieve_ext.runtime.actions import Action, FileInto, Keep, Redirect, StoreAction
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.result import Result
from sieve_ext.runtime.settings import Settings
from sieve_ext.testsuite.mailstore import Folder, MailStore, StoredMessage, bad_name
from sieve_ext.testsuite.surroundings import POSTMASTER


@dataclass(slots=True, frozen=True)
class Sent:
    """A message in the outbox, for one recipient."""

    sender: str
    """The reverse-path, "" for the null sender."""
    recipient: str
    octets: bytes


@dataclass(slots=True)
class Postman:
    """Does what results say."""

    store: MailStore
    settings: Settings
    outbox: list[Sent] = field(default_factory=list)
    """Everything sent, oldest first."""

    def carry_out(
        self, result: Result, message: Message, envelope: Envelope, keep: Keep | None, *, hold: bool = False
    ) -> list[str]:
        """Do what has not been done yet, `keep` last; returns what went wrong.

        A message that could not be stored is kept. With `hold` the explicit keeps are left for later.
        """
        problems: list[str] = []
        for action in result.actions:
            if action.executed or (hold and isinstance(action, Keep)):
                continue
            try:
                self._do(action, action.message or message, envelope)
            except DeliveryFailed as failed:
                problems.append(str(failed))
            else:
                action.executed = True
        if problems and keep is None:
            keep = Keep(implicit=True)
        if keep is not None and not keep.executed and not (problems and self._is_kept(result)):
            self._keep(keep, keep.message or message)
            keep.executed = True
        return problems

    def _is_kept(self, result: Result) -> bool:
        return any(
            one.executed and isinstance(one, StoreAction) and one.target.upper() == "INBOX"
            for one in result.actions
        )

    def _do(self, action: Action, message: Message, envelope: Envelope) -> None:
        for kind in type(action).__mro__:
            handler = HANDLERS.get(kind.__name__)
            if handler is not None:
                handler(self, action, message, envelope)
                return

    def _keep(self, action: Keep, message: Message) -> None:
        self.store_into(self.store.create("INBOX"), action, message)

    def store_into(self, folder: Folder, action: Action, message: Message) -> None:
        """Put a message into a mailbox."""
        folder.messages.append(StoredMessage(octets_of(message), tuple(action.options.get("flags", ()))))

    def send(self, sender: str, recipients: list[str], octets: bytes) -> None:
        """Put a message into the outbox, an entry a recipient."""
        self.outbox += [Sent(sender, recipient, octets) for recipient in recipients]

    def sender(self, key: str, envelope: Envelope, default: str) -> str:
        """The address that a setting of the kind `sieve_redirect_envelope_from` stands for."""
        value = self.settings.text(key, default) or default
        if value.startswith("<"):
            return value.strip("<>")
        user = self.settings.text("sieve_user_email").strip("<>")
        addresses = {
            "sender": envelope.sender or "",
            "recipient": envelope.recipient,
            "orig_recipient": envelope.original_recipient or envelope.recipient,
            "user_email": user or envelope.recipient,
            "postmaster": POSTMASTER,
        }
        return addresses.get(value, addresses[default])


class DeliveryFailed(Exception):
    """An action could not be carried out; says why."""


def octets_of(message: Message) -> bytes:
    """A message as it stands."""
    return b"".join(message.chunks())


def _store(postman: Postman, action: Action, message: Message, envelope: Envelope) -> None:
    name = action.target if isinstance(action, StoreAction) else "INBOX"
    problem = bad_name(name)
    if problem is not None:
        raise DeliveryFailed(f"failed to store into mailbox '{name}': {problem}")
    postman.store_into(_folder(postman, action, name), action, message)


def _folder(postman: Postman, action: Action, name: str) -> Folder:
    """Where the options of an action say that it goes (RFC 9042 section 4, RFC 8579 section 4)."""
    store, options = postman.store, action.options
    use = options.get("specialuse", "")
    folder = store.by_identity(options.get("mailboxid", ""))
    folder = folder or (store.by_special_use(use) if use else None) or store.find(name)
    if folder is None:
        if not options.get("create"):
            raise DeliveryFailed(f"failed to store into mailbox '{name}': mailbox doesn't exist: {name}")
        folder = store.create(name)
        if use:
            folder.special_uses.add(use.lower())
    return folder


def _mail(postman: Postman, action: Action, message: Message, envelope: Envelope) -> None:
    """Send what an action has to say; a copy for the user must not keep it from being sent (RFC 8580)."""
    if not isinstance(action, MailAction):
        return
    now = datetime.now().astimezone()
    origin = Origin(
        message.original(), envelope, postman.settings, now, f"Postmaster <{POSTMASTER}>", "example.com"
    )
    if action.withheld(origin) is not None:
        return
    mails = action.mails(origin)
    for mail in mails:
        postman.send(mail.sender, list(mail.recipients), mail.octets)
    mailbox = action.options.get("fcc")
    if mailbox is not None and mails and bad_name(mailbox) is None:
        postman.store_into(_folder(postman, action, mailbox), action, Message(mails[0].octets))


def _redirect(postman: Postman, action: Action, message: Message, envelope: Envelope) -> None:
    if not isinstance(action, Redirect):
        return
    sender = envelope.sender or ""
    if sender:
        sender = postman.sender("sieve_redirect_envelope_from", envelope, "sender")
    edited = message.snapshot()
    edited.remove(edited.all("return-path"))
    user = postman.settings.text("sieve_user_email").strip("<>") or envelope.recipient
    if user:
        edited.add("X-Sieve-Redirected-From", user)
    postman.send(sender, [action.address], octets_of(edited))


Handler = Callable[[Postman, Action, Message, Envelope], None]

HANDLERS: dict[str, Handler] = {
    StoreAction.__name__: _store,
    FileInto.__name__: _store,
    Redirect.__name__: _redirect,
    MailAction.__name__: _mail,
}
"""What carries an action out, by the name of its class or of one that it derives from."""
