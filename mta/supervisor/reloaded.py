"""What comes of a reload."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reloaded:
    """How a reload ended."""

    ok: bool
    generation: int
    """The generation that serves now."""
    problems: tuple[str, ...] = ()
    """Why it failed; lines for the administrator."""
    warnings: tuple[str, ...] = ()
    """What needs a restart to take effect."""
    left: str = ""
    """Store of the queue whose mail nobody works on any more."""
    configuration_wrong: bool = False
    """True when the configuration was refused, rather than processes that did not start."""
    seconds: float = 0.0
