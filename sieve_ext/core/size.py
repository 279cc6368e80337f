"""size (RFC 5228 section 5.9). Status: complete.

The size is that of the message as received, in octets as it came; edits of the script do not change it.
"""

from __future__ import annotations

from sieve_ext.closures.compiler import Compiler
from sieve_ext.language.arguments import number, tag
from sieve_ext.language.node import Test
from sieve_ext.runtime.steps import Step
from sieve_ext.validate.checker import Checker


class SizeTest(Test):
    """The message is over, or under, so many octets."""

    word = "size"
    args_definition = (
        tag("relation", ":over", ":under"),
        number("limit"),
    )

    def check(self, checker: Checker) -> None:
        """One of the tags is there."""
        if not self.has_tag("relation"):
            checker.error(
                self,
                "missing-tag",
                "the size test requires either the :under or the :over tag to be specified",
            )

    def compile(self, compiler: Compiler) -> Step:
        """Compare."""
        limit = self.number("limit", 0) or 0
        if self.tags["relation"].tag == ":over":
            return lambda run: run.message.original_size > limit
        return lambda run: run.message.original_size < limit


WORDS = (SizeTest,)
