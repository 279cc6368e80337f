"""regex (draft-ietf-sieve-regex): the match type :regex, and :quoteregex of set. Status: complete.

Expressions are those of RE2: what POSIX calls extended, with the classes of Perl and without what cannot be
matched in linear time: back-references and look-around. Where several alternatives match, the first counts,
not the longest. "." matches a line end, too. ${0} is what the whole expression has matched, ${1} and so on
its groups. An expression with variables that is none matches nothing; the log says so.

RE2 is linear in the text, but at worst also in the size of the expression, and "\\p{L}{1,100}" is a large
one. So the expressions of a script may have some size together, and a search that might take too long is not
begun: the run fails.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import re2

from sieve_ext.extend import (
    Capability,
    Checker,
    Comparator,
    Compiler,
    GivenTag,
    Match,
    MatchType,
    Modifier,
    Node,
    Run,
    TemplateList,
    texts,
)
from sieve_ext.runtime.errors import LimitExceeded

COMPARATORS = frozenset(["i;octet", "i;ascii-casemap"])
"""The comparators that :regex works with; of i;ascii-casemap it takes that case does not matter."""

MEMORY = 4 * 1024 * 1024
"""Octets that one compiled expression and its matching may take."""

MATCH_VALUES = 32
"""Groups that are kept."""

CACHED = 64
"""Expressions that are kept beside those of compiled scripts."""

SIZE = 1_000_000
"""Instructions of all constant expressions of a script with what it includes: half a second to compile,
as a rule, two at worst."""

CLASS = 700
"""Instructions that are counted for a class like "\\p{L}": RE2 takes as long to read it."""

OPTIONAL = 2000
"""What may be there or not, one after the other, in an expression of any size: RE2 takes the square of it."""

OPTIONAL_MEMORY = 256 * 1024
"""Octets that an expression with more of it may take when it is compiled: a sixth of a second."""

TOO_LARGE = 100_000
"""Instructions that are counted for an expression that is refused as too large: RE2 takes as long for it."""

WORK = 2_000_000_000
"""Instructions times characters of one search, by default: ten seconds at worst, as a rule milliseconds."""

STATE = "regex"
"""Where this extension keeps things in the state of units."""

_LONG = 1000
"""Characters that are searched in the time of one operation."""

_QUICK = 100_000
"""Instructions times characters that take less than a millisecond."""

_count = re.compile(r"\{(\d{1,4}),(\d{1,4})\}").finditer

SPECIAL = "\\.[]{}()*+?^$|"
"""What :quoteregex puts a backslash before."""


def optional(pattern: str) -> int:
    """How many things that may be there or not stand one after the other, at most."""
    return (
        pattern.count("?")
        - pattern.count("(?")
        + sum(max(0, int(found[2]) - int(found[1])) for found in _count(pattern))
    )


def classes(pattern: str) -> int:
    """Instructions that are counted for the classes of Unicode in an expression."""
    return CLASS * (pattern.count("\\p") + pattern.count("\\P"))


def weight(pattern: str, program: Any) -> int:
    """Instructions that are counted for a compiled expression: the time that RE2 took for it."""
    size: int = program.programsize
    slow = size * size // 1500 if optional(pattern) > OPTIONAL else 0
    return size + len(pattern) + classes(pattern) + slow


@lru_cache(maxsize=CACHED)
def compiled(pattern: str, has_case: bool) -> Any:
    """The compiled expression. Raises ValueError with what is wrong with it."""
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = has_case
    options.dot_nl = True
    try:
        if classes(pattern) > SIZE:
            raise re2.error("pattern too large - classes of letters")
        if optional(pattern) > OPTIONAL:
            options.max_mem = OPTIONAL_MEMORY
            re2.compile(pattern, options)
        options.max_mem = MEMORY
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0] if error.args else ""
        text = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        raise ValueError(
            f"invalid regular expression '{pattern[:200]}' for regex match: {text[:200]}"
        ) from None


def check_regex(node: Node, given: GivenTag, comparator: Comparator, checker: Checker) -> None:
    """The comparator is one of two; constant expressions are valid, the first that is not is reported."""
    if comparator.name not in COMPARATORS:
        checker.error(
            given, "regex-comparator",
            "regex match type only supports i;octet and i;ascii-casemap comparators",
        )  # fmt: skip
        return
    for text in texts(node.keys):
        pattern = checker.constant(text)
        if pattern is None:
            continue
        size = checker.unit.state.get(STATE, 0)
        if size > SIZE:
            return  # it has been reported
        try:
            size += weight(pattern, compiled(pattern, comparator.name == "i;octet"))
        except ValueError as error:
            checker.error(text, "bad-regex", str(error))
            checker.unit.state[STATE] = size + TOO_LARGE * ("too large" in str(error))
            return
        checker.unit.state[STATE] = size
        if size > SIZE:
            checker.error(
                text, "large-regex",
                f"the regular expressions of the script are too large (max {SIZE} instructions of RE2)",
                "classes of letters and counts like {1,100} are large",
            )  # fmt: skip
            return


def compile_regex(compiler: Compiler, node: Node, comparator: Comparator, keys: TemplateList) -> Match:
    """An expression matches somewhere in a value."""
    has_case = comparator.name == "i;octet"
    constant = None if keys.constant is None else tuple(compiled(one, has_case) for one in keys.constant)
    keeps = compiler.expands

    def match(run: Run, values: Sequence[str]) -> bool:
        patterns = constant if constant is not None else _expanded(run, keys, has_case)
        for value in values:
            run.spend(len(patterns) * (1 + len(value) // _LONG))
            # A broken charset can leave half of a surrogate pair, which RE2 does not take.
            text = value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
            for pattern in patterns:
                found = _search(run, pattern, text)
                if found is None:
                    continue
                if keeps:
                    run.match_values = [
                        found.group(number) or "" for number in range(min(pattern.groups, MATCH_VALUES) + 1)
                    ]
                return True
        return False

    return match


def _search(run: Run, pattern: Any, text: str) -> Any:
    """What is found, None if nothing is. Raises LimitExceeded."""
    work = len(text) * pattern.programsize
    if work < _QUICK:
        return pattern.search(text)
    if work > run.settings.number("sieve_regex_max_work", WORK):
        raise LimitExceeded(
            f"regular expression too large for a text of {len(text)} characters: '{pattern.pattern[:100]}'"
        )
    run.check_time()
    found = pattern.search(text)
    run.check_time()
    return found


def _expanded(run: Run, keys: TemplateList, has_case: bool) -> Sequence[Any]:
    found: list[Any] = []
    for pattern in keys.expand(run):
        run.check_time()
        try:
            found.append(compiled(pattern, has_case))
        except ValueError as error:
            run.note(str(error))
    return found


def quote_regex(text: str) -> str:
    """`text` as an expression that matches just that."""
    return "".join(f"\\{character}" if character in SPECIAL else character for character in text)


CAPABILITIES = (
    Capability(
        "regex",
        match_types=(MatchType(":regex", compile_regex, check=check_regex),),
        modifiers=(Modifier(":quoteregex", 20, quote_regex),),
        specification="draft-ietf-sieve-regex-01",
        settings={
            "sieve_regex_max_work": "size of an expression times characters of a text, 2000000000 by default",
        },
    ),
)
