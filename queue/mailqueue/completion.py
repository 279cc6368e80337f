"""Has all stores of several hold what we have taken over.

A process looks after what a store missed while it was away (`mailqueue.store.catchup`), as long as it
lives. Who takes its messages over copies what it has of them, entries of dead logs and large bodies, to the
stores that lack it, once; a store that is away then is tried again every `AGAIN` seconds. Nothing else is
copied, so nothing that was deleted comes back: while we have messages in a log, nobody deletes them there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable

from mailqueue.clock import Clock
from mailqueue.ids import id_text
from mailqueue.index import Index
from mailqueue.keys import body_key, body_prefix, log_key, log_prefix
from mailqueue.store.base import Store
from mailqueue.store.repair import Repaired

AGAIN = 300.0
"""Seconds until a store that was away is tried again."""


class Completion:
    """Completes the stores of one queue; does nothing where there is only one."""

    def __init__(self, store: Store, index: Index, clock: Clock) -> None:
        """Nothing was copied yet."""
        self._repair: Callable[..., Awaitable[Repaired]] | None = getattr(store, "repair", None)
        self._index, self._clock = index, clock
        self._done: set[str] = set()
        """Keys that all stores have."""
        self._not_before = float("-inf")

    async def run(self) -> int:
        """Copy what is missing; returns how many objects."""
        if self._repair is None or self._clock.boottime() < self._not_before:
            return 0
        wanted = self._wanted()
        copied = 0
        for prefix, keys in wanted.items():
            missing = keys - self._done
            if not missing:
                continue
            result = await self._repair(prefix, only=missing)
            copied += result.copied
            if result.failed:
                self._not_before = self._clock.boottime() + AGAIN
            else:
                self._done |= missing
        self._done.intersection_update(*[set().union(*wanted.values())])
        return copied

    def _wanted(self) -> dict[str, set[str]]:
        """The keys of what we have taken over, by their prefixes."""
        index = self._index
        wanted: defaultdict[str, set[str]] = defaultdict(set)
        for stream, uses in zip(index.streams[1:], index.uses[1:], strict=True):
            if uses:
                name = id_text(stream)
                wanted[log_prefix(name)] = {log_key(name, number) for number in uses}
        for slot, ref in index.bodies.items():
            if index.stream[slot]:
                wanted[body_prefix(ref.day)].add(body_key(ref.day, ref.digest))
        return dict(wanted)
