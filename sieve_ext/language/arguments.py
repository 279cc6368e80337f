"""What a command or test takes: definitions in the form of sievelib's `args_definition`.

The functions make the dictionaries that sievelib's classes use, with two keys more: `check`, what must hold
of a constant string, and `warn`, what should. Both take the string and return what is wrong with it, None
if nothing is; strings with variables are only known when the script runs and are checked there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Definition = dict[str, Any]
"""One entry of `args_definition`."""

Check = Callable[[str], str | None]
"""Takes a constant string, returns what is wrong with it, or None."""

STRING = "string"
STRINGS = "strings"
NUMBER = "number"
"""What follows a tag: one string, one or several strings, a number."""

COMPARATOR: Definition = {"name": "comparator", "type": ["tag"], "values": [], "required": False}
MATCH_TYPE: Definition = {"name": "match-type", "type": ["tag"], "values": [], "required": False}
ADDRESS_PART: Definition = {"name": "address-part", "type": ["tag"], "values": [], "required": False}
"""The tags of a test that compares; the dialect fills in which there are."""

MODIFIERS: Definition = {"name": "modifier", "type": ["tag"], "values": [], "required": False}
"""The modifiers of a string (RFC 5229 section 4.1); the dialect fills in which there are."""

MATCHING = (COMPARATOR, MATCH_TYPE)
"""The tags of a test that compares strings (RFC 5228 section 2.7)."""


def string(
    name: str, *, required: bool = True, check: Check | None = None, warn: Check | None = None
) -> Definition:
    """A positional string."""
    return {"name": name, "type": ["string"], "required": required, "check": check, "warn": warn}


def strings(
    name: str, *, required: bool = True, check: Check | None = None, warn: Check | None = None
) -> Definition:
    """A positional string list, or one string."""
    return {
        "name": name,
        "type": ["string", "stringlist"],
        "required": required,
        "check": check,
        "warn": warn,
    }


def number(name: str, *, required: bool = True) -> Definition:
    """A positional number."""
    return {"name": name, "type": ["number"], "required": required}


def tag(
    name: str,
    *tags: str,
    value: str = "",
    check: Check | None = None,
    warn: Check | None = None,
) -> Definition:
    """One of `tags` (":over", ":under"), each followed by `value`: STRING, STRINGS, NUMBER or nothing."""
    definition: Definition = {
        "name": name,
        "type": ["tag"],
        "values": list(tags),
        "required": False,
        "check": check,
        "warn": warn,
    }
    if value:
        definition["extra_arg"] = {"type": sievelib_types(value)}
    return definition


def subtest() -> Definition:
    """One test."""
    return {"name": "test", "type": ["test"], "required": True}


def subtests() -> Definition:
    """Tests in parentheses."""
    return {"name": "tests", "type": ["testlist"], "required": True}


def sievelib_types(value: str) -> list[str]:
    """STRING, STRINGS or NUMBER in sievelib's terms."""
    return ["string", "stringlist"] if value == STRINGS else [value]
