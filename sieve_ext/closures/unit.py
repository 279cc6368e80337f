"""What a script shares with the scripts that it includes, while they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sieve_ext.runtime.settings import Settings


class ScriptStore(Protocol):
    """Where included scripts come from: a directory, a mapping, a database."""

    def load(self, location: str, name: str) -> bytes | None:
        """The text of the script `name` of a location ("personal", "global"), None if there is none.

        Raises OSError when that cannot be found out; the including script is then in error.
        """


@dataclass(slots=True)
class MappingStore:
    """Scripts by location and name, in memory."""

    scripts: Mapping[tuple[str, str], bytes]

    def load(self, location: str, name: str) -> bytes | None:
        """The text of a script, None if there is none."""
        return self.scripts.get((location, name))


@dataclass(slots=True)
class Unit:
    """One script with all that it includes."""

    settings: Settings = field(default_factory=Settings)
    """The administrator's settings while it is loaded."""
    store: ScriptStore | None = None
    """Where included scripts come from; None where nothing can be included."""
    tracing: bool = False
    """Compile it so that runs can be traced."""
    state: dict[str, Any] = field(default_factory=dict)
    """What extensions share across all its scripts, by capability: global variables, scripts included."""
    depth: int = 0
    """How deep inclusion is at the moment."""
    has_loaded: bool = False
    """A script was asked for."""

    def load(self, location: str, name: str) -> bytes | None:
        """The text of a script to be included, None if there is none. Raises OSError, see `ScriptStore`."""
        self.has_loaded = True
        return self.store.load(location, name) if self.store is not None else None
