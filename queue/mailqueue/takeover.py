"""Watches other streams and takes over those that are dead.

A stream is dead when its heartbeat has stood still for `takeover` seconds of our own clock, when it says that
it closed cleanly, or when its process is provably gone from this machine. Its messages are shared out in 16
parts of the id space: each taker claims some parts with a lease, which only keeps takers out of each other's
way. Its first claim is an equal share of all parts, and what is left when everybody has had the time to claim
one goes to those who did; meanwhile each has taken its share of other dead streams.

What keeps messages safe is the order of writes. First the log is *sealed*: from then on its owner can commit
nothing, so what is read up to the seal is everything that it ever acknowledged. Then `end/<stream>` is
created with the number of the seal, and who comes first decides for all: an entry that was never acknowledged
may be on one of several stores, so that some takers see it and others do not. Were it an ADOPT record, what
it adopts would get lost between those who count it and those who do not. Then, part by part, the live
messages are written into our own log as ADOPT records, which do not count yet. Then `retired/<stream>/<part>`
is created with our name in it: that one write decides, whoever else has tried. Only then are the messages
ours.

Whoever takes over a taker that died in between finds ADOPT records of which its log does not say what became.
If they are complete it creates `retired/...` in the dead taker's name: that finishes the taker's work or
shows that another was first. If they are not complete the taker cannot have decided anything, for it never
will have committed the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mailqueue.batch import Haste
from mailqueue.clock import Clock
from mailqueue.collector import by_stream, is_whole, stream_names
from mailqueue.entry import FormatError
from mailqueue.heartbeat import read_beat
from mailqueue.housekeeping import Housekeeping
from mailqueue.ids import PARTS, id_text
from mailqueue.index import Index
from mailqueue.keys import (
    RETIRED,
    STREAMS,
    end_key,
    last_segment,
    log_key,
    retired_key,
    retired_prefix,
    snapshot_key,
    snapshot_prefix,
)
from mailqueue.leases import Claim, Leases
from mailqueue.log import FIRST_RETRY, LAST_RETRY, Log
from mailqueue.model import Fenced
from mailqueue.opening import Announcement, read_announcement
from mailqueue.parts import by_part, groups
from mailqueue.reader import StreamReader, read_end, read_retired
from mailqueue.records import Adopt, Adopted, encode_record
from mailqueue.rows import encode_rows, enter_rows
from mailqueue.seal import SEAL_VERSION, Seal, encode_seal
from mailqueue.settings import QueueSettings
from mailqueue.store.base import Store, StoreError, StoreUnavailable

_LIST_EVERY = 5
"""Looks for which a list of the streams is good enough, unless somebody has died: listing costs as much as
writing, and most of the time nothing begins or ends."""
_COMPANY = 5.0
"""Seconds from the start in which other processes of the node are on their way, and count as there."""
_NEWER = 60.0
"""Seconds until a stream that a newer version wrote is looked at again: a newer node will take it."""


class LeftBehind(NamedTuple):
    """A dead stream that is not taken over whole."""

    stream: str
    messages: int
    """How many of its messages are nobody's yet, as far as its last heartbeat tells."""
    failing: bool
    """It could not be taken over, and that is tried again some time later."""


class _Alive(Exception):
    """The stream has shown a sign of life after all."""


class Watcher:
    """Watches the streams of a store for one owner of a stream."""

    def __init__(
        self,
        store: Store,
        index: Index,
        log: Log,
        keeper: Housekeeping,
        settings: QueueSettings,
        clock: Clock,
        on_adopted: Callable[[Sequence[int]], None],
        random: Callable[[int], bytes],
    ) -> None:
        """Adopted messages go into `index` and `log`, and then to `on_adopted`."""
        self._store, self._index, self._log, self._keeper = store, index, log, keeper
        self._settings, self._clock, self._on_adopted, self._random = settings, clock, on_adopted, random
        self._name = id_text(index.own)
        self._every = min(settings.heartbeat, settings.takeover / 4)
        """Seconds between looks."""
        self._hesitation = min(0.5, settings.takeover / 20)
        """Seconds at most between seeing that a stream is dead and claiming parts of it."""
        self._alone = clock.boottime() + _COMPANY
        """From when on processes of this node that are not there are not expected any more."""
        self._open: list[str] = []
        """Other streams that are not adopted whole, as of `_listed`."""
        self._listed = float("-inf")
        self._not_before: dict[str, float] = {}
        """When to try again what could not be taken over, or not whole."""
        self._failed: set[str] = set()
        """What could not be taken over when it was last tried."""
        self._claimed: dict[str, float] = {}
        """When we last claimed parts that we have not adopted."""
        self._late: dict[str, int] = {}
        """Streams of which we have our share, and how many share what is left at `_not_before`."""
        self._seen: dict[str, tuple[bytes, float]] = {}
        """The heartbeat of each stream and when we first knew of it, in boot time."""
        self._leases = Leases(store, self._name, settings.lease, clock, random, self._is_dead)
        self._announced: dict[str, Announcement | None] = {}

    async def run(self) -> None:
        """Watch until our own stream is taken over."""
        while not self._log.fenced:
            try:
                await self.look()
            except StoreError as error:
                self._settings.report("watching other streams", {"error": str(error)})
            except Fenced:
                return
            await asyncio.sleep(self._every * (0.9 + 0.2 * self._chance()))

    async def look(self) -> None:
        """Look at all streams once, and take over what is dead. Raises StoreError, Fenced."""
        if self._clock.boottime() - self._listed >= _LIST_EVERY * self._every:
            await self._list()
        dead = [stream for stream in self._open if await self._is_dead(stream)]
        alive = 1 + len(self._open) - len(dead)
        if self._clock.boottime() < self._alone:
            alive = max(alive, self._settings.processes)
        if dead:
            self._listed = float("-inf")
        self._keeper.nothing_to_adopt = not dead
        for stream in dead:
            if self._clock.boottime() < self._not_before.get(stream, 0.0):
                continue
            try:
                await self._take(stream, alive)
            except _Alive:
                continue
            except (StoreError, FormatError) as error:
                self._failed.add(stream)
                self._late.pop(stream, None)
                # A missing key is the owner, or whoever collects what is left, deleting while we read.
                self._settings.report("takeover", {"stream": stream, "error": str(error)})
                wait = _NEWER if isinstance(error, FormatError) else self._every
                self._not_before[stream] = self._clock.boottime() + wait

    async def left_behind(self) -> list[LeftBehind]:
        """Look now which streams are dead and not taken over whole; nothing is taken. Raises StoreError."""
        found = []
        retired, streams = await self._list_open()
        for stream in streams:
            if not await self._is_dead(stream):
                continue
            _, beat = await read_beat(self._store, stream)
            messages = 0 if beat is None else beat.messages
            if beat is not None and beat.closed and not messages:
                continue
            names = retired.get(stream, set())
            open_parts = sum(f"{part:02d}" not in names for part in range(PARTS))
            found.append(LeftBehind(stream, -(-messages * open_parts // PARTS), stream in self._failed))
        return found

    async def _list_open(self) -> tuple[dict[str, set[str]], list[str]]:
        """The parts that are taken over by stream, and the other streams of which not all are."""
        streams = set(stream_names(await self._store.list_after(STREAMS)))
        retired = by_stream(await self._store.list_after(RETIRED))
        self._keeper.listed(ours=self._name in streams or self._name in retired)
        others = sorted(streams - {self._name})
        return retired, [one for one in others if not is_whole(retired.get(one, set()))]

    async def _list(self) -> None:
        began = self._clock.boottime()
        _, self._open = await self._list_open()
        for known in set(self._seen).difference(self._open):
            del self._seen[known]
            self._announced.pop(known, None)
            self._not_before.pop(known, None)
            self._failed.discard(known)
            self._claimed.pop(known, None)
            self._late.pop(known, None)
        self._leases.keep(self._open)
        self._listed = began
        self._keeper.others = self._open

    # --- who is dead -------------------------------------------------------------------------------

    async def _is_dead(self, stream: str) -> bool:
        began = self._clock.boottime()
        data, beat = await read_beat(self._store, stream)
        known = self._seen.get(stream)
        if known is None or known[0] != data:
            known = self._seen[stream] = data, self._clock.boottime()
        if beat is not None and beat.closed:
            return True
        still = began - known[1]
        return still >= self._settings.takeover or await self._is_gone(stream, still)

    async def _is_gone(self, stream: str, still: float) -> bool:
        if stream not in self._announced:
            self._announced[stream] = await read_announcement(self._store, stream)
        announced = self._announced[stream]
        if announced is None or announced.node != self._settings.node:
            return False
        process, ours = announced.identity, self._settings.identity
        restarted = still >= self._settings.deliver_for and process.is_of_another_boot(ours)
        return restarted or process.is_gone(ours)

    async def _assert_dead(self, stream: str) -> None:
        if not await self._is_dead(stream):
            raise _Alive

    # --- taking over -------------------------------------------------------------------------------

    async def _take(self, stream: str, alive: int) -> None:
        """Take over our share; what nobody has claimed until `_not_before` is shared by those who came."""
        await asyncio.sleep(self._chance() * self._hesitation)
        left = await self._unclaimed(stream)
        sharers = self._late.pop(stream, 0)
        # The first share is the same whoever comes first: those who were here before have had theirs.
        share = -(-len(left) // sharers) if sharers else -(-PARTS // alive)
        claims = await self._leases.claim(left, share)
        if not claims:
            if self._clock.boottime() - self._claimed.get(stream, float("-inf")) >= self._settings.lease:
                self._failed.discard(stream)  # others have claimed what is left, and it is theirs to take
            return
        self._claimed[stream] = self._clock.boottime()
        try:
            reader = await self._agree(await self._sealed(stream))
        except FormatError:
            await self._leases.give_back(claims)  # to a newer node, which need not wait for us
            raise
        await self._decide(reader)
        for problem in (*reader.problems, *reader.replay.problems):
            self._settings.report("corrupt", {"stream": stream, "problem": problem})
        slots, parts = await by_part(reader.replay.index), [claim.part for claim in claims]
        if not any(slots):
            parts = await self._open_parts(stream)
        total = 0
        for group in groups(parts, slots):
            total += await self._adopt(reader, group, slots)
        self._failed.discard(stream)
        self._claimed.pop(stream, None)
        self._settings.report("stream adopted", {"stream": stream, "messages": total})
        if await self._unclaimed(stream):
            # The others look no less often than we do: they may have seen the last heartbeat a look after us,
            # and that it has stood still for too long another look later. Leave them their share. Who has not
            # come until then may have more to do, or be dead as well.
            self._late[stream] = -(-(sharers or alive) // 2)
            self._not_before[stream] = self._clock.boottime() + 2.5 * self._every + self._hesitation

    async def _open_parts(self, stream: str) -> list[int]:
        names = {last_segment(key) for key in await self._store.list_after(retired_prefix(stream))}
        first = self._index.own[15] & 15
        # Each taker begins somewhere else.
        return [part for part in ((first + n) % PARTS for n in range(PARTS)) if f"{part:02d}" not in names]

    async def _unclaimed(self, stream: str) -> list[Claim]:
        """The parts that nobody has adopted or is about to."""
        return await self._leases.unclaimed(stream, await self._open_parts(stream))

    async def _sealed(self, stream: str) -> StreamReader:
        """The log up to a seal behind everything that its owner has committed."""
        while True:
            reader = StreamReader(self._store, stream, keep_corrupt=True)
            await reader.load()
            await self._seal(reader)
            # If the owner went on while we read, or slept, what stood at our number may be deleted, and
            # the seal is in a hole. There is a new snapshot behind it then: nothing is deleted before the
            # snapshot that makes it needless is there.
            known = max(reader.newest, reader.next - 1)
            after = snapshot_key(stream, known) if known >= 0 else ""
            if not await self._store.list_after(snapshot_prefix(stream), after, 1):
                return reader

    async def _seal(self, reader: StreamReader) -> None:
        while True:
            # Also when a seal was read: with several stores it may be on too few of them yet.
            number = reader.next
            seal = Seal(
                SEAL_VERSION,
                reader.stream,
                number,
                self._index.own,
                self._clock.wall(),
                self._random(8),
            )
            await self._assert_dead(reader.name)
            result = await self._store.seal_new(log_key(reader.name, number), encode_seal(seal))
            if result.sealed:
                reader.sealed = True
                return
            reader.sealed = False
            await reader.follow()
            if reader.next == number:
                await asyncio.sleep(FIRST_RETRY)

    async def _agree(self, reader: StreamReader) -> StreamReader:
        """The log up to where it ends for all takers. Raises StoreUnavailable while it is out of reach."""
        if await self._store.put_new(end_key(reader.name), str(reader.next).encode()):
            return reader
        end = await read_end(self._store, reader.name)
        if end is not None and end < reader.next:
            reader = StreamReader(self._store, reader.name, keep_corrupt=True, end=end)
            await reader.load()
        if reader.next != end:
            raise StoreUnavailable(
                self._store.name, f"reading {log_key(reader.name, reader.next)}: it counts, and is not there"
            )
        return reader

    async def _decide(self, reader: StreamReader) -> None:
        """Finish what the owner of this stream had begun to adopt itself."""
        replay = reader.replay
        for (of, part), provisional in list(replay.provisional.items()):
            key = retired_key(id_text(of), part)
            if provisional.complete:
                won = await self._store.put_new(key, reader.name.encode())
            else:
                # Not the end of its log, but damage to it, if it has won all the same.
                won = await read_retired(self._store, key) == reader.name
            replay.resolve(of, part, won)

    async def _adopt(self, reader: StreamReader, parts: list[int], slots: list[list[int]]) -> int:
        source, log, step = reader.replay.index, self._log, self._settings.adopt_rows
        handles: list[int] = []
        async with self._keeper.exclusive:
            mine = [slot for part in parts for slot in slots[part]]
            await self._keeper.use({source.streams[source.stream[slot]] for slot in mine})
            blocks: list[tuple[int, bytes]] = []
            self._keeper.undecided = True
            for part in parts:
                for chunk, first in enumerate(range(0, len(slots[part]), step)):
                    rows = encode_rows(source, slots[part][first : first + step])
                    last = first + step >= len(slots[part])
                    log.append(encode_record(Adopt(reader.stream, part, chunk, last, rows)), haste=Haste.NOW)
                    blocks.append((part, rows))
                    await asyncio.sleep(0)
            await log.barrier()
            retired = await asyncio.gather(*(self._retire(reader.name, part) for part in parts))
            won = {part for part, ours in zip(parts, retired, strict=True) if ours}
            for part in {part for part, _ in blocks}:
                log.append(encode_record(Adopted(reader.stream, part, part in won)), haste=Haste.LATER)
            for part, rows in blocks:
                if part in won:
                    handles.extend(enter_rows(self._index, rows))
                    await asyncio.sleep(0)
            self._keeper.undecided = False
        if handles:
            self._on_adopted(handles)
        return len(handles)

    async def _retire(self, stream: str, part: int) -> bool:
        wait = FIRST_RETRY
        while True:
            try:
                return await self._store.put_new(retired_key(stream, part), self._name.encode())
            except StoreError as error:
                self._settings.report("takeover", {"stream": stream, "error": str(error)})
            await asyncio.sleep(wait)
            wait = min(wait * 2, LAST_RETRY)

    def _chance(self) -> float:
        return int.from_bytes(self._random(4), "big") / 4294967296.0
