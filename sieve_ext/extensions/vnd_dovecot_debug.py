"""vnd.dovecot.debug (Pigeonhole's specification): debug_log. Status: complete."""

from __future__ import annotations

from sieve_ext.extend import Capability, Compiler, Control, Run, Step, string

SHOWN = 1000
"""Characters of a message that go into the log."""


class DebugLogCommand(Control):
    """debug_log <message: string>: a note in the log; nothing else happens."""

    word = "debug_log"
    args_definition = (string("message"),)

    def compile(self, compiler: Compiler) -> Step:
        """Write the note."""
        message = compiler.text(self.given["message"])

        def note(run: Run) -> None:
            run.note(f"DEBUG: {message.expand(run)[:SHOWN]}")

        return note


CAPABILITIES = (
    Capability(
        "vnd.dovecot.debug", words=(DebugLogCommand,), specification="Pigeonhole: spec-bosch-sieve-debug"
    ),
)
