"""vnd.dovecot.execute (Pigeonhole's specification): execute runs a program. Status: complete.

For scripts of administrators only. The program reads a string, the message as it stands, or nothing; what it
writes can go into a variable, cut to what one may hold. As a test it yields whether the program succeeded. A
program that does not exist is an error of the command, and makes the test false.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from sieve_ext.extend import (
    STRING,
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
    tag,
)
from sieve_ext.message import Message
from sieve_ext.programs import RunProgram, check_program, program_arguments

ARGUMENTS = (
    tag("input", ":input", value=STRING),
    tag("pipe", ":pipe"),
    tag("output", ":output", value=STRING),
    string("program-name"),
    strings("arguments", required=False),
)


def check_execute(node: Node, checker: Checker) -> None:
    """The program's name is one, the output goes into a variable, and there is one input."""
    check_program(node, checker)
    if node.has_tag("input") and node.has_tag("pipe"):
        checker.error(
            node, "conflicting-tags",
            f"conflicting :input and :pipe arguments specified for the {node.name} {node.kind}",
        )  # fmt: skip
    if not node.has_tag("output"):
        return
    if not checker.expands:
        checker.error(
            node.tags["output"], "no-variables",
            f"the {node.name} {node.kind} only allows for the specification of an :output variable when the"
            " variables extension is active",
            'it needs: require "variables"',
        )  # fmt: skip
    else:
        checker.variable(node.value("output"))


def compile_execute(node: Node, compiler: Compiler) -> Step:
    """Run the program, and say whether it succeeded."""
    program = compiler.text(node.given["program-name"])
    arguments = compiler.texts(node.given.get("arguments"))
    given = compiler.text(node.value("input")) if node.has_tag("input") else None
    pipes = node.has_tag("pipe")
    write = compiler.variable(node.value("output")).write if node.has_tag("output") else None
    is_test = node.kind == "test"

    def executed(run: Run) -> Generator[Request, Any, bool]:
        name = program.expand(run)
        data: Message | bytes | None = run.message if pipes else None
        if given is not None:
            data = given.expand(run).encode("utf-8", "replace")
        given_arguments = program_arguments(node.word, arguments, run)
        found = yield RunProgram("execute", name, given_arguments, data, write is not None, run.envelope)
        if found.is_missing:
            if not is_test:
                run.fail(f"execute action: program '{name}' not found")
            return False
        if write is not None and found.succeeded:
            write(run, run.limit_value(found.output.decode("utf-8", "replace")))
        return bool(found.succeeded)

    return executed


class ExecuteCommand(Act):
    """execute [:input S / :pipe] [:output <variable>] <program-name: string> [<arguments: string-list>]."""

    word = "execute"
    args_definition = ARGUMENTS

    def check(self, checker: Checker) -> None:
        """See `check_execute`."""
        check_execute(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Run the program."""
        return compile_execute(self, compiler)


class ExecuteTest(Test):
    """The same as a test: whether the program succeeded."""

    word = "execute"
    args_definition = ARGUMENTS

    def check(self, checker: Checker) -> None:
        """See `check_execute`."""
        check_execute(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Run the program."""
        return compile_execute(self, compiler)


CAPABILITIES = (
    Capability(
        "vnd.dovecot.execute",
        words=(ExecuteCommand, ExecuteTest),
        is_privileged=True,
        specification="Pigeonhole: spec-bosch-sieve-extprograms",
        settings={
            "sieve_execute_bin_dir": "where the programs are; read by the host",
            "sieve_execute_input_eol": "line ends of a program's input, crlf or lf; read by the host",
        },
    ),
)
