"""Variables while a script is compiled (RFC 5229 section 3): names become places or functions.

A name is looked up once, when the string that holds it is compiled; running only reads a list. Namespaces
belong to capabilities, which say how a name in them is read. Match values `${0}` ... come from the last
match of the run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sieve_ext.language.dialect import Dialect
    from sieve_ext.runtime.run import Run

VARIABLES = 255
"""Variables of one script. RFC 5229 section 5 asks for 128 at least."""

NAME = 32
"""Longest name of a variable, without its namespaces; as RFC 5229 section 5 asks for at least."""

MATCH_VALUES = 32
"""Highest match value. RFC 5229 section 5 asks for 9 at least."""

is_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
"""True of what may be a variable's name (RFC 5229 section 3)."""

# A name that is too long is no name, so the text stays.
_reference = re.compile(r"\$\{((?:[A-Za-z_][A-Za-z0-9_]{0,31}(?:\.[A-Za-z0-9_]+)*)|[0-9]+)\}")


class Reference(NamedTuple):
    """How a variable is read and set."""

    read: Callable[[Run], str]
    write: Callable[[Run, str], None] | None = None
    """None where scripts may not set it."""


def split_template(text: str) -> list[str]:
    """Text and names of variables by turns, beginning and ending with text; one element if there are none."""
    return _reference.split(text) if "${" in text else [text]


class Scope:
    """The variables of one script."""

    def __init__(self, dialect: Dialect, enabled: set[str]) -> None:
        """`enabled` are the capabilities that the script has required, by name."""
        self._dialect = dialect
        self._enabled = enabled
        self._slots: dict[str, int] = {}
        self._declared: dict[str, Reference] = {}

    @property
    def size(self) -> int:
        """How many values a run of the script keeps."""
        return len(self._slots)

    def is_known(self, name: str) -> bool:
        """True when the plain name has been used or declared before."""
        name = name.lower()
        return name in self._slots or name in self._declared

    def declare(self, name: str, reference: Reference) -> None:
        """Make a plain name mean something else than a variable of this script."""
        self._declared[name.lower()] = reference

    def resolve(self, name: str) -> Reference | str:
        """The variable of this name, as written between the braces; or what is wrong, as text."""
        if name.isdigit():
            index = int(name) if len(name) < 9 else MATCH_VALUES + 1
            if index > MATCH_VALUES:
                return f"match value index {name[:20]} out of range (max: {MATCH_VALUES})"
            return Reference(_match_value(index))
        name = name.lower()
        space, dot, rest = name.partition(".")
        if dot:
            found = self._dialect.namespaces.get(space)
            if found is None or (
                found[0].needs_capability
                and found[1] not in self._enabled
                and found[1] not in self._dialect.assumed
            ):
                return f"unknown variable namespace '{space}' in '{name}'"
            return found[0].resolve(self, rest)
        if name in self._declared:
            return self._declared[name]
        if len(name) > NAME:
            return f"variable name '{name[:NAME]}...' is too long (max {NAME} characters)"
        slot = self._slots.get(name)
        if slot is None:
            if len(self._slots) >= VARIABLES:
                return f"too many variables (max {VARIABLES}), cannot add '{name}'"
            slot = self._slots[name] = len(self._slots)
        return _slot_reference(slot)


def _slot_reference(slot: int) -> Reference:
    def read(run: Run) -> str:
        return run.variables[slot]

    def write(run: Run, value: str) -> None:
        run.variables[slot] = value

    return Reference(read, write)


def _match_value(index: int) -> Callable[[Run], str]:
    def read(run: Run) -> str:
        values = run.match_values
        return values[index] if index < len(values) else ""

    return read
