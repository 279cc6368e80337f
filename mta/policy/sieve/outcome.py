"""What the scripts of a stage came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from sieve_ext import Action, Message


@dataclass(slots=True)
class Outcome:
    """What the scripts of a stage came to."""

    actions: list[tuple[str, Action]] = field(default_factory=list)
    """With the place of their commands, as "policy.sieve:12"; in order."""
    fault: str = ""
    """Why a script failed, with file and line."""
    notes: list[str] = field(default_factory=list)
    message: Message | None = None
    """The edited message, None when nobody has edited it."""


NOTHING = Outcome()
"""The outcome where scripts have nothing to say, which is the usual case; never changed."""
