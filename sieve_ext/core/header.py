"""header and exists (RFC 5228 sections 5.7 and 5.5). Status: complete.

Values are unfolded, encoded words are decoded, blanks around them are removed. A name that is none matches
nothing and is warned of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sieve_ext.closures.compiler import Compiler
from sieve_ext.core.match_types import warn_of_wildcards
from sieve_ext.language.arguments import MATCHING, strings
from sieve_ext.language.node import Test
from sieve_ext.runtime.run import Run
from sieve_ext.runtime.steps import Step
from sieve_ext.validate.checker import Checker
from sieve_ext.validate.values import header_name

if TYPE_CHECKING:
    from sieve_ext.message import Field


def decoded(run: Run, field: Field) -> list[str]:
    """What the header test compares of a field when no tag says otherwise."""
    return [field.text]


class HeaderTest(Test):
    """A field has a value."""

    word = "header"
    compares_only = True
    args_definition = (
        *MATCHING,
        strings("header-names", warn=header_name),
        strings("keys"),
    )

    def check(self, checker: Checker) -> None:
        """Keys are what they look like."""
        warn_of_wildcards(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Compare the values of all fields of the names."""
        names = compiler.texts(self.given["header-names"])
        find = compiler.fields(self)
        read = compiler.field_values(self, decoded)
        constant = None if names.constant is None else tuple(name.lower() for name in names.constant)
        if constant is not None and len(constant) == 1 and read is decoded:
            only = constant[0]
            return compiler.match(self, lambda run: [field.text for field in find(run, only)])

        def values(run: Run) -> list[str]:
            keys = constant if constant is not None else tuple(name.lower() for name in names.expand(run))
            return [value for key in keys for field in find(run, key) for value in read(run, field)]

        return compiler.match(self, values)


class ExistsTest(Test):
    """All of the fields are there."""

    word = "exists"
    args_definition = (strings("header-names", warn=header_name),)

    def compile(self, compiler: Compiler) -> Step:
        """Look for each."""
        names = compiler.texts(self.given["header-names"])
        find = compiler.fields(self)

        def exists(run: Run) -> bool:
            found = names.expand(run)
            run.spend(len(found))
            return all(find(run, name.lower()) for name in found)

        return exists


WORDS = (HeaderTest, ExistsTest)
