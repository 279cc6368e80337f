"""mime (RFC 5703 section 4): :mime on header, address and exists. Status: complete.

With :mime a test looks at the header of the part that a foreverypart loop is at, outside of loops at that of
the message; with :anychild at those of all parts within, too. :type, :subtype, :contenttype and :param take
the value of Content-Type or Content-Disposition apart. Empty strings are the subtype of Content-Disposition,
what they find in other fields and in a type without subtype, and, as in Pigeonhole, the parameter of a field
that has none of those asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sieve_ext.extend import (
    STRINGS,
    Capability,
    Checker,
    Compiler,
    FieldSource,
    FieldValues,
    GivenTag,
    Node,
    Run,
    Tag,
)
from sieve_ext.message import all_parameters, parse_parameters
from sieve_ext.runtime.parts import header_of, part_at_hand

if TYPE_CHECKING:
    from sieve_ext.message import Field

WORDS = ("header", "address", "exists")
"""The tests that take :mime."""

STRUCTURED = ("content-type", "content-disposition")
"""The fields that have a type, lower case."""


class MimeTag(Tag):
    """:mime: look at the part at hand."""

    def compile_fields(
        self, node: Node, given: GivenTag, compiler: Compiler, fields: FieldSource
    ) -> FieldSource:
        """Fields of the part, or of all within it."""
        if not node.has_tag("anychild"):
            return lambda run, name: header_of(run, part_at_hand(run)).all(name)

        def find(run: Run, name: str) -> list[Field]:
            found: list[Field] = []
            for part in part_at_hand(run).walk():
                run.spend(1)
                found += header_of(run, part).all(name)
            return found

        return find


class NeedsMime(Tag):
    """:anychild, which says something about :mime."""

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """:mime is there."""
        if not node.has_tag("mime"):
            checker.error(
                given, "missing-tag",
                f"the {given.tag} tag for the {node.name} {node.kind} cannot be specified without the"
                " :mime tag",
            )  # fmt: skip


class ValuePart(NeedsMime):
    """:type, :subtype, :contenttype, :param: what of a structured value is compared."""

    def compile_values(
        self, node: Node, given: GivenTag, compiler: Compiler, values: FieldValues
    ) -> FieldValues:
        """Take the value apart."""
        if given.tag == ":param":
            names = compiler.texts(given.value)

            def parameters(run: Run, field: Field) -> list[str]:
                there = all_parameters(field.unfolded)
                wanted = {name.lower() for name in names.expand(run)}
                return [value for name, value in there if name in wanted] or [""]

            return parameters
        place = given.tag

        def part(run: Run, field: Field) -> list[str]:
            whole = parse_parameters(field.unfolded).value if field.key in STRUCTURED else ""
            main, slash, sub = whole.partition("/")
            if not slash and field.key == "content-type":
                return [""]
            return [whole if place == ":contenttype" else main if place == ":type" else sub]

        return part


CAPABILITIES = (
    Capability(
        "mime",
        tags=(
            MimeTag(":mime", WORDS),
            NeedsMime(":anychild", WORDS),
            ValuePart(":type", ("header",), name="mime-option"),
            ValuePart(":subtype", ("header",), name="mime-option"),
            ValuePart(":contenttype", ("header",), name="mime-option"),
            ValuePart(":param", ("header",), name="mime-option", value=STRINGS),
        ),
        specification="RFC 5703 section 4",
    ),
)
