"""One message into one mailbox, and what the client is told about it.

    mailbox full                  552 5.2.2 or 452 4.2.2, as configured
    no space, quota of the disk   452 4.3.1
    no permission, other errors   451 4.3.0
    stored, flushed to the disk   250 2.0.0

Whatever the reply, nothing half written stays behind. The functions block and return a `Reply`; they run in
the store's threads and raise nothing for what a disk can do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mta.address import Address
from mta.content import Content, MessageBuffer, SpillError
from mta.reply import Reply
from mta.store import maildir
from mta.store.mailboxes import Destination, address_of
from mta.store.maildir import Maildir, UniqueNames
from mta.store.message import StoredMessage, for_delivery
from mta.store.quota import Ledger, OverQuota, give_back
from mta.store.settings import OverQuota as OverQuotaChoice

if TYPE_CHECKING:
    from mta.store.scripts import Outgoing, Plan, UserScripts
    from mta.store.submission import Submission
    from sieve_ext.message import Message

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MUST_COPY = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP})
"""What link(2) says when a second name is impossible here: other file system, too many links, no links."""

ANSWER = 64 * 1024
"""Octets of the largest answer that waits for a thread while its message has been stored."""

NO_STORAGE = Reply(452, "4.3.1", "Insufficient system storage")


@dataclass(slots=True, frozen=True)
class Done:
    """A message that was stored or refused as its recipient's script says."""

    reply: Reply
    answers: Callable[[], None]
    """Sends what answers it."""


@dataclass(slots=True, frozen=True)
class Deliverer:
    """Delivers into the mailboxes below `root`."""

    root: Path
    names: UniqueNames
    ledger: Ledger
    over_quota: OverQuotaChoice = "reject"
    detail_folders: bool = True

    scripts: UserScripts | None = None
    submission: Submission | None = None

    def deliver(
        self, target: Destination, content: Content, sender: Address, recipient: str
    ) -> Reply | Done | Callable[[], Reply]:
        """Store one message with its own Return-Path and Delivered-To, or do what the user's script says.

        Where that sends the message on nothing is done yet: what is returned does it, and waits for the
        server. Where it only answers, the answers are left to be sent.
        """
        message = for_delivery(content, sender, recipient)
        if self.scripts is not None:
            user = address_of(target.mailbox.path)
            script = self.scripts.of(user)
            if script is not None:
                plan = self.scripts.run(
                    script, user, content, sender, recipient, partial(self._has_folder, target)
                )
                if plan is not None:
                    do = partial(self._do, plan, user, target, message, sender, recipient)
                    deed = partial(self._do_and_remember, plan, user, do)
                    if any(not one.is_answer or len(one.octets) > ANSWER for one in plan.mails):
                        return deed
                    answers, plan.mails = plan.mails, []
                    reply = deed()
                    if not answers or (plan.refusal is None and not reply.is_positive):
                        return reply
                    return Done(reply, partial(self._answer, user, answers))
        return self._store(target, message, None)[0]

    def _do_and_remember(self, plan: Plan, user: str, do: Callable[[], Reply]) -> Reply:
        """What a script wants, and then what it wants to be remembered."""
        assert self.scripts is not None
        reply = do()
        if plan.refusal is not None or reply.is_positive:
            self.scripts.done(user, plan)
        return reply

    def _do(
        self,
        plan: Plan,
        user: str,
        target: Destination,
        message: StoredMessage,
        sender: Address,
        recipient: str,
    ) -> Reply:
        """Into mailboxes first, then what is sent; what cannot be sent is kept."""
        assert self.scripts is not None
        reply = Reply(250, "2.0.0", "Done as the recipient's script says")
        if plan.refusal is not None:  # nothing is stored beside it, but notifications are sent
            reply = Reply(550, "5.7.1", clean_line(plan.refusal))
        in_inbox = False
        done: list[_Stored] = []
        for name, edited in plan.folders:
            inbox = name.upper() == "INBOX"
            stored = message if edited is None else _edited(edited, sender, recipient)
            said, place = self._store(target, stored, None, None if inbox else name)
            if not said.is_positive and not inbox:
                self.scripts.tell(user, f"fileinto {name}: {said.cause or said}")
                if in_inbox:  # nothing is lost, and a client that tried again would put it there again
                    continue
                said, place = self._store(target, stored, None)
                inbox = True
            if place is None:
                return self._taken_back(target, done, said)
            done.append(place)
            reply = said
            in_inbox |= inbox
        for mail in plan.mails:
            if not self._sent(user, mail) and not mail.is_answer and not in_inbox:
                reply, in_inbox = self._store(target, message, None)[0], True
                if not reply.is_positive:
                    return self._taken_back(target, done, reply)
        return reply

    def _taken_back(self, target: Destination, done: Sequence[_Stored], refusal: Reply) -> Reply:
        """The refusal, and what was stored before it is no more: the client's next try would store it again.

        What a reader has taken already stays, and the message has arrived then.
        """
        stays = False
        for one in done:
            try:
                with maildir.opened(one.path, self.root) as folder:
                    os.unlink(one.name, dir_fd=folder.new)
            except OSError:
                stays = True
                continue
            if target.mailbox.quota.limited:
                with suppress(OSError), maildir.opened(target.mailbox.path, self.root) as box:
                    give_back(box, maildir.size_in_name(one.name) or 0)
        return Reply(250, "2.0.0", "Stored, though not in all folders") if stays else refusal

    def _answer(self, user: str, answers: Sequence[Outgoing]) -> None:
        for mail in answers:
            self._sent(user, mail)

    def _sent(self, user: str, mail: Outgoing) -> bool:
        """Send a mail; False when that is not possible."""
        from mta.store.submission import NotSent

        assert self.scripts is not None
        assert self.submission is not None
        if not self.scripts.claim(user, mail):
            return True
        try:
            self.submission.send(mail.sender, mail.recipients, mail.octets, mail.wishes)
        except NotSent as error:
            self.scripts.release(user, mail)
            self.scripts.tell(user, f"not sent to {', '.join(mail.recipients)}: {error}")
            return False
        return True

    def _has_folder(self, target: Destination, name: str) -> bool:
        folder = maildir.named_folder(target.mailbox.path, name)
        return folder is not None and (folder == target.mailbox.path or (folder / "cur").is_dir())

    def deliver_shared(
        self, targets: Sequence[Destination], content: Content, sender: Address
    ) -> list[Reply]:
        """Store one message for several recipients as one file with several names, where links can be made.

        Replies are in the order of `targets`; a failure of one does not touch the others.
        """
        message = for_delivery(content, sender, "")
        replies: list[Reply] = []
        first: _Stored | None = None
        for target in targets:
            reply, stored = self._store(target, message, first)
            replies.append(reply)
            if first is None:
                first = stored
        return replies

    def is_roomy(self, target: Destination, octets: int) -> bool:
        """True when `room` need not be asked. Never waits."""
        box = target.mailbox
        return not box.quota.limited or self.ledger.is_roomy(str(box.path), box.quota, octets)

    def room(self, target: Destination, octets: int) -> Reply | None:
        """The refusal when one more message of `octets` (0: unknown) has no room now, None when it has."""
        box = target.mailbox
        if not box.quota.limited:
            return None
        try:
            with maildir.opened(box.path, self.root) as root:
                self.ledger.check(str(box.path), root, box.quota, octets)
        except OverQuota:
            return self._full()
        except OSError as error:
            return refusal(error)
        return None

    def _store(
        self, target: Destination, message: StoredMessage, link_to: _Stored | None, name: str | None = None
    ) -> tuple[Reply, _Stored | None]:
        """`name` is that of a mailbox that a script wants, made if it is not there."""
        box = target.mailbox
        wanted = None if name is None else maildir.named_folder(box.path, name)
        if name is not None and wanted is None:
            return Reply(451, "4.3.0", "Mail store failure", cause="no folder can have this name"), None
        if wanted is not None and not maildir.may_make(box.path, wanted):
            return Reply(451, "4.3.0", "Mail store failure", cause="there are too many folders"), None
        try:
            with ExitStack() as stack:
                root = stack.enter_context(maildir.opened(box.path, self.root))
                folder = wanted or self._folder(target)
                into = root if folder is None else stack.enter_context(maildir.opened(folder, self.root))
                stack.enter_context(self.ledger.reserve(str(box.path), root, box.quota, message.size))
                stored = _Stored(folder or box.path, self._write(into, message, link_to))
        except OverQuota:
            return self._full(), None
        except (OSError, SpillError) as error:
            return refusal(error), None
        return Reply(250, "2.0.0", f"Stored as {stored.name}"), stored

    def _folder(self, target: Destination) -> Path | None:
        if not (target.detail and self.detail_folders):
            return None
        return maildir.detail_folder(target.mailbox.path, target.detail)

    def _write(self, into: Maildir, message: StoredMessage, link_to: _Stored | None) -> str:
        name = self.names.next()
        if link_to is not None:
            try:
                with maildir.opened(link_to.path, self.root) as source:
                    return maildir.link(source, link_to.name, into, name)
            except FileNotFoundError:
                pass  # a reader took the first copy out of `new` already
            except OSError as error:
                if error.errno not in _MUST_COPY:
                    raise
        return maildir.write(into, name, message.parts(), message.size)

    def _full(self) -> Reply:
        if self.over_quota == "defer":
            return Reply(452, "4.2.2", "Mailbox full")
        return Reply(552, "5.2.2", "Mailbox full")


def _edited(message: Message, sender: Address, recipient: str) -> StoredMessage:
    """A message as a script has changed it, with the line ends of the store."""
    buffer = MessageBuffer(None)
    buffer.append(b"".join(message.chunks()).replace(b"\r\n", b"\n"))
    return for_delivery(buffer, sender, recipient)


def clean_line(text: str) -> str:
    """A text of a user as that of a reply."""
    line = " ".join(text.split())[:400]
    return "".join(one if " " <= one <= "~" else "?" for one in line) or "refused"


@dataclass(slots=True, frozen=True)
class _Stored:
    path: Path
    name: str


def refusal(error: OSError | SpillError) -> Reply:
    """The reply for a failure of the file system; its cause is for the log only."""
    cause: BaseException = error
    if isinstance(error, SpillError) and error.__cause__ is not None:
        cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _NO_SPACE:
        return Reply(452, "4.3.1", NO_STORAGE.text, cause=str(error))
    if isinstance(cause, TimeoutError):
        return Reply(450, "4.2.0", "Mailbox busy", cause=str(error))
    return Reply(451, "4.3.0", "Mail store failure", cause=str(error))
