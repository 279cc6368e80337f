"""Carrying out the result of a script: into the mail store, and to an outbox that stands for the network.

What to do for an action is a table by the action's class; what is not in it needs nothing to be done here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sieve_ext.extensions.vnd_dovecot_pipe import PipeAction
from sieve_ext.message import Message
from sieve_ext.outgoing import MailAction, Origin
from sieve_ext.outgoing.sender import source_address
from sieve_ext.runtime.actions import Action, Keep, Redirect, StoreAction
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.result import Result
from sieve_ext.runtime.settings import Settings
from sieve_ext.testsuite.mailstore import Folder, MailStore, StoredMessage, bad_name
from sieve_ext.testsuite.programs import run_program
from sieve_ext.testsuite.surroundings import HOST, POSTMASTER, PRODUCT


@dataclass(slots=True, frozen=True)
class Sent:
    """A message in the outbox, for one recipient."""

    sender: str
    """The reverse-path, "" for the null sender."""
    recipient: str
    octets: bytes


class DeliveryFailed(Exception):
    """An action could not be carried out; says why."""


@dataclass(slots=True)
class Postman:
    """Does what results say."""

    store: MailStore
    settings: Settings
    outbox: list[Sent] = field(default_factory=list)
    """Everything sent, oldest first."""

    def carry_out(
        self, result: Result, received: Message, edited: Message, envelope: Envelope, *, hold: bool = False
    ) -> list[str]:
        """Do what has not been done yet, the implicit keep last; returns what went wrong.

        `received` is the message without edits, `edited` with them. A message that could not be stored is
        kept. With `hold` nothing is kept, for another script will decide.
        """
        origin = Origin(
            received, envelope, self.settings, datetime.now().astimezone(), POSTMASTER, HOST, PRODUCT
        )
        problems: list[str] = []
        for action in result.actions:
            if action.executed or (hold and is_keep(action)):
                continue
            try:
                self._do(action, action.message or edited, origin)
            except DeliveryFailed as failed:
                problems.append(str(failed))
            else:
                action.executed = True
        if result.actions and not any(one.cancels_keep for one in result.actions):
            result.implicit_keep = result.implicit_keep or Keep(implicit=True)
        keep = None if hold else result.implicit_keep
        is_kept = any(one.executed and is_keep(one) for one in result.actions)
        if problems and keep is None and not is_kept:
            keep = result.implicit_keep = Keep(implicit=True)
        if keep is not None and not keep.executed:
            self._put(self.store.create("INBOX"), keep, keep.message or edited)
            keep.executed = True
        return problems

    def _do(self, action: Action, message: Message, origin: Origin) -> None:
        for kind, handler in HANDLERS:
            if isinstance(action, kind):
                handler(self, action, message, origin)
                return

    def _put(self, folder: Folder, action: Action, message: Message) -> None:
        folder.messages.append(StoredMessage(octets_of(message), tuple(action.options.get("flags", ()))))

    def folder(self, action: Action, name: str) -> Folder:
        """The mailbox that an action stores into; raises DeliveryFailed when there is none."""
        options = action.options
        found = None
        if "mailboxid" in options:
            found = self.store.by_identity(options["mailboxid"])
        if found is None and "specialuse" in options:
            found = self.store.by_special_use(options["specialuse"])
        if found is not None:
            return found
        problem = bad_name(name)
        if problem is not None:
            raise DeliveryFailed(f"failed to store into mailbox '{name}': {problem}")
        found = self.store.find(name)
        if found is not None:
            return found
        if not options.get("create"):
            raise DeliveryFailed(f"failed to store into mailbox '{name}': mailbox doesn't exist: {name}")
        found = self.store.create(name)
        if "specialuse" in options:
            found.special_uses.add(str(options["specialuse"]).lower())
        return found

    def put_message(self, action: Action, message: Message, origin: Origin) -> None:
        """`fileinto` and `keep`."""
        if isinstance(action, StoreAction):
            self._put(self.folder(action, action.target), action, message)

    def redirect(self, action: Action, message: Message, origin: Origin) -> None:
        """`redirect`."""
        if not isinstance(action, Redirect):
            return
        user = origin.user_email or origin.recipient
        if user and any(one.text.lower() == user.lower() for one in message.all("x-sieve-redirected-from")):
            return  # it has been here: a loop
        sender = origin.envelope.sender or ""
        if sender:
            sender = source_address(origin, "sieve_redirect_envelope_from", "sender") or ""
        copy = message.snapshot()
        copy.remove(copy.all("return-path"))
        if user:
            copy.add("X-Sieve-Redirected-From", user)
        self.send(sender, (action.address,), octets_of(copy))

    def mail(self, action: Action, message: Message, origin: Origin) -> None:
        """Actions that write a mail, and the copy that :fcc asks for."""
        if not isinstance(action, MailAction) or action.withheld(origin) is not None:
            return
        mails = action.mails(origin)
        for one in mails:
            self.send(one.sender, one.recipients, one.octets)
        if "fcc" in action.options and mails:
            self._put(self.folder(action, action.options["fcc"]), action, Message(mails[0].octets))

    def pipe(self, action: Action, message: Message, origin: Origin) -> None:
        """`pipe`."""
        if not isinstance(action, PipeAction):
            return
        done = run_program(self.settings, "pipe", action.program, action.arguments, message, origin.envelope)
        if done.succeeded:
            return
        if action.is_try:
            action.copy = True  # as if there had been no such command
            return
        why = "not found" if done.is_missing else "failed"
        raise DeliveryFailed(f"failed to pipe message to program '{action.program}': {why}")

    def send(self, sender: str, recipients: tuple[str, ...], octets: bytes) -> None:
        """Put a message into the outbox, an entry a recipient."""
        self.outbox += [Sent(sender, recipient, octets) for recipient in recipients]


def is_keep(action: Action) -> bool:
    """True of an action that keeps the message in the default mailbox."""
    return isinstance(action, StoreAction) and action.target.upper() == "INBOX"


def octets_of(message: Message) -> bytes:
    """A message as it stands."""
    return b"".join(message.chunks())


Handler = Callable[[Postman, Action, Message, Origin], None]

HANDLERS: tuple[tuple[type[Action], Handler], ...] = (
    (StoreAction, Postman.put_message),
    (Redirect, Postman.redirect),
    (MailAction, Postman.mail),
    (PipeAction, Postman.pipe),
)
"""What carries an action out, by its class or one that it derives from."""
