"""One line of the table of standards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["yes", "partial", "no"]


@dataclass(slots=True, frozen=True)
class Standard:
    """One document: its name as the code writes it, and what has become of it."""

    name: str
    """ "RFC 5321", or the name of a document that is no RFC."""
    title: str
    status: Status
    note: str
    """What is done or missing, in Markdown."""
    where: str = ""
    """Modules, separated by blanks."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules where it is done."""
        return tuple(self.where.split())
