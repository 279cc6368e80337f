"""The sign of life of a stream, and the right to deliver that hangs on it.

Every `heartbeat` seconds the owner overwrites `hb/<stream>`. It may deliver for `deliver_for` seconds after
the
*start* of the last heartbeat that the store took, on its own clock that counts suspended time; others wait
`takeover` seconds, which is longer, on theirs. So an owner that is cut off or was asleep has stopped
delivering before another begins, as long as no clock runs at nearly double speed. That prevents duplicates;
that nothing is lost rests on the seal alone.

An owner whose heartbeat was late may have been taken over meanwhile. Before it delivers again it shows that
it is alive, waits a little so that a taker who has looked before may finish, and then commits an entry: if
that works, no seal is there.
"""

from __future__ import annotations

import asyncio

import msgspec

from mailqueue.clock import Clock
from mailqueue.ids import id_text
from mailqueue.index import Index
from mailqueue.keys import heartbeat_key
from mailqueue.log import Log
from mailqueue.model import Fenced
from mailqueue.settings import QueueSettings
from mailqueue.store.base import MissingKey, Store, StoreError


class Beat(msgspec.Struct, array_like=True, frozen=True):
    """The object `hb/<stream>`."""

    count: int
    """One more each time."""
    committed: int
    """Number of the last committed entry."""
    at: float
    """Wall-clock time, for people."""
    messages: int
    """Live messages, for people."""
    closed: bool
    """The owner has sealed its log itself: nobody need wait."""


class Heartbeat:
    """The heartbeat of our stream."""

    def __init__(self, store: Store, index: Index, log: Log, settings: QueueSettings, clock: Clock) -> None:
        """Nothing is written yet."""
        self._store, self._key, self._index = store, heartbeat_key(id_text(index.own)), index
        self._settings, self._clock, self._log = settings, clock, log
        self._count = 0
        self._fresh_from = float("-inf")
        """Start of the last heartbeat that was taken, in boot time."""
        self.failing = ""
        """Why the last heartbeat was not taken, "" when it was."""

    def is_fresh(self) -> bool:
        """True while nobody can have taken us for dead."""
        return self._clock.boottime() < self._fresh_from + self._settings.deliver_for

    async def beat(self, *, closed: bool = False) -> float:
        """Write one; returns when it began. Raises StoreError."""
        began = self._clock.boottime()
        self._count += 1
        beat = Beat(self._count, self._log.committed, self._clock.wall(), len(self._index), closed)
        await self._store.put(self._key, msgspec.msgpack.encode(beat))
        self._log.heard()
        return began

    async def start(self) -> None:
        """The first one of a new stream. Raises StoreError."""
        self._fresh_from = await self.beat()

    async def run(self) -> None:
        """Write one every `heartbeat` seconds until the stream is taken over."""
        every = self._settings.heartbeat
        while not self._log.fenced:
            began = self._clock.boottime()
            try:
                async with asyncio.timeout(self._settings.deliver_for):
                    if self.is_fresh():
                        self._fresh_from = await self.beat()
                    else:
                        await self._come_back()
            except (StoreError, TimeoutError) as error:
                self.failing = str(error) or f"{self._store.name}: no answer"
                await asyncio.sleep(every / 4)
                continue
            except Fenced:
                return
            self.failing = ""
            self._log.measure()
            await asyncio.sleep(max(every - (self._clock.boottime() - began), every / 4))

    async def _come_back(self) -> None:
        await self.beat()
        await asyncio.sleep(self._settings.heartbeat / 2)
        began = await self.beat()
        await self._log.touch()
        self._fresh_from = began


async def read_beat(store: Store, stream: str) -> tuple[bytes, Beat | None]:
    """The heartbeat of a stream as octets and as far as we understand it. Raises StoreError."""
    try:
        data = await store.get(heartbeat_key(stream))
    except MissingKey:
        return b"", None
    try:
        return data, msgspec.msgpack.decode(data, type=Beat)
    except msgspec.DecodeError:
        return data, None
