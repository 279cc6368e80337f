"""vnd.dovecot.filter (Pigeonhole's specification): filter changes the message by a program. Status: complete.

For scripts of administrators only. The program reads the message as it stands; what it writes is the
message from there on. Actions before keep the message as it was. Where the program fails the message stays;
as a test it then yields false. A program that does not exist is an error of the command, and makes the test
false.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from sieve_ext.extend import (
    Act,
    Capability,
    Checker,
    Compiler,
    Node,
    Request,
    Run,
    Step,
    Test,
    string,
    strings,
)
from sieve_ext.message import Message
from sieve_ext.programs import RunProgram, check_program, program_arguments

ARGUMENTS = (string("program-name"), strings("arguments", required=False))


def compile_filter(node: Node, compiler: Compiler) -> Step:
    """Filter, and say whether it worked."""
    program = compiler.text(node.given["program-name"])
    arguments = compiler.texts(node.given.get("arguments"))
    is_test = node.kind == "test"

    def filtered(run: Run) -> Generator[Request, Any, bool]:
        name = program.expand(run)
        found = yield RunProgram(
            "filter", name, program_arguments(node.word, arguments, run), run.message, True, run.envelope
        )
        if found.is_missing:
            if not is_test:
                run.fail(f"filter action: program '{name}' not found")
            return False
        if not found.succeeded or not found.output:
            run.note(f"filter action: program '{name}' failed, the message stays as it is")
            return False
        run.message = Message(found.output)
        return True

    return filtered


class FilterCommand(Act):
    """filter <program-name: string> [<arguments: string-list>]."""

    word = "filter"
    args_definition = ARGUMENTS

    def check(self, checker: Checker) -> None:
        """The program's name is one."""
        check_program(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Filter."""
        return compile_filter(self, compiler)


class FilterTest(Test):
    """The same as a test: whether it worked."""

    word = "filter"
    args_definition = ARGUMENTS

    def check(self, checker: Checker) -> None:
        """The program's name is one."""
        check_program(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Filter."""
        return compile_filter(self, compiler)


CAPABILITIES = (
    Capability(
        "vnd.dovecot.filter",
        words=(FilterCommand, FilterTest),
        is_privileged=True,
        specification="Pigeonhole: spec-bosch-sieve-extprograms",
        settings={"sieve_filter_bin_dir": "where the programs are; read by the host"},
    ),
)
