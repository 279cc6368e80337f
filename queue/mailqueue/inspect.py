"""A look at a store without taking part: which streams there are, and what messages they hold.

For commands on a stopped node's store and for a look at other nodes. Nothing is written, nothing is claimed;
what a running owner has not committed yet is not seen, and a message may be delivered while it is being
looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from mailqueue.cache import PayloadCache
from mailqueue.collector import by_stream, is_whole, lease_of, stream_names
from mailqueue.heartbeat import Beat, read_beat
from mailqueue.ids import PARTS, id_octets, id_text, part_of
from mailqueue.keys import (
    LEASES,
    RETIRED,
    STREAMS,
    log_prefix,
    number_of,
    retired_key,
    snapshot_prefix,
)
from mailqueue.live import Live
from mailqueue.loading import Loader
from mailqueue.model import QueuedMessage, Row, UnknownMessage
from mailqueue.opening import Announcement, read_announcement, require_known_format
from mailqueue.reader import StreamReader, read_retired
from mailqueue.store.base import MissingKey, Store

_PATIENCE = 3
"""Times that a stream is read anew when its owner deletes what is being read."""


@dataclass(slots=True)
class StreamInfo:
    """What the store says of one stream."""

    name: str
    announced: Announcement | None
    beat: Beat | None
    """The last heartbeat. `Beat.at` is its owner's wall clock: its age is a hint."""
    entries: int
    """Entries that are there."""
    last: int
    """The highest number, -1 for none."""
    snapshot: int
    """The newest snapshot, -1 for none."""
    retired: dict[int, str] = field(default_factory=dict)
    """Part -> the stream that adopted it."""
    leases: dict[int, int] = field(default_factory=dict)
    """Part -> the newest epoch that was claimed."""

    @property
    def is_retired(self) -> bool:
        """True when all of it was adopted."""
        return len(self.retired) == PARTS

    @property
    def lag(self) -> int:
        """Entries behind the newest snapshot: what a taker has to read."""
        return self.last - self.snapshot


async def list_streams(store: Store) -> list[StreamInfo]:
    """All streams, oldest first. Raises StoreError."""
    names = stream_names(await store.list_after(STREAMS))
    leases: dict[str, dict[int, int]] = {}
    for lease in map(lease_of, await store.list_after(LEASES)):
        if lease is not None:
            leases.setdefault(lease[0], {})[lease[1]] = lease[2]
    retired = by_stream(await store.list_after(RETIRED))
    return [
        await _info(store, name, leases.get(name, {}), retired.get(name, set())) for name in sorted(names)
    ]


async def _info(store: Store, name: str, leases: dict[int, int], retired: set[str]) -> StreamInfo:
    parts = [part for part in range(PARTS) if f"{part:02d}" in retired]
    takers = await asyncio.gather(*(read_retired(store, retired_key(name, part)) for part in parts))
    entries = await store.list_after(log_prefix(name))
    snapshots = await store.list_after(snapshot_prefix(name))
    return StreamInfo(
        name,
        await read_announcement(store, name),
        (await read_beat(store, name))[1],
        len(entries),
        number_of(entries[-1]) if entries else -1,
        number_of(snapshots[-1]) if snapshots else -1,
        dict(zip(parts, takers, strict=True)),
        leases,
    )


class Inspection:
    """The live messages of all streams of a store, as of one moment. Made by `open`."""

    def __init__(self, store: Store, spill_dir: str | None) -> None:
        """Nothing was read yet."""
        self._store, self._spill_dir = store, spill_dir
        self._readers: dict[str, StreamReader] = {}
        self.problems: list[str] = []
        """Damage that was met, each with its key."""

    @classmethod
    async def open(cls, store: Store, *, spill_dir: str | None = None) -> Inspection:
        """Read all streams that are not retired. Raises StoreError and FormatError."""
        inspection = cls(store, spill_dir)
        await require_known_format(store)
        retired = by_stream(await store.list_after(RETIRED))
        for name in stream_names(await store.list_after(STREAMS)):
            if not is_whole(retired.get(name, set())):
                await inspection._read(name, {int(part) for part in retired.get(name, ()) if part.isdigit()})
        return inspection

    def messages(self) -> Iterator[tuple[str, Row]]:
        """Stream and message, of all live messages. Handles in these rows count within their stream only."""
        for name, reader in self._readers.items():
            live = Live(reader.replay.index)
            for handle in live.handles():
                yield name, live.row(handle)

    def __len__(self) -> int:
        return sum(reader.replay.index.messages for reader in self._readers.values())

    async def load(self, id: str) -> QueuedMessage:
        """A message whole. Raises UnknownMessage, CorruptMessage, QueueUnavailable."""
        try:
            octets = id_octets(id)
        except ValueError:
            raise UnknownMessage(id) from None
        for reader in self._readers.values():
            if reader.replay.index.find(octets) >= 0:
                return await self.loader(reader).load(octets)
        raise UnknownMessage(id)

    def readers(self) -> list[StreamReader]:
        """The streams as they were read."""
        return list(self._readers.values())

    def loader(self, reader: StreamReader) -> Loader:
        """Loads messages of one of the streams."""
        return Loader(self._store, reader.replay.index, PayloadCache(0), self._spill_dir)

    async def _read(self, name: str, retired: set[int]) -> None:
        reader = await read_stream(self._store, name)
        index = reader.replay.index
        for slot in [slot for slot in index.slots() if part_of(index.id_of(slot)) in retired]:
            index.remove(slot)
        self._readers[name] = reader
        self.problems.extend(reader.problems)
        self.problems.extend(f"{name}: {problem}" for problem in reader.replay.problems)


async def read_stream(store: Store, name: str) -> StreamReader:
    """A stream as of now, with what it has adopted for certain. Raises StoreError and FormatError."""
    for again in range(_PATIENCE):
        reader = StreamReader(store, name, keep_corrupt=False)
        try:
            await reader.load()
            break
        except MissingKey:
            if again == _PATIENCE - 1:
                raise
    for of, part in list(reader.replay.provisional):
        taker = await read_retired(store, retired_key(id_text(of), part))
        reader.replay.resolve(of, part, taker == name)
    return reader
