"""type = "pattern": regular expressions and what they mean, a line each.

    /^(bounce|owner)-.*@lists\\.example\\.org$/   list $1
    !/@example\\.org$/i                           elsewhere
    /spam/                                       listed

A line is a pattern between slashes, flags, and the value. The first pattern that is found in the key
counts; with "!" the first that is not. Upper and lower case are the same, as in Postfix's tables; the flag
"c" makes them differ. "$1" or "${1}" in a value is what the group matched, "$$" a dollar sign. The engine
is RE2: all patterns together take time in proportion to the key, however many they are and whoever wrote
it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import re2

from mta.policy.tablefile import Complain, Mistakes, read_lines
from mta.tables.table import Found

_substitution = re.compile(r"\$(?:\$|(\d+)|\{(\d+)\})")


SET_MEMORY = 64 << 20
"""Octets that all patterns of a table may take together, compiled, with what RE2 remembers of keys. It takes
what it needs of them: 3,000 simple patterns 3 MiB."""


class Patterns:
    """Patterns in order; made once."""

    __slots__ = ("_negated", "_rules", "_set")

    def __init__(self, rules: list[tuple[str, bool, str]], complain: Complain) -> None:
        """Of (expression, is negated, value). `complain` hears of bad ones, by their number from 0.

        Raises ValueError when all are right, and too much together.
        """
        options = re2.Options()
        options.log_errors = False
        self._rules: list[tuple[Any, str]] = []
        together = re2.Options()
        together.log_errors = False
        together.max_mem = SET_MEMORY
        self._set = re2.Set.SearchSet(together)
        self._negated: set[int] = set()
        for number, (expression, negated, value) in enumerate(rules):
            try:
                compiled = re2.compile(expression, options)
            except re2.error as error:
                complain(number, _reason(error))
                continue
            for match in _substitution.finditer(value):
                group = match[1] or match[2] or "0"
                if len(group) > 9 or int(group) > (0 if negated else compiled.groups):
                    complain(number, f"there is no group {group[:9]} for '{match[0][:9]}'")
            self._rules.append((compiled, value))
            self._set.Add(expression)
            if negated:
                self._negated.add(number)
        if not self._rules:
            return
        try:
            self._set.Compile()
        except re2.error:
            raise ValueError(
                f"all patterns together take more than {SET_MEMORY >> 20} MiB: write several tables"
            ) from None

    def get(self, key: str) -> Found:
        """The value of the first rule that applies."""
        if not self._rules:
            return None
        found = set(self._set.Match(key) or ())
        first = min(
            (*(one for one in found if one not in self._negated),
             *(one for one in self._negated if one not in found)),
            default=-1,
        )  # fmt: skip
        if first < 0:
            return None
        compiled, value = self._rules[int(first)]
        if "$" not in value:
            return value
        match = compiled.search(key)  # a negated rule has no groups

        def put(one: re.Match[str]) -> str:
            group = one[1] or one[2]
            return "$" if group is None else str(match.group(int(group)) or "")

        text: str = _substitution.sub(put, value)
        return text


def _reason(error: Exception) -> str:
    said = error.args[0] if error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def read_patterns(path: Path, octets: bytes | None = None) -> Patterns:
    """The content of a table of patterns. Raises TableError with file and line."""
    mistakes = Mistakes(path)
    rules: list[tuple[str, bool, str]] = []
    numbers: list[int] = []
    for number, raw in enumerate(read_lines(path, octets), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            rules.append(_rule(line))
        except ValueError as error:
            mistakes.add(number, error)
        else:
            numbers.append(number)
    try:
        patterns = Patterns(rules, lambda which, reason: mistakes.add(numbers[which], reason))
    except ValueError as error:
        mistakes.add(numbers[-1], error)
    mistakes.check()
    return patterns


def _rule(line: str) -> tuple[str, bool, str]:
    negated = line.startswith("!")
    body = line.removeprefix("!").lstrip()
    if not body.startswith("/"):
        raise ValueError("a line begins with /PATTERN/ or !/PATTERN/")
    end = 1
    while end < len(body) and body[end] != "/":
        end += 2 if body[end] == "\\" else 1
    if end >= len(body):
        raise ValueError("the slash at the end of the pattern is missing")
    expression = body[1:end].replace("\\/", "/")
    flags, value = "", body[end + 1 :]
    if value and not value[0].isspace():
        flags, *rest = value.split(None, 1)
        value = rest[0] if rest else ""
    for flag in flags:
        if flag not in "ic":
            raise ValueError(f"there is no flag '{flag}': 'c' makes upper and lower case differ")
    return (expression if "c" in flags else f"(?i){expression}"), negated, value.strip()
