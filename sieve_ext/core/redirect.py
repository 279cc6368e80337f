"""redirect (RFC 5228 section 4.2). Status: complete.

The address may have a display name, which is dropped. How many redirects a result may have is the setting
`sieve_max_redirects`, 4 by default.
"""

from __future__ import annotations

from sieve_ext.closures.compiler import Compiler
from sieve_ext.language.arguments import string
from sieve_ext.language.node import Act
from sieve_ext.message import Mailbox
from sieve_ext.runtime.actions import Redirect
from sieve_ext.runtime.run import Run
from sieve_ext.runtime.steps import Step
from sieve_ext.validate.values import normal_address, read_address, redirect_address


class RedirectCommand(Act):
    """Sends the message on."""

    word = "redirect"
    args_definition = (string("address", check=redirect_address),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        template = compiler.text(self.given["address"])
        if template.constant is not None:
            address = normal_address(template.constant) or template.constant
            return compiler.action(self, lambda run: Redirect(address))

        def make(run: Run) -> Redirect:
            text = template.expand(run)
            mailbox = read_address(text)
            if not isinstance(mailbox, Mailbox):
                run.fail(f"specified redirect address '{text[:200]}' is invalid: {mailbox}")
            return Redirect(mailbox.address)

        return compiler.action(self, make)
