"""fcc (RFC 8580): :fcc on vacation and notify stores a copy of what is sent. Status: complete.

`:fcc` is the action's option "fcc", the name of the mailbox; :flags, :create, :specialuse and :mailboxid
beside it are options as with fileinto, and are about the copy. The host stores a copy of the first mail that
the action sends, if it sends one; that it cannot be stored does not keep the mail from being sent.
"""

from __future__ import annotations

from sieve_ext.extend import STRING, Action, ActionStep, Capability, Compiler, GivenTag, Node, Run, Tag
from sieve_ext.extensions.fileinto import mailbox_name
from sieve_ext.storing import COPIERS


class Fcc(Tag):
    """:fcc <mailbox: string>."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Say so in the action's options."""
        mailbox = compiler.text(given.value)

        def mark(run: Run, action: Action) -> None:
            name = mailbox.expand(run)
            problem = mailbox_name(name)
            if problem is not None:
                run.fail(f"fcc tag: {problem}")
            action.options["fcc"] = name

        return mark


CAPABILITIES = (
    Capability(
        "fcc",
        tags=(Fcc(":fcc", COPIERS, value=STRING, check=mailbox_name),),
        specification="RFC 8580",
    ),
)
