"""mailboxid (RFC 9042): mailboxidexists, and :mailboxid on fileinto. Status: complete.

`:mailboxid` is the action's option "mailboxid": the host puts the message into the mailbox with this OBJECTID
(RFC 8474) if there is one, else into the one that is named. It also works with :fcc.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from sieve_ext.extend import (
    STRING,
    Action,
    ActionStep,
    Capability,
    Compiler,
    GivenTag,
    Node,
    Request,
    Run,
    Step,
    Test,
    strings,
)
from sieve_ext.storing import COPIERS, StoreTag

_is_id = re.compile(r"[A-Za-z0-9_-]{1,255}").fullmatch


def object_id(text: str) -> str | None:
    """What is suspicious about an OBJECTID (RFC 8474 section 7): no server has given it out."""
    return None if _is_id(text) else f"no mailbox can have the mailboxid '{text[:100]}'"


@dataclass(frozen=True)
class MailboxIdExists(Request):
    """Is there a mailbox with this id that the message could be put into? Answered by True or False."""

    mailbox_id: str

    def unanswered(self) -> bool:
        """None is known."""
        return False


class MailboxIdExistsTest(Test):
    """mailboxidexists <mailbox-objectids: string-list>: all of them are there (section 5)."""

    word = "mailboxidexists"
    args_definition = (strings("mailbox-objectids", warn=object_id),)

    def compile(self, compiler: Compiler) -> Step:
        """Ask for one after the other, as far as needed."""
        ids = compiler.texts(self.given["mailbox-objectids"])

        def exist(run: Run) -> Generator[Request, Any, bool]:
            for one in ids.expand(run):
                run.spend(1)
                if object_id(one) is not None or not (yield MailboxIdExists(one)):
                    return False
            return True

        return exist


class MailboxId(StoreTag):
    """:mailboxid <mailbox-objectid: string> (section 4)."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        wanted = compiler.text(given.value)

        def mark(run: Run, action: Action) -> None:
            action.options["mailboxid"] = wanted.expand(run)

        return mark


CAPABILITIES = (
    Capability(
        "mailboxid",
        words=(MailboxIdExistsTest,),
        tags=(MailboxId(":mailboxid", ("fileinto", *COPIERS), value=STRING, warn=object_id),),
        specification="RFC 9042",
    ),
)
