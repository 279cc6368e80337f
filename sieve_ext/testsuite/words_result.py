"""test_result_*, test_error: what came of scripts."""

from __future__ import annotations

from collections.abc import Callable

from sieve_ext.extend import (
    MATCHING,
    NUMBER,
    Compiler,
    Control,
    Node,
    Run,
    Step,
    Test,
    strings,
    tag,
)
from sieve_ext.testsuite.session import session_of


def match_one_or_all(node: Node, compiler: Compiler, values: Callable[[Run], list[str]]) -> Step:
    """A test of values that :index (from 1) may pick one of."""
    index = node.number("index")

    def picked(run: Run) -> list[str]:
        found = values(run)
        if index is None:
            return found
        return found[index - 1 : index] if index else []

    return compiler.match(node, picked)


ARGUMENTS = (*MATCHING, tag("index", ":index", value=NUMBER), strings("keys"))


class TestResultActionTest(Test):
    """test_result_action [MATCH-TYPE] [COMPARATOR] [:index <number>] <keys: string-list>."""

    __test__ = False
    word = "test_result_action"
    args_definition = ARGUMENTS
    default_comparator = "i;octet"

    def compile(self, compiler: Compiler) -> Step:
        """Compare the names of actions."""
        return match_one_or_all(
            self, compiler, lambda run: [action.shown_name for action in run.result.actions]
        )


class TestErrorTest(Test):
    """test_error [MATCH-TYPE] [COMPARATOR] [:index <number>] <keys: string-list>."""

    __test__ = False
    word = "test_error"
    args_definition = ARGUMENTS
    default_comparator = "i;octet"

    def compile(self, compiler: Compiler) -> Step:
        """Compare the errors."""
        return match_one_or_all(self, compiler, lambda run: list(session_of(run).errors))


class TestResultExecuteTest(Test):
    """test_result_execute."""

    __test__ = False
    word = "test_result_execute"

    def compile(self, compiler: Compiler) -> Step:
        """Carry the result out."""
        return lambda run: session_of(run).carry_out(run)


class TestResultResetCommand(Control):
    """test_result_reset."""

    __test__ = False
    word = "test_result_reset"

    def compile(self, compiler: Compiler) -> Step:
        """Drop result and outbox."""

        def reset(run: Run) -> None:
            session = session_of(run)
            session.drop_result(run)
            session.postman.outbox.clear()

        return reset


class TestResultPrintCommand(Control):
    """test_result_print."""

    __test__ = False
    word = "test_result_print"

    def compile(self, compiler: Compiler) -> Step:
        """Put the actions into the report."""

        def show(run: Run) -> None:
            lines = [f" * {action.describe()}" for action in run.result.actions] or [" (none)"]
            session_of(run).report.lines.append("\n".join(["\nPerformed actions:", *lines]))

        return show


WORDS = (
    TestResultActionTest,
    TestErrorTest,
    TestResultExecuteTest,
    TestResultResetCommand,
    TestResultPrintCommand,
)
