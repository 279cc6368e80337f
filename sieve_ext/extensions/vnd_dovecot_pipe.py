"""vnd.dovecot.pipe (Pigeonhole's specification): pipe hands the message to a program. Status: complete.

For scripts of administrators only. The host runs the program when it carries the result out. Where that
fails the message is kept: with an error, or with :try as if there had been no such command.
"""

from __future__ import annotations

from dataclasses import dataclass

from sieve_ext.extend import Act, Action, Capability, Checker, Compiler, Run, Step, string, strings, tag
from sieve_ext.programs import check_program, program_arguments


@dataclass(eq=False)
class PipeAction(Action):
    """Give the message to a program."""

    name = "pipe"
    delivers = True

    program: str = ""
    """A name that the administrator has given a meaning; never a path."""
    arguments: tuple[str, ...] = ()
    is_try: bool = False
    """A failure is no error."""

    def conflict(self, other: Action) -> str | None:
        """To one program only once (section 5.1)."""
        if other is self or not isinstance(other, PipeAction) or other.program != self.program:
            return None
        if other.executed or self.executed:
            return None
        line = min(self.position.line, other.position.line)
        return (
            f'duplicate pipe "{self.program}" action not allowed (previously triggered one was here:'
            f" line {line})"
        )

    def absorb(self, later: Action) -> bool:
        """What has been done is not done again."""
        return self.executed and isinstance(later, PipeAction) and later.program == self.program

    def describe(self) -> str:
        """One line for people."""
        return f"pipe to program {self.program!r}"


class PipeCommand(Act):
    """pipe [:copy] [:try] <program-name: string> [<arguments: string-list>]."""

    word = "pipe"
    args_definition = (
        tag("try", ":try"),
        string("program-name"),
        strings("arguments", required=False),
    )

    def check(self, checker: Checker) -> None:
        """The program's name is one."""
        check_program(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        program = compiler.text(self.given["program-name"])
        arguments = compiler.texts(self.given.get("arguments"))
        is_try = self.has_tag("try")

        def make(run: Run) -> PipeAction:
            return PipeAction(program.expand(run), program_arguments(self.word, arguments, run), is_try)

        return compiler.action(self, make)


CAPABILITIES = (
    Capability(
        "vnd.dovecot.pipe",
        words=(PipeCommand,),
        is_privileged=True,
        specification="Pigeonhole: spec-bosch-sieve-extprograms",
        settings={"sieve_pipe_bin_dir": "where the programs are; read by the host"},
    ),
)
