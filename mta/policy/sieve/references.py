"""Variables of a stage that look right and are always empty, or are no variables at all.

RFC 5229 leaves `${env.remote-ip}` as it is and reads a variable that nothing has set as the empty string, so
a rule about one is quietly never true. In a policy that is a list that blocks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sieve_ext.extend import Checker, Node, Text, split_template, suggest, texts

KEY = "vnd.tamis.stage variables"
"""Where a checker's state has the variables that are set, by stage."""

_meant = re.compile(r"\$\{(?:env\.[^}\s]*|[A-Za-z_][A-Za-z0-9_]*|[0-9]+)\}")
_of_session = re.compile(r"\$\{env\.([^}\s]*)\}", re.IGNORECASE)


def begin(stage: str, checker: Checker) -> None:
    """A block of a stage begins: what is set in it is set for the following ones."""
    checker.assigned = _by_stage(checker).setdefault(stage, set())


def check_references(stage: str, nodes: Iterable[Node], checker: Checker) -> None:
    """Warn of references in a block that lead nowhere, of each name once."""
    told: set[str] = set()
    for text in _strings(nodes):
        for reference, hint, reason in _lost(text.value, stage, checker):
            if reference not in told:
                told.add(reference)
                checker.warn(text, "lost-reference", f"'{reference}' {reason}", hint)


def _lost(value: str, stage: str, checker: Checker) -> Iterator[tuple[str, str, str]]:
    """References in a string that lead nowhere: as written, a hint, what is wrong."""
    if "${" not in value:
        return
    if not checker.expands:
        for found in _meant.findall(value):
            yield found, 'it needs: require "variables"', "stays as it is"
        return
    parts = split_template(value)
    for literal in parts[::2]:
        for name in _of_session.findall(literal):
            right = re.sub(r"[^a-z0-9_]", "_", name.lower().removeprefix("vnd.tamis."))
            yield f"${{env.{name}}}", f"is '${{env.{right}}}' meant?", "is no variable, it stays as it is"
    for name in parts[1::2]:
        if name.isdigit() or "." in name or name.lower() in checker.assigned:
            continue
        others = [other for other, known in _by_stage(checker).items() if name.lower() in known]
        hint = suggest(name.lower(), checker.assigned)
        if others:
            hint = f"stage '{others[0]}' sets one of its own: variables live in one stage of one file"
        yield f"${{{name}}}", hint, f"is always empty: nothing sets it in stage '{stage}'"


def _by_stage(checker: Checker) -> dict[str, set[str]]:
    found: dict[str, set[str]] = checker.state.setdefault(KEY, {})
    return found


def _strings(nodes: Iterable[Node]) -> Iterator[Text]:
    """The strings of nodes and of all within them, in the order of the script."""
    for node in nodes:
        for argument in node.call.arguments:
            yield from texts(argument)
        yield from _strings(node.tests)
        yield from _strings(node.children)
