"""relational (RFC 5231): the match types :value and :count. Status: complete.

:count compares the number of values with the keys by the comparator of the test, which should be
i;ascii-numeric: to others numbers are text.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from sieve_ext.extend import (
    STRING,
    Capability,
    Checker,
    Comparator,
    Compiler,
    GivenTag,
    Match,
    MatchType,
    Node,
    Run,
    TemplateList,
    Text,
)

RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}
"""What may follow the tags (section 4)."""
NUMERIC = "i;ascii-numeric"
TEXTUAL = ("i;ascii-casemap", "i;octet", "i;unicode-casemap")
IN_ORDER = (("gt", "0"), ("le", "0"), ("ge", "1"), ("lt", "1"))
"""Is there any? Texts say the same of that as numbers do."""


def check_relation(node: Node, given: GivenTag, comparator: Comparator, checker: Checker) -> None:
    """Report what is no relation."""
    text = checker.constant(given.value)
    if text is None or text.lower() not in RELATIONS:
        found = given.value.value if isinstance(given.value, Text) else ""
        checker.error(
            given, "unknown-relation",
            f"the {given.tag} match-type requires a constant string argument being one of"
            f' "gt", "ge", "lt", "le", "eq" or "ne", but "{found}" was found',
        )  # fmt: skip
    elif comparator.name in TEXTUAL and not node.orders_text:
        _check_numbers(node, text.lower(), checker)
    elif comparator.name == NUMERIC:
        _check_digits(node, checker)


def _check_numbers(node: Node, relation: str, checker: Checker) -> None:
    """Warn of numbers that texts are compared with: "10" comes before "9"."""
    for key in checker.constants(node.keys):
        if key.value.isdigit() and (relation, key.value) not in IN_ORDER and relation not in ("eq", "ne"):
            checker.warn(
                key, "number-as-text",
                f"'{key.value}' is compared as text, in which '10' comes before '9'",
                'a number needs :comparator "i;ascii-numeric"',
            )  # fmt: skip


def _check_digits(node: Node, checker: Checker) -> None:
    """Warn of keys of which digits are not all (RFC 4790 section 9.1.1)."""
    for key in checker.constants(node.keys):
        digits = key.value[: len(key.value) - len(key.value.lstrip("0123456789"))]
        if digits != key.value:
            meaning = f"counts as {digits}" if digits else "is more than any number"
            checker.warn(
                key, "no-number", f"'{key.value}' {meaning}: {NUMERIC} reads the digits that it begins with"
            )


def _relation(node: Node) -> Callable[[Any, Any], bool]:
    value = node.tags["match-type"].value
    return RELATIONS[value.value.lower() if isinstance(value, Text) else "eq"]


def compile_value(compiler: Compiler, node: Node, comparator: Comparator, keys: TemplateList) -> Match:
    """A value stands in the relation to a key."""
    holds = _relation(node)
    order = comparator.order or comparator.fold
    constant = None if keys.constant is None else tuple(map(order, keys.constant))

    def match(run: Run, values: Sequence[str]) -> bool:
        wanted = constant if constant is not None else tuple(map(order, keys.expand(run)))
        run.spend(len(values) * len(wanted))
        return any(holds(order(value), key) for value in values for key in wanted)

    return match


def compile_count(compiler: Compiler, node: Node, comparator: Comparator, keys: TemplateList) -> Match:
    """The number of values stands in the relation to a key."""
    holds = _relation(node)
    order = comparator.order or comparator.fold

    def match(run: Run, values: Sequence[str]) -> bool:
        count = order(str(len(values)))
        return any(holds(count, order(key)) for key in keys.expand(run))

    return match


CAPABILITIES = (
    Capability(
        "relational",
        match_types=(
            MatchType(":value", compile_value, value=STRING, check=check_relation),
            MatchType(":count", compile_count, value=STRING, check=check_relation),
        ),
        specification="RFC 5231",
    ),
)
