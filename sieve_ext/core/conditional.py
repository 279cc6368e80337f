"""if, elsif, else (RFC 5228 section 3.1). Status: complete.

The `if` compiles the whole chain: `elsif` and `else` hand their parts over and leave nothing of their own.
A branch whose test is always false, or which follows one that is always true, is not checked.
"""

from __future__ import annotations

from collections.abc import Sequence

import sievelib.commands  # type: ignore[import-untyped]

from sieve_ext.closures.compiler import Compiler
from sieve_ext.language.arguments import subtest
from sieve_ext.language.node import Control, Node
from sieve_ext.runtime.steps import Step, choice
from sieve_ext.validate.checker import Checker


class Branch(Control):
    """What the branches of a chain have in common."""

    accept_children = True
    is_decided = False
    """This or an earlier branch of the chain is always taken."""

    def __init__(self, *arguments: object, **more: object) -> None:
        """See `Node`."""
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self.next: Branch | None = None
        self.seen: set[bytes] = set()
        """The tests of the chain so far, as written but for blanks."""

    def skips(self, checker: Checker) -> bool:
        """True behind a branch that is always taken."""
        previous = checker.previous
        if isinstance(self, IfCommand) or not isinstance(previous, Branch):
            return False
        previous.next = self
        self.seen = previous.seen
        self.is_decided = previous.is_decided
        return self.is_decided

    def enters_block(self, checker: Checker) -> bool:
        """False when the test never holds."""
        constant = self.tests[0].constant(checker) if self.tests else True
        if self.tests:
            test = self.tests[0]
            written = b" ".join(checker.source.octets[test.start : test.call.stop].split())
            if written in self.seen and b"$" not in written:
                checker.warn(
                    test, "repeated-test", "an earlier branch has the same test: this one never runs"
                )
            self.seen.add(written)
        self.is_decided = constant is True and self.is_sound
        if self.tests and constant is not None and not self._is_meant():
            checker.warn(
                self.tests[0], "constant-test", f"this test is always {str(constant).lower()}",
            )  # fmt: skip
        return constant is not False

    def _is_meant(self) -> bool:
        # "if true" and "if false" are written on purpose; so is what asks for capabilities.
        return not self.args_definition or self.tests[0].is_plainly_constant()

    def ends_block(self) -> bool:
        """True when this is the `else` of a chain of which all branches end."""
        return False

    def compile(self, compiler: Compiler) -> Step | None:
        """The `if` has compiled it."""
        return None


class IfCommand(Branch, sievelib.commands.IfCommand):  # type: ignore[misc]
    """The first branch."""

    word = "if"
    args_definition = (subtest(),)

    def alternatives(self) -> Sequence[Node]:
        """The tests of the chain, if it has no `else`."""
        tests: list[Node] = []
        branch: Branch | None = self
        while branch is not None:
            if not branch.is_skipped and not branch.is_dead:
                if not branch.tests:
                    return ()
                tests.append(branch.tests[0])
            branch = branch.next
        return tests

    def compile(self, compiler: Compiler) -> Step:
        """The whole chain."""
        branches: list[tuple[Step, Step]] = []
        otherwise: Step | None = None
        branch: Branch | None = self
        while branch is not None:
            if not branch.is_skipped and not branch.is_dead:
                if branch.tests:
                    branches.append((compiler.test(branch.tests[0]), compiler.block(branch.children)))
                else:
                    otherwise = compiler.block(branch.children)
            elif branch.is_dead and branch.tests and compiler.tracing:
                branches.append((compiler.test(branch.tests[0]), compiler.block([])))
            branch = branch.next
        return choice(branches, otherwise)


class ElsifCommand(Branch):
    """A further branch."""

    word = "elsif"
    must_follow = ("if", "elsif")
    args_definition = (subtest(),)


class ElseCommand(Branch):
    """The last branch."""

    word = "else"
    must_follow = ("if", "elsif")


WORDS = (IfCommand, ElsifCommand, ElseCommand)
