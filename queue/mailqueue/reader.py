"""Reads a stream: the newest snapshot that is whole, then the log behind it, as far as it was committed.

Used by whoever takes a stream over, and by those who only look. Nothing here writes, but for copies of
damaged entries when asked for. Damage is told in `problems` and never stops the reading: the rest flows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mailqueue.entry import FIRST_READ, CorruptEntry, Entry, FormatError, NeedMore, parse
from mailqueue.heartbeat import read_beat
from mailqueue.ids import PARTS, id_octets
from mailqueue.keys import (
    collected_key,
    corrupt_key,
    end_key,
    log_key,
    log_prefix,
    number_of,
    retired_prefix,
    snapshot_key,
    snapshot_prefix,
)
from mailqueue.replay import Replay
from mailqueue.rows import BLOCK_ROWS, encode_rows, enter_rows
from mailqueue.seal import Seal, decode_seal
from mailqueue.snapshot import CorruptSnapshot, read_snapshot
from mailqueue.store.base import MissingKey, Store, StoreRefused, is_seal

GONE = "it was there, and is missing"
"""What is wrong with an entry that cannot be read."""
_PAGE = 10000
"""Keys of one listing."""
_AT_ONCE = 16
"""Entries fetched at the same time."""
_UNDER_WAY = 4
"""Entries that an owner writes at the same time, at most (`QueueSettings.in_flight`): what is that far behind
another one is committed."""
_BEYOND = 1000
"""Entries behind the last one that a heartbeat is believed to have seen: it has no check sum."""


class StreamReader:
    """The state of one stream, read step by step."""

    def __init__(self, store: Store, name: str, *, keep_corrupt: bool, end: int | None = None) -> None:
        """`keep_corrupt`: copy damaged entries to where nothing is ever deleted. What stands at `end` and
        behind it is not read."""
        self._store, self.name, self._end = store, name, end
        self._keep_corrupt = keep_corrupt
        self.stream = id_octets(name)
        self.replay = Replay(self.stream)
        self.next = 0
        """The first number that is not there, or where the seal is."""
        self.sealed = False
        self.seal: Seal | None = None
        self.snapshot = -1
        """Number of the entry whose snapshot was read."""
        self.newest = -1
        """Number of the newest snapshot that was there, whole or not."""
        self.problems: list[str] = []
        """Damage, each with its key."""
        self.missing: list[int] = []
        """Entries that were committed and are not there."""
        self.damaged: set[str] = set()
        """Keys of entries that are damaged: which messages they had may be told nowhere else."""
        self._committed = -1
        """The last entry that is known to have been committed, by the heartbeat and by snapshots."""

    async def load(self) -> None:
        """Read snapshot and log. Raises StoreError, MissingKey when the owner or a collector deletes
        meanwhile, and FormatError when a newer version wrote it."""
        # Before all else: who says so now has written it before.
        _, beat = await read_beat(self._store, self.name)
        keys = await self._store.list_after(snapshot_prefix(self.name))
        self.newest = number_of(keys[-1]) if keys else -1
        self._committed = max(self.newest, -1 if beat is None else beat.committed)
        newest: Replay | None = None
        for key in reversed(keys):
            replay, whole = await self._snapshot(key)
            if whole:
                self.replay, self.snapshot = replay, number_of(key)
                break
            newest = newest or replay
        else:
            if newest is not None:
                await self._salvage(newest, number_of(keys[-1]))
        self.next = self.snapshot + 1
        await self.follow()

    async def follow(self) -> None:
        """Read on from `next`, as far as there are entries. Raises as `load`."""
        while not self.sealed:
            after = log_key(self.name, self.next - 1) if self.next else ""
            keys = await self._store.list_after(log_prefix(self.name), after, _PAGE)
            there = [number_of(key) for key in keys]
            wanted = range(self.next, self._stop(there))
            gaps = set(wanted).difference(there)
            if gaps:
                await self._expect_no_deletion()
            for first in range(0, len(wanted), _AT_ONCE):
                chunk = wanted[first : first + _AT_ONCE]
                found = await asyncio.gather(*(self._entry_if_any(n, n in gaps) for n in chunk))
                for number, entry in zip(chunk, found, strict=True):
                    if entry is None:
                        self.sealed = True
                        return
                    self.replay.entry(entry)
                    self.next = number + 1
            if len(keys) < _PAGE or not wanted:
                return

    def _stop(self, there: Sequence[int]) -> int:
        """The first number from `next` on that is not to be read, of those that a listing shows."""
        last = max(there, default=self.next - 1)
        certain = max(min(self._committed, last + _BEYOND), last - _UNDER_WAY)
        if len(there) == _PAGE:
            certain = min(certain, last)  # the next page shows the rest
        stop, present = max(self.next, certain + 1), set(there)
        while stop in present:
            stop += 1
        return stop if self._end is None else max(self.next, min(stop, self._end))

    async def _expect_no_deletion(self) -> None:
        """Raises MissingKey when entries may be missing because nobody needs them any more."""
        known = snapshot_key(self.name, self.newest) if self.newest >= 0 else ""
        newer = await self._store.list_after(snapshot_prefix(self.name), known, 1)
        retired = await self._store.list_after(retired_prefix(self.name))
        if newer or len(retired) >= PARTS or collected_key(self.name) in retired:
            raise MissingKey(self._store.name, f"{log_prefix(self.name)}: entries are being deleted")

    async def _entry_if_any(self, number: int, may_be_missing: bool) -> Entry | None:
        """An entry, None for a seal; an empty one for what has got lost."""
        try:
            return await self._entry(number)
        except MissingKey:
            if not may_be_missing:
                raise
        self.missing.append(number)
        self.problems.append(f"{log_key(self.name, number)}: {GONE}")
        return Entry(self.stream, number, b"", 0, 0)

    async def _snapshot(self, key: str) -> tuple[Replay, bool]:
        # What can be read of a snapshot, and whether that is all.
        problems: list[str] = []
        replay = Replay(self.stream)
        try:
            await read_snapshot(await self._store.get(key), replay.index, problems.append)
        except CorruptSnapshot as error:
            problems.append(str(error))
        except FormatError as error:
            raise FormatError(f"{key}: {error}") from error
        self.problems.extend(f"{key}: {problem}" for problem in problems)
        return replay, not problems

    async def _salvage(self, newest: Replay, number: int) -> None:
        # No snapshot is whole. Entries with live messages are never deleted, so what the newest snapshot lost
        # is still in the log; records of their end may not be, so some may be delivered twice, but none is
        # lost.
        log = Replay(self.stream)
        for key in await self._store.list_after(log_prefix(self.name)):
            if 0 <= number_of(key) <= number:
                entry = await self._entry(number_of(key))
                if entry is not None:  # a seal here came too late, where an entry had been deleted
                    log.entry(entry)
        slots = list(log.index.slots())
        for first in range(0, len(slots), BLOCK_ROWS):
            enter_rows(newest.index, encode_rows(log.index, slots[first : first + BLOCK_ROWS]))
        newest.provisional = log.provisional
        self.replay, self.snapshot = newest, number

    async def _entry(self, number: int) -> Entry | None:
        # None is a seal.
        key = log_key(self.name, number)
        try:
            return await self._parsed(key, number)
        except FormatError as error:
            raise FormatError(f"{key}: {error}") from error

    async def _parsed(self, key: str, number: int) -> Entry | None:
        data = await self._store.get(key, 0, FIRST_READ)
        if is_seal(data):
            self.seal = decode_seal(data)
            return None
        try:
            try:
                entry = parse(data, self.stream, number, whole=len(data) < FIRST_READ)
            except NeedMore as need:
                data += await self._store.get(key, len(data), need.size if need.size < 1 << 62 else None)
                entry = parse(data, self.stream, number, whole=len(data) < need.size)
        except CorruptEntry as error:
            entry = Entry(self.stream, number, b"", 0, len(data), problems=[str(error)])
        if entry.problems:
            self.problems.extend(f"{key}: {problem}" for problem in entry.problems)
            self.damaged.add(key)
            if self._keep_corrupt:
                await self._store.put_new(corrupt_key(self.name, number), await self._store.get(key))
        return entry


async def read_end(store: Store, stream: str) -> int | None:
    """Where the takers of a stream say that its log ends, None when none has said so. Raises StoreError."""
    key = end_key(stream)
    try:
        found = await store.get(key)
    except MissingKey:
        return None
    if not found.isdigit():
        raise StoreRefused(store.name, f"{key}: {found[:40]!r} is no number")
    return int(found)


async def read_retired(store: Store, key: str) -> str:
    """The stream that has adopted a part, "" when nobody has. Raises StoreError."""
    try:
        return (await store.get(key)).decode("ascii", "replace")
    except MissingKey:
        return ""
