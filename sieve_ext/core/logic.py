"""true, false, not, anyof, allof (RFC 5228 sections 5.2, 5.3, 5.6, 5.8, 5.10). Status: complete.

Tests are made from left to right and only as far as needed. Their constant values are known when the script
is checked, and what a constant settles is not checked further (RFC 5463 section 4 needs that).
"""

from __future__ import annotations

import sievelib.commands  # type: ignore[import-untyped]

from sieve_ext.closures.compiler import Compiler
from sieve_ext.language.arguments import subtest, subtests
from sieve_ext.language.node import Test
from sieve_ext.runtime.run import Run
from sieve_ext.runtime.steps import Step, all_of, any_of, negation
from sieve_ext.validate.checker import Checker


class TrueTest(Test):
    """Always holds."""

    word = "true"

    def constant(self, checker: Checker) -> bool | None:
        """True."""
        return True

    def is_plainly_constant(self) -> bool:
        """True: that is what it is for."""
        return True

    def compile(self, compiler: Compiler) -> Step:
        """True."""
        return _true


class FalseTest(Test, sievelib.commands.FalseCommand):  # type: ignore[misc]
    """Never holds."""

    word = "false"

    def constant(self, checker: Checker) -> bool | None:
        """False."""
        return False

    def is_plainly_constant(self) -> bool:
        """True: that is what it is for."""
        return True

    def compile(self, compiler: Compiler) -> Step:
        """False."""
        return _false


class NotTest(Test):
    """Holds where its sub-test does not."""

    word = "not"
    args_definition = (subtest(),)

    def constant(self, checker: Checker) -> bool | None:
        """The opposite of the sub-test's."""
        value = self.tests[0].constant(checker)
        return None if value is None else not value

    def is_plainly_constant(self) -> bool:
        """As the sub-test."""
        return self.tests[0].is_plainly_constant()

    def compile(self, compiler: Compiler) -> Step:
        """The opposite."""
        return negation(compiler.test(self.tests[0]))


class AnyofTest(Test):
    """Holds where one of its sub-tests does."""

    word = "anyof"
    variable_args_nb = True
    args_definition = (subtests(),)

    def decided_by(self, constant: bool | None) -> bool:
        """By one that always holds."""
        return constant is True

    def constant(self, checker: Checker) -> bool | None:
        """True if one is, False if all are."""
        values = [test.constant(checker) for test in self.tests]
        return True if True in values else None if None in values else False

    def is_plainly_constant(self) -> bool:
        """True when it was written with constants."""
        return any(test.is_plainly_constant() for test in self.tests)

    def compile(self, compiler: Compiler) -> Step:
        """One after the other."""
        return any_of([compiler.test(test) for test in self.tests])


class AllofTest(Test):
    """Holds where all of its sub-tests do."""

    word = "allof"
    variable_args_nb = True
    args_definition = (subtests(),)

    def decided_by(self, constant: bool | None) -> bool:
        """By one that never holds."""
        return constant is False

    def constant(self, checker: Checker) -> bool | None:
        """False if one is, True if all are."""
        values = [test.constant(checker) for test in self.tests]
        return False if False in values else None if None in values else True

    def is_plainly_constant(self) -> bool:
        """True when it was written with constants."""
        return any(test.is_plainly_constant() for test in self.tests)

    def compile(self, compiler: Compiler) -> Step:
        """One after the other."""
        return all_of([compiler.test(test) for test in self.tests])


def _true(run: Run) -> bool:
    return True


def _false(run: Run) -> bool:
    return False


WORDS = (TrueTest, FalseTest, NotTest, AnyofTest, AllofTest)
