"""Long lists of rules, skipped at once where none of them applies.

A policy of a thousand rules is mostly one `if` after the other about the same things: the subject, the
sender. Behind each other they cost a thousand tests a message. Here a row of them gets a guard, which
compares each thing once with the strings of all rules together; only if that finds something is the row done
rule by rule, as it stands. A long row is guarded in pieces, too.

That changes nothing but the time. A rule whose test needs one of some simple comparisons to hold does nothing
where none of them holds; as long as nothing was done, nothing has changed that the next rules look at. What
is compared is of message, envelope and environment alone, and nobody outside is asked for it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sieve_ext.runtime.steps import Placed, Step, any_of, asks, asks_host, choice, sequence
from sieve_ext.syntax.tree import Number, Text, TextList

if TYPE_CHECKING:
    from sieve_ext.closures.compiler import Compiler
    from sieve_ext.language.node import Node, Value

LEAST = 8
"""Rules in a row that are worth a guard."""
PIECE = 32
"""Rules of a long row that have a guard of their own."""
SHARED = 4
"""Rules that a comparison of the guard stands for on average, so that it saves more than it costs."""
MATCHES = (":is", ":contains")
"""Match types that find one of many strings about as fast as one."""

Row = list[tuple[list["Node"], Placed]]
"""Rules with the comparisons of which each needs one."""


def guarded(compiler: Compiler, rules: Iterable[tuple[Node, Placed]]) -> list[Placed]:
    """The commands of a block, rows of rules in it behind guards."""
    done: list[Placed] = []
    row: Row = []
    for node, placed in rules:
        needed = _needed_of_rule(compiler, node)
        if needed is None:
            done += _row(compiler, row)
            row = []
            done.append(placed)
        else:
            row.append((needed, placed))
    return done + _row(compiler, row)


def _row(compiler: Compiler, row: Row) -> list[Placed]:
    plain = [placed for _, placed in row]
    if len(row) < LEAST:
        return plain
    guard = _guard(compiler, row)
    if guard is None:
        return plain
    if len(row) > 2 * PIECE:
        pieces = [row[at : at + PIECE] for at in range(0, len(row), PIECE)]
        plain = [placed for piece in pieces for placed in _row(compiler, piece)]
    return [(plain[0][0], choice([(guard, sequence(plain))], None))]


def _guard(compiler: Compiler, row: Row) -> Step | None:
    """True where a rule of the row may apply; None when it would cost about as much as the rules."""
    groups: dict[object, list[Node]] = {}
    for needed, _ in row:
        for test in needed:
            groups.setdefault(_subject(test), []).append(test)
    if len(groups) * SHARED > len(row):
        return None
    steps = [compiler.test(_together(tests)) for tests in groups.values()]
    return None if any(asks(step) or asks_host(step) for step in steps) else any_of(steps)


def _together(tests: Sequence[Node]) -> Node:
    """One test for the strings of all."""
    first = tests[0]
    items = {text.value: text for test in tests for text in _texts(test.keys)}
    made = copy.copy(first)
    made.given = {**first.given, first.positionals[-1]["name"]: TextList(list(items.values()), 0, 0)}
    return made


def _subject(test: Node) -> object:
    """What a test compares and how: all of it but the strings."""
    tags = {name: (given.tag, _plain(given.value)) for name, given in test.tags.items()}
    given = [(name, _plain(value)) for name, value in test.given.items() if value is not test.keys]
    return test.name, tuple(sorted(tags.items())), tuple(given)


def _needed_of_rule(compiler: Compiler, rule: Node) -> list[Node] | None:
    """The comparisons of which one must hold for a command to do anything; None when that is not known."""
    needed: list[Node] = []
    for test in rule.alternatives() or (None,):
        found = None if test is None else _needed(compiler, test)
        if found is None:
            return None
        needed += found
    return needed


def _needed(compiler: Compiler, test: Node) -> list[Node] | None:
    """The comparisons of which one must hold for `test` to hold, and before anything else is asked."""
    if test.name == "allof":
        return _needed(compiler, test.tests[0])  # those behind the first one are not made when it fails
    if test.name == "anyof":
        each = [_needed(compiler, one) for one in test.tests]
        return None if None in each else [found for one in each if one is not None for found in one]
    return [test] if _is_simple(compiler, test) else None


def _is_simple(compiler: Compiler, test: Node) -> bool:
    """A comparison of constants with what is known without asking, and without tags of extensions."""
    if not test.compares_only:
        return False
    match_type = test.tags.get("match-type")
    if match_type is not None and match_type.tag not in MATCHES:
        return False
    if any(given.spec.owner is not None for given in test.tags.values()):
        return False
    values = [*test.given.values(), *[given.value for given in test.tags.values()]]
    return not (compiler.expands and any("${" in text.value for one in values for text in _texts(one)))


def _texts(value: Value | None) -> Sequence[Text]:
    if isinstance(value, TextList):
        return value.items
    return [value] if isinstance(value, Text) else []


def _plain(value: Value | None) -> object:
    if isinstance(value, Number):
        return value.value
    return tuple(text.value for text in _texts(value))
