"""External programs (Pigeonhole's extprograms): what pipe, filter and execute have in common.

A program is a name; what it stands for is for the host to know. The engine runs nothing itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from sieve_ext.closures.compiler import Compiler
from sieve_ext.closures.strings import TemplateList
from sieve_ext.language.node import Node
from sieve_ext.message import Message
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.run import Run
from sieve_ext.validate.checker import Checker, texts

NAME = 128
"""Longest name of a program, in characters."""

ARGUMENTS = 32
"""Arguments of one call."""

ARGUMENT_OCTETS = 1024
"""Longest argument."""

_is_name = re.compile("[^\x00-\x1f/\x7f-\x9f\u2028\u2029]+").fullmatch


@dataclass(frozen=True)
class ProgramResult:
    """What became of a program."""

    succeeded: bool = False
    """It was run and ended without an error."""
    output: bytes = b""
    """What it wrote; after a filter, the message."""
    is_missing: bool = False
    """There is no program of this name."""


@dataclass(frozen=True, eq=False)
class RunProgram(Request):
    """Run a program now and wait for it. Answered by a `ProgramResult`."""

    kind: str
    """ "filter" or "execute"."""
    program: str
    arguments: tuple[str, ...]
    input: Message | bytes | None
    """What it reads: the message as it stands, text, or nothing."""
    wants_output: bool
    envelope: Envelope

    def unanswered(self) -> ProgramResult:
        """There are no programs."""
        return ProgramResult(is_missing=True)


def program_environment(envelope: Envelope) -> dict[str, str]:
    """What a program finds in its environment about the message, as Pigeonhole's programs do."""
    return {
        "SENDER": envelope.sender or "",
        "RECIPIENT": envelope.recipient,
        "ORIG_RECIPIENT": envelope.original_recipient or envelope.recipient,
    }


def program_name(text: str) -> str | None:
    """What is wrong with the name of a program."""
    if text in (".", "..") or not _is_name(text) or len(text) > NAME:
        return f"invalid program name '{text[:NAME]}'"
    return None


def check_program(node: Node, checker: Checker) -> None:
    """Report what is wrong with program and arguments."""
    given = node.given["program-name"]
    name = checker.constant(given)
    if name is None:
        checker.error(
            given, "dynamic-program",
            f"the {node.name} {node.kind} requires a constant string for its program-name argument",
        )  # fmt: skip
    elif (problem := program_name(name)) is not None:
        checker.error(given, "bad-program", f"{node.name} {node.kind}: {problem}")
    arguments = texts(node.given.get("arguments"))
    if len(arguments) > ARGUMENTS:
        checker.error(
            arguments[ARGUMENTS], "too-many-arguments",
            f"{node.name} {node.kind}: too many arguments for the program (max {ARGUMENTS})",
        )  # fmt: skip
    for text in arguments:
        value = checker.constant(text)
        if value is not None and (problem := program_argument(value)) is not None:
            checker.error(text, "bad-argument", f"{node.name} {node.kind}: {problem}")


def program_argument(text: str) -> str | None:
    """What is wrong with an argument for a program."""
    if len(text.encode("utf-8", "surrogatepass")) > ARGUMENT_OCTETS:
        return f"argument for the program is too long (max {ARGUMENT_OCTETS} bytes)"
    if "\r" in text or "\n" in text or "\0" in text:
        return "argument for the program has a line end or NUL in it"
    return None


def program_arguments(word: str, arguments: TemplateList, run: Run) -> tuple[str, ...]:
    """The arguments in this run. Fails the run where one cannot be given to a program."""
    found = arguments.expand(run)
    for one in found:
        problem = program_argument(one)
        if problem is not None:
            run.fail(f"{word} action: {problem}")
    return found


Call = Callable[[Run, Message | bytes | None, bool], Generator[Request, Any, ProgramResult]]
"""Runs the program of a word: takes the run, the program's input and whether its output is wanted."""


class ProgramNode(Node):
    """What runs a program and waits for it, as a command or as a test; the class adds Act or Test."""

    def check(self, checker: Checker) -> None:
        """The program's name and arguments are ones."""
        check_program(self, checker)

    def program(self, compiler: Compiler) -> tuple[str, Call]:
        """The program's name, and what runs it; a command whose program is not there fails the run."""
        name = compiler.text(self.text("program-name")).constant or ""
        arguments = compiler.texts(self.given.get("arguments"))
        word, is_test = self.word, self.kind == "test"

        def call(
            run: Run, data: Message | bytes | None, wants_output: bool
        ) -> Generator[Request, Any, ProgramResult]:
            given = program_arguments(word, arguments, run)
            found: ProgramResult = yield RunProgram(word, name, given, data, wants_output, run.envelope)
            if found.is_missing and not is_test:
                run.fail(f"{word} action: program '{name}' not found")
            return found

        return name, call
