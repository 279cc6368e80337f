"""What a script under test is told when it asks: the mail store, dictionary files, settings, programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sieve_ext.extensions.extlists import (
    DEFAULT_ADDRESS_BOOK,
    ListKnown,
    ListLookup,
    ListMembers,
    full_name,
)
from sieve_ext.extensions.mailbox import MailboxExists
from sieve_ext.extensions.mailboxid import MailboxIdExists
from sieve_ext.extensions.mboxmetadata import MailboxMetadata
from sieve_ext.extensions.servermetadata import ServerMetadata
from sieve_ext.extensions.special_use import SpecialUseExists
from sieve_ext.programs import ProgramResult, RunProgram
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.settings import Settings
from sieve_ext.testsuite.mailstore import MailStore
from sieve_ext.testsuite.programs import run_program
from sieve_ext.testsuite.scripts import read_dictionary

MEMBER = "priv/sieve/extlists/"
"""What stands before a member among the keys of a dictionary file."""


class TestHost:
    """Answers the requests of scripts in a session. Nothing is remembered of duplicates."""

    __test__ = False  # not one of pytest's

    def __init__(self, store: MailStore, settings: Settings, directory: Path) -> None:
        """`directory` is what relative paths of the settings begin at."""
        self._store = store
        self._settings = settings
        self._directory = directory
        self._answers: dict[type[Request], Callable[[Any], Any]] = {
            MailboxExists: self._mailbox_exists,
            MailboxIdExists: self._mailbox_id_exists,
            SpecialUseExists: self._special_use_exists,
            MailboxMetadata: self._mailbox_metadata,
            ServerMetadata: self._server_metadata,
            ListLookup: self._list_lookup,
            ListKnown: self._list_known,
            ListMembers: self._list_members,
            RunProgram: self._run_program,
        }

    def answer(self, request: Request) -> Any:
        """The answer to a request; that which it has when nobody knows, if it is none of the above."""
        known = self._answers.get(type(request))
        return request.unanswered() if known is None else known(request)

    def _mailbox_exists(self, request: MailboxExists) -> bool:
        return self._store.find(request.mailbox) is not None

    def _mailbox_id_exists(self, request: MailboxIdExists) -> bool:
        return self._store.by_identity(request.mailbox_id) is not None

    def _special_use_exists(self, request: SpecialUseExists) -> bool:
        return self._store.has_special_use(request.mailbox, request.attribute)

    def _mailbox_metadata(self, request: MailboxMetadata) -> str | None:
        folder = self._store.find(request.mailbox)
        return None if folder is None else folder.annotations.get(request.annotation)

    def _server_metadata(self, request: ServerMetadata) -> str | None:
        return self._store.annotations.get(request.annotation)

    def _run_program(self, request: RunProgram) -> ProgramResult:
        return run_program(
            self._settings,
            request.kind,
            request.program,
            request.arguments,
            request.input,
            request.envelope,
        )

    # Lists

    def _members(self, name: str) -> set[str] | None:
        """The members of a list; None when it is not known."""
        for label in self._settings.text("sieve_extlists_list").split():
            prefix = f"sieve_extlists_list/{label}/"
            if full_name(self._settings.text(f"{prefix}name", label)) != full_name(name):
                continue
            path = self._settings.text(f"{prefix}dict/file/path")
            if self._settings.text(f"{prefix}dict") != "file" or not path:
                return set()
            entries = read_dictionary(self._directory / path)
            return {key.removeprefix(MEMBER) for key in entries if key.startswith(MEMBER)}
        return set() if full_name(name) == DEFAULT_ADDRESS_BOOK else None

    def _list_lookup(self, request: ListLookup) -> str | None:
        members = set().union(*(self._members(name) or () for name in request.lists))
        return next((value for value in request.values if value in members), None)

    def _list_known(self, request: ListKnown) -> bool:
        return self._members(request.name) is not None

    def _list_members(self, request: ListMembers) -> list[str] | None:
        members = self._members(request.name)
        return None if members is None else sorted(members)
