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
    Request,
    Run,
    Step,
    Test,
    string,
    strings,
    tag,
)
from sieve_ext.message import Message
from sieve_ext.programs import ProgramNode


class ExecuteNode(ProgramNode):
    """execute [:input S / :pipe] [:output <variable>] <program-name: string> [<arguments: string-list>]."""

    word = "execute"
    args_definition = (
        tag("input", ":input", value=STRING),
        tag("pipe", ":pipe"),
        tag("output", ":output", value=STRING),
        string("program-name"),
        strings("arguments", required=False),
    )

    def check(self, checker: Checker) -> None:
        """The program's name is one, the output goes into a variable, and there is one input."""
        super().check(checker)
        if self.has_tag("input") and self.has_tag("pipe"):
            checker.error(
                self, "conflicting-tags",
                f"conflicting :input and :pipe arguments specified for the {self.name} {self.kind}",
            )  # fmt: skip
        if not self.has_tag("output"):
            return
        if not checker.expands:
            checker.error(
                self.tags["output"], "no-variables",
                f"the {self.name} {self.kind} only allows for the specification of an :output variable when"
                " the variables extension is active",
                'it needs: require "variables"',
            )  # fmt: skip
        else:
            checker.variable(self.value("output"))

    def compile(self, compiler: Compiler) -> Step:
        """Run the program, and say whether it succeeded."""
        _, call = self.program(compiler)
        given = compiler.text(self.value("input")) if self.has_tag("input") else None
        pipes = self.has_tag("pipe")
        write = compiler.variable(self.value("output")).write if self.has_tag("output") else None

        def executed(run: Run) -> Generator[Request, Any, bool]:
            data: Message | bytes | None = run.message if pipes else None
            if given is not None:
                data = given.expand(run).encode("utf-8", "replace")
            found = yield from call(run, data, write is not None)
            if write is not None and found.succeeded:
                write(run, run.limit_value(found.output.decode("utf-8", "replace")))
            return found.succeeded

        return executed


class ExecuteCommand(ExecuteNode, Act):
    """As a command."""


class ExecuteTest(ExecuteNode, Test):
    """As a test: whether the program succeeded."""


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
