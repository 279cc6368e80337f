"""Comparator and match type of a test (RFC 5228 sections 2.7.1 and 2.7.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sieve_ext.language.capability import Comparator
from sieve_ext.syntax.suggest import suggest
from sieve_ext.syntax.tree import Text

if TYPE_CHECKING:
    from sieve_ext.language.node import Node
    from sieve_ext.validate.checker import Checker


def check_matching(node: Node, checker: Checker) -> None:
    """Report a comparator that is not there, or one that the match type cannot work with."""
    if "match-type" not in node.tags and "comparator" not in node.tags:
        return
    comparator = _comparator(node, checker)
    given = node.tags.get("match-type")
    if comparator is None or given is None:
        return
    match_type, _ = checker.dialect.match_types[given.tag]
    if match_type.needs_substring and not comparator.has_substring:
        checker.error(
            given, "no-substring",
            f"the specified {comparator.name} comparator does not support sub-string matching as required by"
            f" the {given.tag} match type",
        )  # fmt: skip
    elif match_type.check is not None:
        match_type.check(node, given, comparator, checker)


def _comparator(node: Node, checker: Checker) -> Comparator | None:
    given = node.tags.get("comparator")
    if given is None or not isinstance(given.value, Text):
        return checker.dialect.comparators[node.default_comparator][0]
    name = checker.constant(given.value)
    if name is None:
        checker.error(given.value, "dynamic-comparator", "the comparator must be a constant string")
        return None
    found = checker.dialect.comparators.get(name)
    if found is None or not checker.has(found[1]):
        known = f'it needs: require "{found[1]}"' if found else suggest(name, checker.dialect.comparators)
        checker.error(given.value, "unknown-comparator", f"unknown comparator '{name}'", known)
        return None
    return found[0]
