"""Snapshots, compaction, and the deletion of what nobody needs, of our own stream.

An entry is deleted when it is behind the older of the two snapshots that are kept and no live message has its
payload there - and then only after everything that was appended before has been committed: had we been taken
over meanwhile, the taker might still count as live what we know to be done. `exclusive` keeps snapshots and
the release of other logs apart from adoptions, which write in several steps.

When the store does not know our stream any more, as a bucket that was deleted and made again under us,
nobody would ever look for what we write. So it is told of us anew, with a snapshot of all that we have in
front: what is gone cannot be read then, and is told so, and what comes from now on is safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from mailqueue.bodies import day_of, delete_buckets
from mailqueue.clock import Clock
from mailqueue.collector import Collector
from mailqueue.compaction import Compaction
from mailqueue.completion import Completion
from mailqueue.heartbeat import read_beat
from mailqueue.ids import id_text
from mailqueue.index import Index
from mailqueue.keys import body_key, log_key, snapshot_key, stream_key, uses_key
from mailqueue.log import Log
from mailqueue.model import Fenced
from mailqueue.opening import announce, check_format
from mailqueue.seal import SEAL_VERSION, Seal, encode_seal
from mailqueue.settings import QueueSettings
from mailqueue.snapshot import encode_snapshot
from mailqueue.store.base import MissingKey, Store, StoreError, room_of

_SHARE = 16
"""A snapshot is written again only when the log has grown by this share of it, or after `_LONGEST`."""
_LONGEST = 10
"""Times `snapshot_every`."""
_STEP = 1.0
"""Seconds between snapshots at least."""
_TIGHT_PASS = 1024 * 1024
"""Octets moved in one look without room for mail: what is moved needs room twice for a while."""
_BODIES_EVERY = 3600.0
"""Seconds between looks for old bodies, and from the start to the first."""


class Housekeeping:
    """Looks after one stream."""

    def __init__(
        self,
        store: Store,
        index: Index,
        log: Log,
        settings: QueueSettings,
        clock: Clock,
        forget_bodies: Callable[[], None],
        random: Callable[[int], bytes],
    ) -> None:
        """Nothing was written yet. `forget_bodies`: those that the store had may be gone."""
        self._forget_bodies, self._random = forget_bodies, random
        self._store, self._index, self._log = store, index, log
        self._settings, self._clock = settings, clock
        self._name = id_text(index.own)
        self.exclusive = asyncio.Lock()
        """Held while an adoption is undecided, a snapshot is being written, or another log is released."""
        self.undecided = False
        """ADOPT records are in the log whose messages are not in the index: a snapshot would hide them. Stays
        so when the adoption was interrupted; then the log tells our successor."""
        self.uses: set[bytes] = set()
        """Streams that we have declared to use."""
        self.nothing_to_adopt = False
        """Set by the watcher: no dead stream waits for anybody."""
        self._unlisted = False
        """The store did not name our stream when it was asked last."""
        self._told = False
        """It was told that the store was emptied, and our stream is not there again yet."""
        self.others: list[str] = []
        """Set by the watcher: the other streams that are not adopted whole."""
        self._completion = Completion(store, index, clock)
        self._compaction = Compaction(store, index, log, settings, clock)
        self._collector = Collector(store, settings, clock, self._slowest_wall)
        self._snapshots: list[int] = []
        self._octets = 0
        """Octets of log at the last snapshot."""
        self._size = 0
        """Octets of the last snapshot."""
        self._at = clock.boottime()
        self._bodies_at = clock.boottime()
        self._old_bodies = ""
        """Days before this one are over by the clocks of all nodes, as of the last look for old bodies."""
        self._swept = -1
        self._kept: set[int] = set()
        """Entries up to `_swept` that are still there."""

    async def run(self) -> None:
        """Work until the stream is taken over."""
        step = min(self._settings.housekeeping, self._settings.snapshot_every)
        look_at = self._clock.boottime() + self._settings.housekeeping
        while not self._log.fenced:
            self._log.mark = self._octets + self._settings.snapshot_bytes
            self._log.grown.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STEP if self._is_tight() else step / 4):
                    await self._log.grown.wait()
                # A snapshot that fails is not tried again and again.
                await asyncio.sleep(_STEP)
            try:
                if self._unlisted:
                    await self._announce_again()
                if self._is_snapshot_due():
                    await self.snapshot()
                if self._is_tight():
                    await self.sweep()
                if self._clock.boottime() >= look_at:
                    look_at = self._clock.boottime() + self._settings.housekeeping
                    await self.look()
            except (StoreError, OSError) as error:  # OSError: the folder of temporary files is full
                self._settings.report("housekeeping", {"error": str(error)})
            except Fenced:
                return

    def listed(self, *, ours: bool) -> None:
        """Told by the watcher whether our stream is among those of the store."""
        if not ours:
            self._unlisted = True
            self._log.grown.set()

    async def _announce_again(self) -> None:
        self._unlisted = False
        if not self._log.heard():
            return
        try:
            await self._store.get(stream_key(self._name))
            self._told = False
            return  # only the listing was late, or what was there was put back
        except MissingKey:
            pass
        if not self._told:
            self._told = True
            self._settings.report(
                "the store was emptied", {"stream": self._name, "messages": self._index.messages}
            )
        self._forget_bodies()
        await check_format(self._store, self._random)
        for stream in sorted(self.uses):
            await self._store.put_new(uses_key(id_text(stream), self._name), self._name.encode())
        self._snapshots.clear()
        await self.snapshot()
        await announce(self._store, self._name, self._settings, self._clock)
        self._told = False

    async def look(self) -> None:
        """Move, release and delete what is due. Raises StoreError, Fenced, and OSError of temporary files."""
        await self._completion.run()
        await self._compaction.run(max(room_of(self._store), _TIGHT_PASS))
        await self.sweep()
        await self._release()
        await self._collector.run()
        now = self._clock.boottime()
        if self.nothing_to_adopt and now - self._bodies_at >= _BODIES_EVERY:
            self._bodies_at = now
            await self._delete_bodies()

    async def _delete_bodies(self) -> None:
        wall = await self._slowest_wall()
        keep = self._settings.lifetime + self._settings.body_keep
        # What is old since the last look: a clock may have been set since, and all who have messages with
        # such bodies had the time from then on to move them on. Ours are safe in any case.
        before, self._old_bodies = self._old_bodies, day_of(wall - keep)
        before = min(before, self._old_bodies)
        ours = {body_key(ref.day, ref.digest) for ref in self._index.bodies.values() if ref.day < before}
        await delete_buckets(self._store, before, ours)

    async def _slowest_wall(self) -> float:
        """The wall-clock time of the node whose clock is most behind; 0 when one does not tell. Raises
        StoreError."""
        beats = await asyncio.gather(*(read_beat(self._store, stream) for stream in self.others))
        return min([self._clock.wall(), *(0.0 if beat is None else beat.at for _, beat in beats)])

    async def snapshot(self) -> None:
        """Write a snapshot as of the last committed entry, and forget all but two. Raises StoreError and
        Fenced."""
        async with self.exclusive:
            number, octets = self._log.committed, self._log.octets
            if number < 0 or number in self._snapshots or self._log.fenced or self.undecided:
                return
            data = await encode_snapshot(self._index, number, self._clock.wall())
            # A message that has ended is not in it, though its entry may be on its way still, and what takes
            # the place of the message, such as a report, is in that entry only.
            await self._log.barrier()
            # Nobody else writes here: what is there already is ours, of an attempt whose answer was lost.
            await self._store.put_new(snapshot_key(self._name, number), data)
            self._snapshots.append(number)
            self._octets, self._size, self._at = octets, len(data), self._clock.boottime()
            old = self._snapshots[:-2]
            await self._store.delete([snapshot_key(self._name, number) for number in old])
            del self._snapshots[:-2]

    async def sweep(self) -> None:
        """Delete entries of our log that nobody needs. Raises StoreError and Fenced."""
        if len(self._snapshots) < 2:
            return
        uses, floor = self._index.uses[0], self._snapshots[0]
        fresh = range(self._swept + 1, floor + 1)
        dead = [number for number in (*self._kept, *fresh) if number not in uses]
        if dead:
            await self._log.barrier()
            await self._store.delete([log_key(self._name, number) for number in sorted(dead)])
        self._kept.update(fresh)
        self._kept.difference_update(dead)
        self._swept = max(self._swept, floor)

    async def use(self, streams: Iterable[bytes]) -> None:
        """Declare that we are about to have messages in these logs; `exclusive` is held. Raises
        StoreError."""
        for stream in streams:
            if stream != self._index.own and stream not in self.uses:
                await self._store.put_new(uses_key(id_text(stream), self._name), self._name.encode())
                self.uses.add(stream)

    async def seal_own(self) -> None:
        """Commit what waits, take a snapshot and end our log: a clean close. Raises StoreError and Fenced."""
        number = await self._log.close()
        await self.snapshot()
        seal = Seal(
            SEAL_VERSION, self._index.own, number, self._index.own, self._clock.wall(), self._index.own[8:]
        )
        result = await self._store.seal_new(log_key(self._name, number), encode_seal(seal))
        if not result.sealed:
            raise Fenced(f"stream {self._name} was written by somebody else")

    def _is_snapshot_due(self) -> bool:
        log, settings = self._log, self._settings
        if log.committed < 0 or self._snapshots[-1:] == [log.committed]:
            return False
        if self._is_tight():
            return True
        grown, age = log.octets - self._octets, self._clock.boottime() - self._at
        if grown >= settings.snapshot_bytes:
            return True
        if age < settings.snapshot_every:
            return False
        return grown * _SHARE >= self._size or age >= settings.snapshot_every * _LONGEST

    def _is_tight(self) -> bool:
        """No more mail is taken for want of room: what can be deleted is looked for all the time."""
        self._log.tight = room_of(self._store) <= 0
        return self._log.tight

    async def _release(self) -> None:
        if not self.uses.difference(self._index.foreign_streams()):
            return
        async with self.exclusive:
            # Looked at again: an adoption may have been at work while we waited.
            unused = self.uses.difference(self._index.foreign_streams())
            await self._log.barrier()
            await self._store.delete([uses_key(id_text(stream), self._name) for stream in unused])
            self.uses -= unused
