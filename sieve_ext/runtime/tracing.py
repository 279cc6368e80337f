"""What a traced run tells: every test with its values and its result, every action.

Traced scripts are compiled anew with the calls in place, so a run without trace pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sieve_ext.diagnostic import Position


@dataclass(slots=True, frozen=True)
class Event:
    """One thing that happened in a run."""

    kind: str
    """ "test", "command" or "action"."""
    word: str
    """The test's or command's name; the action described."""
    position: Position
    values: tuple[str, ...] = ()
    """What a test compared, cut to `SHOWN`."""
    keys: tuple[str, ...] = ()
    """With what."""
    result: Any = None
    """What a test yielded."""
    script: str = ""
    """The included script, "" for the script itself."""


Trace = Callable[[Event], None]
"""Takes the events of a run, in order."""

SHOWN = 20
"""Values that one event shows; each is cut to `SHOWN_TEXT` characters."""

SHOWN_TEXT = 200


def shown(values: Any) -> tuple[str, ...]:
    """Values as an event has them."""
    return tuple(str(value)[:SHOWN_TEXT] for value in list(values)[:SHOWN])
