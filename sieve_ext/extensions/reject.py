"""reject (RFC 5429 section 2.2): refuses the message with a reason. Status: complete.

The host refuses while the client waits where it can (550), else it sends what `RejectAction.mails` makes: a
disposition notification to the sender, none to the null sender.
"""

from __future__ import annotations

from sieve_ext.extend import Act, Capability, Compiler, Step, string
from sieve_ext.outgoing.reject import RejectAction


class RejectCommand(Act):
    """reject <reason: string>."""

    word = "reject"
    args_definition = (string("reason"),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        reason = compiler.text(self.given["reason"])
        return compiler.action(self, lambda run: RejectAction(reason.expand(run)))


CAPABILITIES = (Capability("reject", words=(RejectCommand,), specification="RFC 5429 section 2.2"),)
