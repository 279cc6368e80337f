"""Moves messages that stay long into entries with others of their kind.

Most messages leave the queue within minutes, and the entries that brought them are deleted when the last one
is gone. What is still there after `compact_after` would keep many mostly dead entries, or the log of a
retired stream: its payloads are copied as they are, with the present state, into few large entries of our own
log.

A move is an ENQ record of a known id. It is appended only if the message is live at that moment, and what
happens to the message afterwards follows it in the log, so the order of the log tells the truth at every
crash.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from mailqueue.batch import Batch, Haste
from mailqueue.bodies import day_of, restore_body
from mailqueue.clock import Clock
from mailqueue.ids import id_text
from mailqueue.index import Index, Location
from mailqueue.keys import log_key
from mailqueue.log import Log
from mailqueue.model import CorruptMessage
from mailqueue.records import BodyRef, Enq, encode_record
from mailqueue.settings import QueueSettings
from mailqueue.store.base import MissingKey, Store

_PASS_BYTES = 64 * 1024 * 1024
"""Octets moved in one look, so that other work is not crowded out."""
_SCAN = 20000
"""Slots looked at before other tasks get a turn."""


class _Moving(NamedTuple):
    id: bytes
    place: Location
    body: BodyRef | None


class Compaction:
    """What of our index should move, and the moving."""

    def __init__(self, store: Store, index: Index, log: Log, settings: QueueSettings, clock: Clock) -> None:
        """Nothing is old yet."""
        self._store, self._index, self._log = store, index, log
        self._settings, self._clock = settings, clock
        self._ages: deque[tuple[float, int]] = deque()
        """Moments in boot time, and the last committed entry then."""
        self._old = -1
        """Entries up to this one are older than `compact_after`."""
        self._packed: dict[int, int] = {}
        """Entries that compaction wrote: messages they had."""
        self._foreign: dict[bytes, float] = {}
        """Since when we have messages in other streams' logs."""
        self._lost: set[bytes] = set()
        """Messages whose body cannot be read: it stays where it is, and is told of once."""

    async def run(self, most: int = _PASS_BYTES) -> int:
        """Move what is due, about `most` octets; returns the number of messages. Raises StoreError,
        Fenced, and OSError of temporary files."""
        self._look_at_ages()
        wanted = await self._wanted(min(most, _PASS_BYTES))
        moved = 0
        batch: list[tuple[_Moving, bytes]] = []
        size = 0
        for group in _by_entry(wanted):
            for moving, frame in await self._read(group):
                batch.append((moving, frame))
                size += len(frame)
                if size >= self._settings.compact_bytes:
                    moved += await self._write(batch, size)
                    batch, size = [], 0
        if batch:
            moved += await self._write(batch, size)
        return moved

    def _look_at_ages(self) -> None:
        now = self._clock.boottime()
        self._ages.append((now, self._log.committed))
        while self._ages and self._ages[0][0] <= now - self._settings.compact_after:
            self._old = self._ages.popleft()[1]
        uses = self._index.uses[0]
        for number in [number for number in self._packed if number not in uses]:
            del self._packed[number]
        self._lost = {id for id in self._lost if self._index.find(id) >= 0}
        foreign = self._index.foreign_streams()
        self._foreign = {stream: self._foreign.get(stream, now) for stream in foreign}

    async def _wanted(self, most: int) -> list[_Moving]:
        index, now = self._index, self._clock.boottime()
        entries = {
            number
            for number, live in index.uses[0].items()
            if number <= self._old and live * 2 <= self._packed.get(number, 1 << 40)
        }
        if len(entries) == 1 and not self._foreign:
            # Alone it would only be written again.
            (only,) = entries
            if index.uses[0][only] * 2 > self._packed.get(only, 1):
                entries = set()
        streams = {s for s, since in self._foreign.items() if now - since >= self._settings.compact_after}
        # A body must move on a day before its bucket may go.
        keep = self._settings.lifetime + self._settings.body_keep - 86400.0
        oldest = day_of(self._clock.wall() - keep)
        stale = {slot for slot, ref in index.bodies.items() if ref.day < oldest}
        if stale and self._lost:
            stale = {slot for slot in stale if index.id_of(slot) not in self._lost}
        if not entries and not streams and not stale:
            return []
        wanted: list[_Moving] = []
        size = 0
        for slot in range(len(index.status)):
            if slot % _SCAN == _SCAN - 1:
                await asyncio.sleep(0)
            if not index.is_live(slot):
                continue
            place = index.location(slot)
            if slot not in stale and (
                place.number not in entries if place.stream == index.own else place.stream not in streams
            ):
                continue
            wanted.append(_Moving(index.id_of(slot), place, index.bodies.get(slot)))
            size += place.length
            if size >= most:
                break
        return wanted

    async def _read(self, group: list[_Moving]) -> list[tuple[_Moving, bytes]]:
        first = min(moving.place.offset for moving in group)
        last = max(moving.place.offset + moving.place.length for moving in group)
        place = group[0].place
        try:
            data = await self._store.get(log_key(id_text(place.stream), place.number), first, last)
        except MissingKey:
            return []
        frames = []
        for moving in group:
            start = moving.place.offset - first
            frame = data[start : start + moving.place.length]
            if len(frame) == moving.place.length:
                frames.append((moving, frame))
        return frames

    async def _write(self, batch: list[tuple[_Moving, bytes]], size: int) -> int:
        today = day_of(self._clock.wall())
        bodies: dict[bytes, BodyRef] = {}
        for moving, _ in batch:
            if moving.body is not None and moving.body.day != today:
                try:
                    bodies[moving.id] = await restore_body(
                        self._store, moving.body, today, self._settings.spill_dir
                    )
                except CorruptMessage as error:
                    if moving.id in self._lost:
                        continue
                    self._lost.add(moving.id)
                    self._settings.report("body lost", {"id": id_text(moving.id), "error": str(error)})
        index, log = self._index, self._log
        count = 0
        with log.together(size):
            for moving, frame in batch:
                slot = index.find(moving.id)
                if slot < 0 or index.location(slot) != moving.place:
                    continue
                count += 1
                offset = log.room(len(frame))
                body = bodies.get(moving.id, moving.body)
                record = Enq(
                    moving.id,
                    float(index.created[slot]),
                    float(index.expires[slot]),
                    index.priority[slot],
                    index.size[slot],
                    offset,
                    len(frame),
                    body,
                    index.states(slot),
                )
                log.append(
                    encode_record(record),
                    haste=Haste.NOW,
                    on_commit=self._mover(moving, offset, body),
                    payload=frame,
                )
        await log.barrier()
        return count

    def _mover(self, moving: _Moving, offset: int, body: BodyRef | None) -> _Mover:
        return _Mover(self._index, self._packed, moving, offset, body)


class _Mover:
    """Tells the index where a payload is now, once that is committed."""

    __slots__ = ("_body", "_index", "_moving", "_offset", "_packed")

    def __init__(
        self, index: Index, packed: dict[int, int], moving: _Moving, offset: int, body: BodyRef | None
    ) -> None:
        self._index, self._packed = index, packed
        self._moving, self._offset, self._body = moving, offset, body

    def __call__(self, batch: Batch | None) -> None:
        if batch is None:
            return
        self._packed[batch.number] = self._packed.get(batch.number, 0) + 1
        moving = self._moving
        slot = self._index.find(moving.id)
        if slot >= 0:
            place = Location(self._index.own, batch.number, batch.base + self._offset, moving.place.length)
            self._index.move(slot, place, self._body)


def _by_entry(wanted: Iterable[_Moving]) -> list[list[_Moving]]:
    groups: dict[tuple[bytes, int], list[_Moving]] = {}
    for moving in wanted:
        groups.setdefault((moving.place.stream, moving.place.number), []).append(moving)
    return [groups[key] for key in sorted(groups)]
