"""index (RFC 5260 section 6): :index and :last on header, address and date. Status: complete.

Fields are counted across all names of the test, in the order in which it names them, as Pigeonhole does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sieve_ext.extend import (
    NUMBER,
    Capability,
    Checker,
    Compiler,
    FieldSource,
    GivenTag,
    Node,
    Number,
    Run,
    Tag,
)

if TYPE_CHECKING:
    from sieve_ext.message import Field

WORDS = ("header", "address", "date")
"""The tests that take the tags."""

NAMES = ("header-names", "header-list", "header-name")
"""What these call the argument that has the names of fields."""


class IndexTag(Tag):
    """:index <fieldno: number>: only the field of this number, from 1."""

    order = 10

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """The number is not zero."""
        if isinstance(given.value, Number) and not given.value.value:
            checker.error(
                given, "bad-index", f"the :index tag for the {node.name} {node.kind} cannot be zero"
            )

    def compile_fields(
        self, node: Node, given: GivenTag, compiler: Compiler, fields: FieldSource
    ) -> FieldSource:
        """Of all fields that the test looks at, one."""
        number = given.value.value if isinstance(given.value, Number) else 1
        from_end = node.has_tag("last")
        argument = next(name for name in NAMES if name in node.given)
        templates = compiler.texts(node.given[argument])

        def pick(run: Run, wanted: str) -> list[Field]:
            names = list(dict.fromkeys(name.lower() for name in templates.expand(run)))
            found = [(name, field) for name in names for field in fields(run, name)]
            run.spend(len(found))
            if number > len(found):
                return []
            name, field = found[-number if from_end else number - 1]
            return [field] if name == wanted else []

        return pick


class LastTag(Tag):
    """:last: count from the end."""

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """It says something about :index."""
        if not node.has_tag("index"):
            checker.error(
                given, "missing-tag",
                f"the :last tag for the {node.name} {node.kind} cannot be specified without the :index tag",
            )  # fmt: skip


CAPABILITIES = (
    Capability(
        "index",
        tags=(IndexTag(":index", WORDS, value=NUMBER), LastTag(":last", WORDS)),
        specification="RFC 5260 section 6",
    ),
)
