"""Anti-entropy: give each of several stores what the others have.

Holes are filled and nothing else is touched: objects never change, and where one store has an entry and
another a seal, only a sealer can judge (mailqueue.store.replicated). To fill a hole is as if the owner of the
log, or the sealer, had been late: whoever comes first to a key has it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from mailqueue.keys import LOGS
from mailqueue.store.asking import ask_all
from mailqueue.store.base import Store, StoreError


class Repaired(NamedTuple):
    """What `repair` did."""

    copied: int
    """Objects that a store did not have and has now."""
    failed: int
    """Objects that could not be copied: run it again."""


async def repair(
    stores: Sequence[Store],
    shared: Container[int],
    prefix: str,
    after: str,
    only: Container[str] | None = None,
) -> Repaired:
    """Fill the holes under `prefix` behind `after`, of these keys if `only` names some; stores whose index is
    not `shared` are private."""
    lists, unreachable = await ask_all(
        stores, range(len(stores)), lambda store: store.list_after(prefix, after)
    )
    held = {index: set(keys) for index, keys in lists.items()}
    copied, failed = 0, len(unreachable)
    for key in sorted(set().union(*held.values())):
        if only is not None and key not in only:
            continue
        missing = [
            index
            for index, keys in held.items()
            if key not in keys and (index in shared or _has_begun(keys, key))
        ]
        if not missing:
            continue
        try:
            data = await _agreed(key, [stores[index] for index, keys in held.items() if key in keys])
        except StoreError:
            failed += len(missing)
            continue
        if data is not None:
            _, failures = await ask_all(stores, missing, partial(_copy, key=key, data=data))
            failed += len(failures)
            copied += len(missing) - len(failures)
    return Repaired(copied, failed)


async def _agreed(key: str, holders: Sequence[Store]) -> bytes | None:
    """What the holders have; None when they differ."""
    if not key.startswith(LOGS):
        return await holders[0].get(key)
    found = {await store.get(key) for store in holders}
    return found.pop() if len(found) == 1 else None


async def _copy(store: Store, *, key: str, data: bytes) -> bool:
    return await store.put_new(key, data)


def _has_begun(held: Iterable[str], key: str) -> bool:
    log = key[: key.rindex("/") + 1]
    return key.startswith(LOGS) and any(other.startswith(log) for other in held)
