"""keep and discard (RFC 5228 sections 4.3 and 4.4). Status: complete."""

from __future__ import annotations

from sieve_ext.closures.compiler import Compiler
from sieve_ext.language.node import Act
from sieve_ext.runtime.actions import Discard, Keep
from sieve_ext.runtime.steps import Step


class KeepCommand(Act):
    """Puts the message into the default mailbox."""

    word = "keep"

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        return compiler.action(self, lambda run: Keep())


class DiscardCommand(Act):
    """Cancels the implicit keep and does nothing else."""

    word = "discard"

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        return compiler.action(self, lambda run: Discard())


WORDS = (KeepCommand, DiscardCommand)
