"""Strings as a run sees them: constant, or put together from variables each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sieve_ext.runtime.run import Run

EXPANDED = 1024 * 1024
"""Longest string that expansion makes, in characters: a script of a megabyte that repeats a variable would
otherwise make gigabytes of it."""


class Template:
    """One string."""

    __slots__ = ("_parts", "constant")

    def __init__(self, parts: list[str | Callable[[Run], str]]) -> None:
        """`parts` are texts and functions that read a variable."""
        self._parts = parts
        self.constant: str | None = None
        """The string, None when it depends on variables."""
        if len(parts) == 1 and isinstance(parts[0], str):
            self.constant = parts[0]
        elif all(isinstance(part, str) for part in parts):
            self.constant = "".join(part for part in parts if isinstance(part, str))

    def expand(self, run: Run) -> str:
        """The string in this run. Fails the run when it gets longer than `EXPANDED`."""
        if self.constant is not None:
            return self.constant
        size = 0
        out: list[str] = []
        for part in self._parts:
            text = part if isinstance(part, str) else part(run)
            size += len(text)
            if size > EXPANDED:
                run.fail(f"string with variables becomes too long (max {EXPANDED} characters)")
            out.append(text)
        return "".join(out)


class TemplateList:
    """Several strings."""

    __slots__ = ("_items", "constant")

    def __init__(self, items: list[Template]) -> None:
        """The strings in order."""
        self._items = items
        constants = tuple([item.constant for item in items])
        self.constant: tuple[str, ...] | None = None if None in constants else constants  # type: ignore[assignment]
        """The strings, None when one of them depends on variables."""

    def expand(self, run: Run) -> tuple[str, ...]:
        """The strings in this run."""
        if self.constant is not None:
            return self.constant
        return tuple(item.expand(run) for item in self._items)
