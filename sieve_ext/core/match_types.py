""":is, :contains and :matches (RFC 5228 section 2.7.1). Status: complete.

Keys without variables are prepared when the script is compiled. A match of :matches keeps what the wildcards
stand for, in the text as it was before the comparator folded it, where the script has variables (RFC 5229
section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sieve_ext.core.many import finder
from sieve_ext.core.wildcards import Glob, Span
from sieve_ext.language.capability import Comparator, Match, MatchType

if TYPE_CHECKING:
    from sieve_ext.closures.compiler import Compiler
    from sieve_ext.closures.strings import TemplateList
    from sieve_ext.language.node import Node
    from sieve_ext.runtime.run import Run
    from sieve_ext.validate.checker import Checker


def compile_is(compiler: Compiler, node: Node, comparator: Comparator, keys: TemplateList) -> Match:
    """A value equals a key."""
    fold = comparator.fold
    if keys.constant is not None:
        wanted = frozenset(map(fold, keys.constant))

        def match_constant(run: Run, values: Sequence[str]) -> bool:
            run.left -= len(values)
            if run.left < 0:
                run.refill()
            for value in values:  # noqa: SIM110 - a generator costs more than the comparison
                if fold(value) in wanted:
                    return True
            return False

        return match_constant

    def match(run: Run, values: Sequence[str]) -> bool:
        now = set(map(fold, keys.expand(run)))
        run.spend(len(values) + len(now))
        return any(fold(value) in now for value in values)

    return match


def warn_of_wildcards(node: Node, checker: Checker, *, alone: bool = False) -> None:
    """Warn of keys that look like patterns but are compared as they stand.

    `alone`: of "*" by itself, too, where no value is ever that.
    """
    given = node.tags.get("match-type")
    if given is not None and given.tag != ":is":
        return
    for text in checker.constants(node.keys):
        if (alone or len(text.value) > 1) and (text.value.startswith("*") or text.value.endswith("*")):
            checker.warn(
                text, "wildcard-with-is", f"'*' in '{text.value}' stands for itself with :is",
                "use :matches for patterns, :contains for parts",
            )  # fmt: skip


def compile_contains(compiler: Compiler, node: Node, comparator: Comparator, keys: TemplateList) -> Match:
    """A key is part of a value."""
    fold = comparator.fold
    constant = None if keys.constant is None else tuple(map(fold, keys.constant))
    if constant is not None and len(constant) == 1:
        only = constant[0]

        def match_only(run: Run, values: Sequence[str]) -> bool:
            run.left -= len(values)
            if run.left < 0:
                run.refill()
            for value in values:  # noqa: SIM110
                if only in fold(value):
                    return True
            return False

        return match_only

    find = None if constant is None else finder(constant)

    def match(run: Run, values: Sequence[str]) -> bool:
        wanted = constant if constant is not None else tuple(map(fold, keys.expand(run)))
        run.spend(len(values) * len(wanted))
        for value in values:
            folded = fold(value)
            if len(folded) > _LONG:
                run.spend(len(folded) // _LONG * len(wanted))
            if find is not None:
                if find(folded):
                    return True
            elif any(key in folded for key in wanted):
                return True
        return False

    return match


_LONG = 1000
"""Characters that are searched in the time of one operation."""


def compile_matches(compiler: Compiler, node: Node, comparator: Comparator, keys: TemplateList) -> Match:
    """A value as a whole matches a pattern."""
    fold = comparator.fold
    keep = keep_matches if compiler.expands else None
    constant = None if keys.constant is None else tuple(Glob(key, fold) for key in keys.constant)

    def match(run: Run, values: Sequence[str]) -> bool:
        globs = constant if constant is not None else tuple(Glob(key, fold) for key in keys.expand(run))
        run.left -= len(values) * len(globs)
        if run.left < 0:
            run.refill()
        for value in values:
            folded = fold(value)
            if len(folded) > _LONG:
                run.spend(len(folded) // _LONG * len(globs))
            for glob in globs:
                spans = glob.match(folded, run.spend)
                if spans is not None:
                    if keep is not None:
                        keep(run, value, spans, folded, comparator)
                    return True
        return False

    return match


def keep_matches(run: Run, value: str, spans: Sequence[Span], folded: str, comparator: Comparator) -> None:
    """Keep `${0}` and what each wildcard stands for, `spans` being places in `folded`."""
    if not comparator.keeps_length and len(spans) and folded != value:
        spans = _unfolded(value, spans, comparator.fold)
    found = [value]
    # More than ${32} cannot be asked for.
    found.extend(value[start:end] for start, end in spans[:32])
    run.match_values = found


def _unfolded(value: str, spans: Sequence[Span], fold: Callable[[str], str]) -> list[Span]:
    """Places in `value` for places in what it is folded to, character by character."""
    places: list[int] = []
    for place, character in enumerate(value):
        places.extend([place] * len(fold(character)))
    places.append(len(value))
    last = len(places) - 1
    return [(places[min(start, last)], places[min(end, last)]) for start, end in spans]


MATCH_TYPES = (
    MatchType(":is", compile_is),
    MatchType(":contains", compile_contains, needs_substring=True),
    MatchType(":matches", compile_matches, needs_substring=True),
)
