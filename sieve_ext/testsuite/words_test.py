"""test, test_fail: what makes a script a test."""

from __future__ import annotations

from typing import Any

from sieve_ext.extend import Compiler, Control, Run, Step, asks, string
from sieve_ext.testsuite.session import TestFailed, session_of


class TestCommand(Control):
    """test <name: string> { ... }."""

    __test__ = False
    word = "test"
    accept_children = True
    only_top = True
    args_definition = (string("name"),)

    def compile(self, compiler: Compiler) -> Step:
        """Number it, do its block, and say how that went."""
        name = compiler.text(self.given["name"])
        block = compiler.block(self.children)

        def begin(run: Run) -> bool:
            session = session_of(run)
            if session.is_nested:
                return False
            session.report.started += 1
            session.test = session.report.started
            session.test_name = name.expand(run)
            return True

        def end(run: Run) -> None:
            session_of(run).test = 0

        if asks(block):

            def test_asking(run: Run) -> Any:
                is_own = begin(run)
                try:
                    yield from block(run)
                except TestFailed:
                    if not is_own:
                        raise
                else:
                    if is_own:
                        session_of(run).succeed()
                if is_own:
                    end(run)

            return test_asking

        def test(run: Run) -> None:
            is_own = begin(run)
            try:
                block(run)
            except TestFailed:
                if not is_own:
                    raise
            else:
                if is_own:
                    session_of(run).succeed()
            if is_own:
                end(run)

        return test


class TestFailCommand(Control):
    """test_fail <reason: string>."""

    __test__ = False
    word = "test_fail"
    args_definition = (string("reason"),)

    def compile(self, compiler: Compiler) -> Step:
        """Leave the test."""
        reason = compiler.text(self.given["reason"])

        def fail(run: Run) -> None:
            session_of(run).fail(reason.expand(run))

        return fail


WORDS = (TestCommand, TestFailCommand)
