"""What a script shares with the scripts that it includes, while they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from sieve_ext.runtime.settings import Settings
from sieve_ext.syntax.stored import TreeCache


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
    direct: bool = False
    """Compile it for hosts that answer at once: no step is a generator, and runs need a `host`."""
    state: dict[str, Any] = field(default_factory=dict)
    """What extensions share across all its scripts, by capability: global variables, scripts included."""
    depth: int = 0
    """How deep inclusion is at the moment."""
    trees: TreeCache | None = None
    """Where the trees of its scripts are kept, None where they are not."""
    doubts_trees: bool = False
    """One of them was not that of its text: none is to be read, all are to be written anew."""
    loaded: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    """Digests of the scripts that were asked for, by location and name; None for what is not there."""

    def load(self, location: str, name: str) -> bytes | None:
        """The text of a script to be included, None if there is none. Raises OSError, see `ScriptStore`."""
        text = self.store.load(location, name) if self.store is not None else None
        self.loaded[location, name] = digest_of(text)
        return text


def digest_of(text: bytes | None) -> bytes | None:
    """What tells texts of scripts apart: 32 octets; None for what is not there."""
    return None if text is None else blake2b(text, digest_size=32).digest()
