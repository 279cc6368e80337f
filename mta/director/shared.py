"""The state of a director where all nodes see it, in a store, by create-if-absent of revisions.

    director/NAME/000000000007        the state after seven changes

A change writes the revision after the one it began with; when another was faster it begins again, so no
change is lost. Old revisions are deleted by who makes new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from mailqueue.store.base import MissingKey, StoreError
from mta.director.state import DirectorState

PREFIX = "director/"
KEPT = 5
"""Revisions that stay, for readers that are slow."""
TRIES = 20
"""Changes by others that a change bears while it is made."""
_DIGITS = 12


class States(Protocol):
    """Where revisions are kept: what is needed of a `mailqueue.store.base.Store`, and raised as it raises."""

    name: str

    async def put_new(self, key: str, data: bytes) -> bool:
        """Create one; False when there is another."""

    async def get(self, key: str) -> bytes:
        """Read one."""

    async def list_after(self, prefix: str) -> list[str]:
        """The keys under a prefix, in order."""

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove some."""


def _folder(name: str) -> str:
    return f"{PREFIX}{name}/"


async def read(store: States, name: str) -> tuple[int, DirectorState]:
    """The newest revision; 0 and an empty state if there is none. Raises StoreError and ValueError."""
    for _ in range(TRIES):
        keys = await store.list_after(_folder(name))
        if not keys:
            return 0, DirectorState()
        try:
            octets = await store.get(keys[-1])
        except MissingKey:
            continue  # a newer one is there, and this one was deleted
        state = msgspec.json.decode(octets, type=DirectorState)
        if state.version != 1:
            raise ValueError(f"{keys[-1]}: version {state.version} is of a later Tamis")
        return int(keys[-1].rpartition("/")[2]), state
    raise StoreError(store.name, f"the state of director {name} changes faster than it can be read")


async def change(store: States, name: str, act: Callable[[DirectorState], DirectorState]) -> DirectorState:
    """Change the state. Raises StoreError, and what `act` raises."""
    for _ in range(TRIES):
        revision, state = await read(store, name)
        changed = act(state)
        key = f"{_folder(name)}{revision + 1:0{_DIGITS}d}"
        if await store.put_new(key, msgspec.json.encode(changed)):
            keys = await store.list_after(_folder(name))
            if len(keys) > KEPT:
                await store.delete(keys[:-KEPT])
            return changed
    raise StoreError(store.name, f"the state of director {name} is being changed by others all the time")
