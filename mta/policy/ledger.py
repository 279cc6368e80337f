"""The ledger: small numbers by key that all workers of a node (or all nodes) change together.

Rates and greylists keep what they know here. A change is a function of what is there, done by nobody else at
the same time; it may be called again when somebody was faster, so it has no effects of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

State = tuple[float, ...]


class LedgerUnavailable(Exception):
    """The ledger cannot be asked; the text is for the log."""


@dataclass(slots=True, frozen=True)
class Entry:
    """What a change comes to."""

    answer: Any
    state: State | None = None
    """What is kept from now on; None leaves it as it is."""
    expires: float = 0.0
    """Until when it is kept, in seconds since the epoch."""


Change = Callable[[State | None], Entry]
"""Of what is kept of a key, None if nothing is."""


class Ledger(Protocol):
    """Keeps the numbers."""

    async def update(self, key: str, change: Change) -> Any:
        """Change what is kept of `key`, and return the change's answer. Raises LedgerUnavailable."""

    async def close(self) -> None:
        """Give files and connections back."""
