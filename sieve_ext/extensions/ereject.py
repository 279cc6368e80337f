"""ereject (RFC 5429 section 2.1): refuses the message in the protocol. Status: complete.

As `reject`, but the sender's server has to hear of it while it waits, if that is possible at all.
"""

from __future__ import annotations

from sieve_ext.extend import Act, Capability, Compiler, Step, string
from sieve_ext.outgoing.reject import ErejectAction


class ErejectCommand(Act):
    """ereject <reason: string>."""

    word = "ereject"
    args_definition = (string("reason"),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        reason = compiler.text(self.given["reason"])
        return compiler.action(self, lambda run: ErejectAction(reason.expand(run)))


CAPABILITIES = (Capability("ereject", words=(ErejectCommand,), specification="RFC 5429 section 2.1"),)
