"""vnd.dovecot.filter (Pigeonhole's specification): filter changes the message by a program. Status: complete.

For scripts of administrators only. The program reads the message as it stands; what it writes is the
message from there on. Actions before keep the message as it was. Where the program fails the message stays;
as a test it then yields false. A program that does not exist is an error of the command, and makes the test
false.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from sieve_ext.extend import Act, Capability, Compiler, Request, Run, Step, Test, string, strings
from sieve_ext.message import Message
from sieve_ext.programs import ProgramNode


class FilterNode(ProgramNode):
    """filter <program-name: string> [<arguments: string-list>]."""

    word = "filter"
    args_definition = (string("program-name"), strings("arguments", required=False))

    def compile(self, compiler: Compiler) -> Step:
        """Filter, and say whether it worked."""
        name, call = self.program(compiler)

        def filtered(run: Run) -> Generator[Request, Any, bool]:
            found = yield from call(run, run.message, True)
            if found.is_missing:
                return False
            if not found.succeeded or not found.output:
                run.note(f"filter action: program '{name}' failed, the message stays as it is")
                return False
            run.message = Message(found.output)
            return True

        return filtered


class FilterCommand(FilterNode, Act):
    """As a command."""


class FilterTest(FilterNode, Test):
    """As a test: whether it worked."""


CAPABILITIES = (
    Capability(
        "vnd.dovecot.filter",
        words=(FilterCommand, FilterTest),
        is_privileged=True,
        specification="Pigeonhole: spec-bosch-sieve-extprograms",
        settings={"sieve_filter_bin_dir": "where the programs are; read by the host"},
    ),
)
