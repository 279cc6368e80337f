"""What the grammar alone says of a script (RFC 5228 section 8.2): commands, arguments, tests, blocks.

Nothing here knows a command by name. `sieve_ext.validate.binder` makes nodes of it, which do.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Text:
    """A string, quoted or multi-line, escapes undone."""

    value: str
    start: int
    """Where it begins in the script, in octets; so everywhere here."""
    end: int


@dataclass(slots=True)
class TextList:
    """A string list in brackets; where one string stands for a list, it is a list of one."""

    items: list[Text]
    start: int
    end: int


@dataclass(slots=True)
class Number:
    """A number, K, M or G applied."""

    value: int
    start: int
    end: int


@dataclass(slots=True)
class TagName:
    """A tagged argument's tag."""

    value: str
    """Lower case, with its colon."""
    start: int
    end: int


Argument = Text | TextList | Number | TagName


@dataclass(slots=True)
class Call:
    """A command or a test as written."""

    name: str
    """In lower case."""
    start: int
    """Where its name begins."""
    end: int
    """Behind its name."""
    arguments: list[Argument] = field(default_factory=list)
    tests: list[Call] = field(default_factory=list)
    is_list: bool = False
    """The tests stand in parentheses."""
    block: list[Call] | None = None
    """None where a semicolon ends it, or nothing does: a test."""
    stop: int = 0
    """Behind its last token."""
