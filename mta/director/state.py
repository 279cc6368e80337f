"""What administrators have changed: weights of back ends, users that were moved. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

MAX_MOVED = 100_000
"""Users that are somewhere else than the hash says; the state is read whole."""


class DirectorState(msgspec.Struct, frozen=True):
    """The changes to one director. Fields of later versions are kept out by `version`."""

    weights: dict[str, int] = {}
    """In place of those of the configuration; a back end that is not in it, too (`add`)."""
    moved: dict[str, str] = {}
    """Users and their back ends, whatever the hash says."""
    removed: tuple[str, ...] = ()
    """Back ends of the configuration that get nothing any more."""
    version: int = 1

    def effective(self, configured: Mapping[str, int]) -> dict[str, int]:
        """The weights that hold."""
        weights = {**configured, **self.weights}
        return {name: weight for name, weight in weights.items() if name not in self.removed}


class Refused(ValueError):
    """A change that makes no sense; the text says why."""


def add(
    state: DirectorState, configured: Mapping[str, int], known: Mapping[str, object], name: str, weight: int
) -> DirectorState:
    """Let a back end take users. It must have a section of its own in the configuration of all nodes."""
    if name not in known:
        raise Refused(f"there is no [backends.{name}]: configure it on all nodes first")
    if name in state.effective(configured):
        raise Refused(f"{name} is there already; its weight is changed by `set`")
    return msgspec.structs.replace(
        state,
        weights={**state.weights, name: weight},
        removed=tuple(one for one in state.removed if one != name),
    )


def set_weight(state: DirectorState, configured: Mapping[str, int], name: str, weight: int) -> DirectorState:
    """Change the share of a back end; 0 drains it."""
    effective = state.effective(configured)
    _require(effective, name)
    if weight == 0 and not any(other for one, other in effective.items() if one != name):
        raise Refused("no other back end has a weight: nobody would take the users")
    return msgspec.structs.replace(state, weights={**state.weights, name: weight})


def remove(state: DirectorState, configured: Mapping[str, int], name: str) -> DirectorState:
    """Take a back end out; users that were moved to it go where the hash says."""
    effective = state.effective(configured)
    _require(effective, name)
    if not any(weight for one, weight in effective.items() if one != name):
        raise Refused("no other back end has a weight: nobody would take the users")
    return msgspec.structs.replace(
        state,
        weights={one: weight for one, weight in state.weights.items() if one != name},
        moved={user: place for user, place in state.moved.items() if place != name},
        removed=tuple(dict.fromkeys((*state.removed, name))) if name in configured else state.removed,
    )


def move(state: DirectorState, configured: Mapping[str, int], user: str, name: str) -> DirectorState:
    """Give a user a back end; "" gives it back to the hash."""
    moved = {one: place for one, place in state.moved.items() if one != user}
    if name:
        _require(state.effective(configured), name)
        moved[user] = name
        if len(moved) > MAX_MOVED:
            raise Refused(f"{MAX_MOVED} users have been moved already: use a table")
    return msgspec.structs.replace(state, moved=moved)


def _require(effective: Mapping[str, int], name: str) -> None:
    if name not in effective:
        raise Refused(f"{name} is none of its back ends: {', '.join(sorted(effective))}")
