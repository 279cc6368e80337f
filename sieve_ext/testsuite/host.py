"""What a script under test is told when it asks: the mail store, dictionary files, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sieve_ext.extensions.mailbox import MailboxExists
from sieve_ext.extensions.mailboxid import MailboxIdExists
from sieve_ext.extensions.mboxmetadata import MailboxMetadata
from sieve_ext.extensions.servermetadata import ServerMetadata
from sieve_ext.extensions.special_use import SpecialUseExists
from sieve_ext.message import Message
from sieve_ext.runtime.actions import Action, Keep, StoreAction
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.run import Run

if TYPE_CHECKING:
    from sieve_ext.testsuite.session import Session


class TestHost:
    """Answers the requests of scripts in a session."""

    __test__ = False  # not one of pytest's

    def __init__(self, session: Session) -> None:
        """Everything comes from the session."""
        self._session = session

    def answer(self, request: Request) -> Any:
        """The answer to a request; by default that which it has when nobody knows."""
        store = self._session.store
        match request:
            case MailboxExists():
                return store.find(request.mailbox) is not None
            case MailboxIdExists():
                return store.by_identity(request.mailbox_id) is not None
            case SpecialUseExists():
                return store.has_special_use(request.mailbox, request.attribute)
            case MailboxMetadata():
                folder = store.find(request.mailbox)
                return None if folder is None else folder.annotations.get(request.annotation)
            case ServerMetadata():
                return store.annotations.get(request.annotation)
        return request.unanswered()

    def show_flags(self, run: Run, flags: tuple[str, ...]) -> None:
        """Let a script see the flags of a message of the store."""
        run.state["imap4flags"] = list(flags)

    def is_keep(self, action: Action) -> bool:
        """An action that keeps the message in the default mailbox."""
        return isinstance(action, StoreAction) and action.target.upper() == "INBOX"

    def implicit_keep(self, message: Message) -> Keep:
        """A keep that no command asked for."""
        keep = Keep(implicit=True)
        keep.message = message
        return keep
