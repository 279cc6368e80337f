"""The second phase of loading: a tree to checked nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sieve_ext.closures.unit import Unit
from sieve_ext.diagnostic import Diagnostic, Source
from sieve_ext.language.node import Node
from sieve_ext.validate.binder import Binder
from sieve_ext.validate.checker import Checker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sieve_ext.language.dialect import Dialect
    from sieve_ext.syntax.tree import Call


@dataclass(slots=True)
class Checked:
    """A script's nodes, what is wrong with them, and what compiling them needs."""

    nodes: list[Node]
    diagnostics: list[Diagnostic]
    checker: Checker


def validate(tree: Sequence[Call], source: Source, dialect: Dialect, unit: Unit | None = None) -> Checked:
    """Check all that the grammar does not; the diagnostics have no closing error."""
    checker = Checker(dialect, source, unit or Unit())
    nodes = Binder(checker).block(tree, None)
    for name in sorted(checker.enabled):
        capability = dialect.capabilities[name]
        for other in capability.needs:
            if other not in checker.enabled:
                checker.diagnostics.append(
                    source.diagnostic(
                        0, 0, "needs-capability",
                        f"capability '{name}' cannot be used without '{other}'",
                        f'add "{other}" to require',
                    )
                )  # fmt: skip
        for other in capability.excludes:
            if other in checker.enabled and name < other:
                checker.diagnostics.append(
                    source.diagnostic(
                        0, 0, "excluded-capability",
                        f"capability '{name}' cannot be used together with '{other}'",
                    )
                )  # fmt: skip
    return Checked(nodes, checker.diagnostics, checker)
