"""What the grammar alone says of a script (RFC 5228 section 8.2): commands, arguments, tests, blocks.

Nothing here knows a command by name. `sieve_ext.validate.binder` makes nodes of it, which do.

The classes are msgspec's, which are made faster than dataclasses and can be written as msgpack
(`sieve_ext.syntax.stored`). The bounds in their types hold for what is read back; the lexer and the parser
keep to them by themselves. No tree has cycles, so the garbage collector need not look at it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from sieve_ext.syntax import limits

Offset = Annotated[int, msgspec.Meta(ge=0, le=limits.SCRIPT_OCTETS)]
"""A place in the script, in octets."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.IDENTIFIER + 1)]
"""An identifier, or a tag with its colon."""


class Text(msgspec.Struct, array_like=True, tag=0, gc=False):
    """A string, quoted or multi-line, escapes undone."""

    value: str
    start: Offset
    """Where it begins in the script."""
    end: Offset


class TextList(msgspec.Struct, array_like=True, tag=1, gc=False):
    """A string list in brackets; where one string stands for a list, it is a list of one."""

    items: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=limits.LIST_STRINGS)]
    start: Offset
    end: Offset


class Number(msgspec.Struct, array_like=True, tag=2, gc=False):
    """A number, K, M or G applied."""

    value: Annotated[int, msgspec.Meta(ge=0)]
    start: Offset
    end: Offset


class TagName(msgspec.Struct, array_like=True, tag=3, gc=False):
    """A tagged argument's tag."""

    value: Name
    """Lower case, with its colon."""
    start: Offset
    end: Offset


Argument = Text | TextList | Number | TagName


class Call(msgspec.Struct, array_like=True, gc=False):
    """A command or a test as written."""

    name: Name
    """In lower case. "" is that of a command that could not be read."""
    start: Offset
    """Where its name begins."""
    end: Offset
    """Behind its name."""
    arguments: Annotated[list[Argument], msgspec.Meta(max_length=limits.ARGUMENTS)] = []
    tests: list[Call] = []
    is_list: bool = False
    """The tests stand in parentheses."""
    block: list[Call] | None = None
    """None where a semicolon ends it, or nothing does: a test."""
    stop: Offset = 0
    """Behind its last token."""
