"""vnd.tamis.log: what a rule has to say to the administrator alone. Status: complete.

    log <text: string>

A line of the log, with the place of the command, and nothing else. It tries a rule that is to refuse later,
as WARN and warn_if_reject of Postfix do.
"""

from __future__ import annotations

from mta.policy.sieve.facts import ALWAYS
from mta.policy.sieve.reply import TEXT_MOST
from sieve_ext.extend import Act, Capability, Compiler, Run, Step, string


class LogCommand(Act):
    """log <text: string>."""

    word = "log"
    stages = ALWAYS
    args_definition = (string("text"),)

    def compile(self, compiler: Compiler) -> Step:
        """Note the text, cut to what fits into a line."""
        text = compiler.text(self.given["text"])

        def note(run: Run) -> None:
            run.note(f"log: {text.expand(run)[:TEXT_MOST]}")

        return note


CAPABILITIES = (Capability("vnd.tamis.log", words=(LogCommand,), specification="docs/policy/log.md"),)
