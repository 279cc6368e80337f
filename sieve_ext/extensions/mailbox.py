"""mailbox (RFC 5490 section 3): mailboxexists, and :create on fileinto. Status: complete.

Whether a mailbox exists is a request, made each time anew: a script before, or the delivery of another
message, may just have made it. `:create` is the action's option "create"; it also works with :fcc (RFC 8580).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from sieve_ext.extend import (
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


@dataclass(frozen=True)
class MailboxExists(Request):
    """Is there a mailbox of this name that the message could be put into? Answered by True or False."""

    mailbox: str

    def unanswered(self) -> bool:
        """Only INBOX is always there."""
        return self.mailbox.upper() == "INBOX"


class MailboxExistsTest(Test):
    """mailboxexists <mailbox-names: string-list>: all of them are there (section 3.1)."""

    word = "mailboxexists"
    args_definition = (strings("mailbox-names"),)

    def compile(self, compiler: Compiler) -> Step:
        """Ask for one after the other, as far as needed."""
        names = compiler.texts(self.given["mailbox-names"])

        def exist(run: Run) -> Generator[Request, Any, bool]:
            for name in names.expand(run):
                run.spend(1)
                if not name or not (yield MailboxExists(name)):
                    return False
            return True

        return exist


class Create(StoreTag):
    """:create: the mailbox is made if it does not exist (section 3.2); option "create"."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Mark the action."""
        return _mark


def _mark(run: Run, action: Action) -> None:
    action.options["create"] = True


CAPABILITIES = (
    Capability(
        "mailbox",
        words=(MailboxExistsTest,),
        tags=(Create(":create", ("fileinto", *COPIERS)),),
        specification="RFC 5490 section 3",
    ),
)
