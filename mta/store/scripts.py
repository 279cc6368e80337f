"""Users' own Sieve scripts, run when mail is stored: those that ManageSieve keeps (`mta.scripts`).

    script = scripts.of(user)            the active one, compiled; None when there is none that can be used
    plan = scripts.run(script, ...)      where the message goes, what is sent, or why it is refused

A script that is broken, fails or takes too long is as if it were not there: the message is kept, and the log
says why. What a run wants is carried out by `mta.store.deliver`. The functions block; they run in the
store's threads.
"""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mta.address import Address
from mta.content import Content
from mta.net.limits import Networks
from mta.passedon import LOOPS, came
from mta.scripts.names import active_script, user_folder
from mta.scripts.store import FolderStore
from mta.store.answered import Answered
from mta.store.wishes import NONE, Wishes, wishes_of
from sieve_ext import Envelope, InvalidScript, Message, Request, Script, Settings, execute, standard_dialect
from sieve_ext import compile as compile_script
from sieve_ext.extensions.duplicate import DuplicateRecord, DuplicateSeen
from sieve_ext.extensions.mailbox import MailboxExists
from sieve_ext.outgoing import MailAction, Origin
from sieve_ext.outgoing.reject import RejectAction
from sieve_ext.runtime.actions import Redirect, StoreAction
from sieve_ext.runtime.result import Result

LARGEST = 32 * 1024 * 1024
"""Octets of the largest message that scripts are asked about: it is held in memory for them."""
SCRIPTS_KEPT = 500
"""Compiled scripts that are kept; then all are made anew."""
CPU_TIME = "2s"
"""Processor time of a run."""
REDIRECTS = "8"
"""Addresses that one script may redirect a message to."""
Tell = Callable[[str, str], None]
"""Told the user and what is wrong, for the log."""


@dataclass(slots=True)
class Outgoing:
    """A mail that a script sends."""

    sender: str
    recipients: tuple[str, ...]
    octets: bytes
    is_answer: bool = False
    """Nothing is lost when it cannot be sent."""
    wishes: Wishes = NONE
    key: tuple[bytes, int] | None = None
    """What must not be answered again for so many seconds."""


@dataclass(slots=True)
class Plan:
    """What a script wants done with a message."""

    folders: list[tuple[str, Message | None]] = field(default_factory=list)
    """Mailboxes that get it, "INBOX" first if it is among them; with the message as edited, None as it
    came."""
    mails: list[Outgoing] = field(default_factory=list)
    refusal: str | None = None
    """The reason with which it is refused."""
    records: list[Request] = field(default_factory=list)
    """What is remembered once all of that is done (`UserScripts.done`)."""


Stamp = tuple[int, int, int] | None
"""What differs between two versions of a file; None while there is none."""


@dataclass(slots=True, frozen=True)
class _Kept:
    stamps: dict[str, Stamp]
    """Of the script and of those that it includes."""
    script: Script | None


class UserScripts:
    """The scripts of all users of a store."""

    def __init__(
        self,
        state_directory: str,
        hostname: str,
        tell: Tell,
        delimiters: str = "+",
        trusted: Sequence[str] = (),
    ) -> None:
        """`state_directory` is that of the server, where ManageSieve keeps the scripts.

        `delimiters` are the characters that separate user and detail for the store, and so for `:detail`.
        `trusted` are the networks whose clients the server trusts with their senders.
        """
        self._is_trusted = Networks(trusted).contain_text
        self._state = state_directory
        self._hostname = hostname
        self._tell = tell
        self._kept: dict[str, _Kept] = {}
        self._values = {
            "sieve_max_cpu_time": CPU_TIME,
            "sieve_max_redirects": REDIRECTS,
            "recipient_delimiter": delimiters,
        }
        self._settings = Settings(self._values)
        self._claiming = threading.Lock()
        self._answered = Answered(os.path.join(state_directory, "sieve-answered"))

    def tell(self, user: str, text: str) -> None:
        """Something that the user's mail met with, for the log."""
        self._tell(user, text)

    def of(self, user: str) -> Script | None:
        """The active script of a user, compiled."""
        try:
            folder = user_folder(self._state, user)
            for _ in range(2):  # the script may get another name in this moment
                path = active_script(folder)
                if not path:
                    return None
                script = self._at(user, path, folder)
                if script is not None or os.path.exists(path):
                    return script
        except (OSError, ValueError):
            pass
        return None

    def _at(self, user: str, path: str, folder: str) -> Script | None:
        """The script in a file; None for one that is not there, and for one that cannot be used."""
        kept = self._kept.get(path)
        if kept is None or any(_stamp(name) != stamp for name, stamp in kept.stamps.items()):
            kept = self._compiled(user, path, folder)
            if len(self._kept) >= SCRIPTS_KEPT:
                self._kept.clear()
            self._kept[path] = kept
        return kept.script

    def _compiled(self, user: str, path: str, folder: str) -> _Kept:
        # The stamps are older than what is read, so that a change meanwhile is seen the next time.
        kept = _Kept({path: _stamp(path)}, None)
        store = _Noted(FolderStore(folder), kept.stamps)
        try:
            text = Path(path).read_bytes()
            script = compile_script(text, standard_dialect(), settings=self._settings, store=store)
        except FileNotFoundError:
            return kept
        except (OSError, InvalidScript) as error:
            self._tell(user, f"{path}: {error}")
            return kept
        return replace(kept, script=script)

    def run(
        self,
        script: Script,
        user: str,
        content: Content,
        sender: Address,
        recipient: str,
        folder_exists: Callable[[str], bool],
    ) -> Plan | None:
        """What the script wants done; None when it says nothing: the message is kept as usual."""
        if content.size > LARGEST:
            self._tell(user, f"a message of {content.size} octets is kept without asking the script")
            return None
        received = Message(b"".join(content.chunks()).replace(b"\n", b"\r\n"))
        envelope = Envelope(sender.text, recipient, recipient)
        host = _Host(self._answered, user, folder_exists)
        around = {"location": "MDA", "phase": "during", "host": self._hostname, "name": "Tamis Sieve"}
        result = execute(script, received, envelope, host, settings=self._settings, environment=around)
        for note in result.notes:
            self._tell(user, str(note))
        if result.failed:
            self._tell(user, "; ".join(str(one) for one in result.errors))
            return None
        if sender.local.isascii():  # a domain in ASCII is one that every next hop takes, in the header too
            envelope = replace(envelope, sender=sender.to_ascii().text)
        origin = Origin(
            received, envelope, Settings(self._values | {"sieve_user_email": user}),
            datetime.datetime.now().astimezone(), f"postmaster@{self._hostname}", self._hostname,
        )  # fmt: skip
        try:
            plan = self._plan(result, received, origin, user)
        except Exception as error:  # noqa: BLE001 - one user's script is no matter of others
            self._tell(user, f"internal error: {error!r}")
            return None
        plan.records = result.records
        return plan

    def done(self, user: str, plan: Plan) -> None:
        """A plan was carried out: remember what the script has seen (RFC 7352 section 3)."""
        for record in plan.records:
            match record:
                case DuplicateRecord(key=key, seconds=seconds):
                    try:
                        self._answered.add(user, b"d" + key, seconds)
                    except OSError as error:
                        self.tell(user, f"not remembered by duplicate: {error}")

    def _plan(self, result: Result, received: Message, origin: Origin, user: str) -> Plan:
        plan = Plan()
        edited = result.message
        stopped: list[tuple[Redirect, Message | None]] = []
        for action in result.all_actions:
            message = action.message or edited
            changed = None if message is None or message is received else message
            match action:
                case RejectAction():
                    plan.refusal = action.reason
                case StoreAction():
                    plan.folders.append((action.target, changed))
                case Redirect():
                    mail = self._redirected(action, changed or received, origin)
                    if mail is None:
                        self._tell(user, f"redirect to {action.address}: it was here before")
                        stopped.append((action, changed))
                    else:
                        plan.mails.append(mail)
                case MailAction():
                    self._answer(plan, action, origin, user)
        for action, changed in stopped:
            # Kept once, and where a copy was not made only if nothing else keeps it.
            if not any(action.copy or name.upper() == "INBOX" for name, _ in plan.folders):
                plan.folders.append(("INBOX", changed))
        plan.folders.sort(key=lambda one: one[0].upper() != "INBOX")
        return plan

    def _redirected(self, action: Redirect, message: Message, origin: Origin) -> Outgoing | None:
        """The message for another address; None when it was here before."""
        # The mailbox, whatever the detail: a script that redirects to ever new details of its user would
        # never meet the same recipient again.
        user = origin.user_email
        if any(one.text.strip().lower() == user.lower() for one in message.all(LOOPS)):
            return None
        copy = message.snapshot()
        copy.remove(copy.all("return-path"))
        copy.add("X-Sieve-Redirected-From", user)
        octets = b"".join(copy.chunks())
        options = action.options
        origins = came(origin.message, self._is_trusted)
        if origins.from_outside and not origins.spf_passed:  # nobody vouches for the sender
            options = options | {"notify": ("NEVER",)}
        wishes = wishes_of(options, origin.now)
        return Outgoing(origin.envelope.sender or "", (action.address,), octets, wishes=wishes)

    def _answer(self, plan: Plan, action: MailAction, origin: Origin, user: str) -> None:
        why = action.withheld(origin)
        key = action.reply_key(origin)
        if why is not None:
            self._tell(user, why)
        elif key is None or not self._answered.has(user, key[0]):
            plan.mails += [
                Outgoing(mail.sender, mail.recipients, mail.octets, is_answer=True, key=key)
                for mail in action.mails(origin)
            ]

    def claim(self, user: str, mail: Outgoing) -> bool:
        """Whether to send the mail now; what is an answer is from here on one that was given."""
        if mail.key is None:
            return True
        with self._claiming:
            if self._answered.has(user, mail.key[0]):
                return False
            try:
                self._answered.add(user, *mail.key)
            except OSError as error:
                self.tell(user, f"the answer is not remembered: {error}")
        return True

    def release(self, user: str, mail: Outgoing) -> None:
        """The mail could not be sent: the next message may have the answer."""
        if mail.key is not None:
            self._answered.remove(user, mail.key[0])


class _Host:
    """Answers what scripts ask of the store."""

    def __init__(self, answered: Answered, user: str, folder_exists: Callable[[str], bool]) -> None:
        self._answered = answered
        self._user = user
        self._folder_exists = folder_exists

    def answer(self, request: Request) -> Any:
        match request:
            case MailboxExists(mailbox=name):
                return self._folder_exists(name)
            case DuplicateSeen(key=key):
                return self._answered.has(self._user, b"d" + key)
        return request.unanswered()


class _Noted:
    """A folder of scripts that notes which files were asked for."""

    def __init__(self, store: FolderStore, stamps: dict[str, Stamp]) -> None:
        self._store = store
        self._stamps = stamps

    def load(self, location: str, name: str) -> bytes | None:
        path = self._store.path(name)
        self._stamps[path] = _stamp(path)
        return self._store.load(location, name)


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
