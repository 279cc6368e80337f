"""copy (RFC 3894): :copy on redirect, fileinto and, as Dovecot has it, pipe. Status: complete.

A command with it leaves the implicit keep as it was. When the same is asked for twice, once without :copy,
the implicit keep is cancelled.
"""

from __future__ import annotations

from sieve_ext.extend import Action, ActionStep, Capability, Compiler, GivenTag, Node, Run, Tag


class Copy(Tag):
    """:copy; the action's `copy` is then True."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep:
        """Mark the action."""
        return _mark


def _mark(run: Run, action: Action) -> None:
    action.copy = True


CAPABILITIES = (
    Capability("copy", tags=(Copy(":copy", ("redirect", "fileinto", "pipe")),), specification="RFC 3894"),
)
