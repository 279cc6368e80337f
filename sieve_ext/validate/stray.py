"""A word that stands where none can: what was probably meant by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sieve_ext.syntax.suggest import suggest
from sieve_ext.syntax.tree import Number

if TYPE_CHECKING:
    from sieve_ext.language.dialect import Dialect
    from sieve_ext.language.node import Node
    from sieve_ext.syntax.tree import Call


def meant_by(node: Node, call: Call, dialect: Dialect) -> str:
    """A hint about the word behind `call`, which takes no tests; "" when the semicolon alone is missing."""
    stray = call.tests[0]
    if call.arguments and isinstance(call.arguments[-1], Number) and call.arguments[-1].end == stray.start:
        return "a number ends with a digit, K, M or G"
    if stray.name in dialect.commands and stray.name not in dialect.tests:
        return suggest(node.name + stray.name, dialect.commands.keys() - {node.name, stray.name})
    if stray.name in dialect.tests:
        return f"or is '{stray.name}' meant as a test? {node.name} takes none"
    return f'is "{stray.name}" meant, in quotes?'
