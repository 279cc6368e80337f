"""What is never reached, and tests that say nothing: warnings, for such a script runs as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sieve_ext.language.node import Node
    from sieve_ext.validate.checker import Checker


def check_flow(nodes: Sequence[Node], checker: Checker) -> None:
    """Warn of commands of a block that are never reached."""
    for place, node in enumerate(nodes):
        if node.is_skipped or (node.is_dead and not any(test.is_probe for test in node.tests)):
            checker.warn(node, "dead-block", f"this {node.name} block is never reached")
        elif node.ends_block() and place + 1 < len(nodes):
            following = nodes[place + 1]
            checker.warn(
                following, "unreachable",
                f"the {following.name} command is never reached: {node.name} stands before it",
            )  # fmt: skip
            return
