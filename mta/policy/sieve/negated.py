"""Rules that refuse mail for good because a service is away: `not`, and `:on_error "ignore"` below it.

"ignore" makes a test fail, so that a rule is as if it were not there. Under `not` it makes the rule hold, and
while the resolver or a database is down everybody reads 550.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sieve_ext.extend import Checker, Node

ENDINGS = frozenset(("reject", "ereject", "discard"))
"""Commands that lose the message for who sends it, beside a `reply` that is permanent."""


def check_negated(nodes: Iterable[Node], checker: Checker) -> None:
    """Warn of tests that are ignored under `not`, where the block behind refuses for good."""
    for node in nodes:
        if node.children and _is_lost(node.children):
            for test in _ignored(node.tests, False):
                checker.warn(
                    test.tags["on_error"], "ignored-not",
                    f"while {test.name} cannot be answered this refuses everybody: 'not' turns it round",
                    "without :on_error the client is told to try again",
                )  # fmt: skip
        check_negated(node.children, checker)


def _ignored(tests: Iterable[Node], negated: bool) -> Iterator[Node]:
    for test in tests:
        given = test.text("on_error")
        if negated and given is not None and given.value.lower() == "ignore":
            yield test
        yield from _ignored(test.tests, negated ^ (test.name == "not"))


def _is_lost(nodes: Iterable[Node]) -> bool:
    return any(
        node.name in ENDINGS or getattr(node, "is_permanent", False) or _is_lost(node.children)
        for node in nodes
    )
