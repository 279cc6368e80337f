"""Deletes what is left of streams that are adopted whole and whose logs nobody uses any more.

Any node may do it at any time; deleting twice is harmless. It is safe because of the order in which takers
write: whoever adopts messages whose payloads are in a log says so under `uses/` before the adoption counts,
and takes that back only when it has none left there. A holder that is itself adopted whole has passed its
messages on to others, who said so before. So an empty `uses/` of a retired stream stays empty.

Who adopted what stays for another hour, for takers that are slow; then one mark is enough to say that nothing
is left. The seal stays for `retired_keep`, so that an owner that slept meets it when it wakes. As wall clocks
may be wrong, that of the node that is most behind counts, and nothing is forgotten that was not collected for
an hour by the boot time of this machine: since this process knows it, or, as processes may not live so long,
since one of the same run of this machine wrote the mark, which has that time with it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from mailqueue.clock import Clock
from mailqueue.ids import PARTS, is_id
from mailqueue.keys import (
    COLLECTED,
    LEASES,
    RETIRED,
    STREAMS,
    collected_key,
    end_key,
    heartbeat_key,
    last_segment,
    lease_prefix,
    log_prefix,
    number_of,
    retired_prefix,
    snapshot_prefix,
    stream_key,
    uses_key,
    uses_prefix,
)
from mailqueue.process import time_namespace
from mailqueue.reader import read_end
from mailqueue.settings import QueueSettings
from mailqueue.store.base import MissingKey, Store

_LEASE = re.compile(rf"{LEASES}(\w+)/(\d{{2}})/(\d{{8}})", re.ASCII)
_HOUR = 3600.0


class _Mark(NamedTuple):
    """What is known of a collected stream."""

    since: float
    """Boot time from which on it was collected for certain."""
    wall: int | None
    """When that was by the clock of who did it; None where it cannot be read."""


class Collector:
    """Collects retired streams of one store."""

    def __init__(
        self,
        store: Store,
        settings: QueueSettings,
        clock: Clock,
        slowest_wall: Callable[[], Awaitable[float]],
    ) -> None:
        """Nothing was looked at yet. `slowest_wall` tells the time of the clock that is most behind."""
        self._slowest_wall = slowest_wall
        self._store, self._settings, self._clock = store, settings, clock
        self._known: dict[str, _Mark] = {}
        """Marks of collected streams. They are written once, and so read once."""
        boot = settings.identity.boot
        self._boot = f"{boot}/{time_namespace()}" if boot else ""
        """Of the machine; boot times of another one mean nothing."""

    async def run(self) -> None:
        """Delete what can be deleted. Raises StoreError."""
        retired = by_stream(await self._store.list_after(RETIRED))
        self._known = {stream: mark for stream, mark in self._known.items() if stream in retired}
        whole = {stream for stream, names in retired.items() if is_whole(names)}
        for stream in sorted(whole):
            if COLLECTED in retired[stream]:
                await self._forget(stream, retired[stream])
            elif await self._is_unused(stream, whole):
                await self._collect(stream)

    async def _is_unused(self, stream: str, whole: set[str]) -> bool:
        holders = [last_segment(key) for key in await self._store.list_after(uses_prefix(stream))]
        gone = [holder for holder in holders if holder in whole]
        if gone:
            await self._store.delete([uses_key(stream, holder) for holder in gone])
        return len(gone) == len(holders)

    async def _collect(self, stream: str) -> None:
        store = self._store
        # The seal must stay, or its owner could write there again. What stands behind it came too late.
        end = await read_end(store, stream)
        if end is None:
            return
        entries = await store.list_after(log_prefix(stream))
        await store.delete([key for key in entries if number_of(key) < end])
        await store.delete(await store.list_after(snapshot_prefix(stream)))
        mark = str(int(self._clock.wall()))
        if self._boot:
            mark += f" {self._boot} {self._clock.boottime():.0f}"
        await store.put_new(collected_key(stream), mark.encode())

    async def _mark(self, stream: str) -> _Mark:
        since = now = self._clock.boottime()
        try:
            octets = await self._store.get(collected_key(stream))
        except MissingKey:  # another node has forgotten it in this moment
            return _Mark(now, None)
        wall, *more = octets.decode("ascii", "replace").split(" ")
        if self._boot and len(more) == 2 and more[0] == self._boot and more[1].isdecimal():
            since = min(now, float(more[1]))
        return _Mark(since, int(wall) if wall.isdecimal() else None)

    async def _forget(self, stream: str, names: set[str]) -> None:
        store, mark = self._store, self._known.get(stream)
        if mark is None:
            mark = self._known[stream] = await self._mark(stream)
        if self._clock.boottime() - mark.since < _HOUR:
            return
        if len(names) > 1:
            await store.delete(await store.list_after(lease_prefix(stream)))
            await store.delete([heartbeat_key(stream), stream_key(stream), end_key(stream)])
            marks = await store.list_after(retired_prefix(stream))
            await store.delete([key for key in marks if last_segment(key) != COLLECTED])
        keep = self._settings.retired_keep
        if mark.wall is None or self._clock.wall() - mark.wall < keep:
            return
        if await self._slowest_wall() - mark.wall >= keep:
            await store.delete(await store.list_after(log_prefix(stream)))
            await store.delete([collected_key(stream)])


def stream_names(keys: list[str]) -> list[str]:
    """The streams of keys "stream/<stream>". What somebody has put there by hand is no stream, and must not
    hold up those that are."""
    return [name for key in keys if is_id(name := key.removeprefix(STREAMS))]


def lease_of(key: str) -> tuple[str, int, int] | None:
    """Stream, part and epoch of a lease, None for what is none."""
    found = _LEASE.fullmatch(key)
    return (found[1], int(found[2]), int(found[3])) if found else None


def by_stream(keys: list[str]) -> dict[str, set[str]]:
    """Last segments of keys "x/<stream>/<name>", by stream; what is no such key is passed over."""
    names: dict[str, set[str]] = {}
    for key in keys:
        stream, _, name = key.partition("/")[2].partition("/")
        if name and is_id(stream):
            names.setdefault(stream, set()).add(name)
    return names


def is_whole(names: set[str]) -> bool:
    """True when all parts of a stream are retired."""
    return COLLECTED in names or all(f"{part:02d}" in names for part in range(PARTS))
