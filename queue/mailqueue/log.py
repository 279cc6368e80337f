"""The log of one stream, its single writer: group commit into dense numbers.

Records are appended without waiting; a batch of them becomes one entry. Up to `in_flight` entries are on
their way to the store at a time, and entry n is *committed* only when 0 to n are all there: whoever waits for
a record hears of it then and not before. When a put has no clear answer, the same octets are put again under
the same number until there is one. When the number holds something else - a seal, in all likelihood - this
stream has been taken over: the writer is fenced for good, and what waited fails.

When a batch is written:
- with nothing on its way, at once, but not sooner than `spacing` after the last began: a lone message does
  not wait, and under load the requests are bounded;
- with entries on their way, when one of them is answered, when `batch_messages` or `batch_bytes` have come
  together, or after twice the time that the store takes: batches form by themselves;
- when all clients that there are wait already (`clients`), at once: nobody else can come along;
- when nobody waits for what is in it (`Haste.SOON`), not sooner than `note_spacing` after the last began,
  however many records there are;
- with nothing in it that has haste (deferrals), `defer_flush` after its first record;
- with hardly any room left (`tight`), not sooner than `_TIGHT` after the last, with as many records as have
  come by then: each entry takes a block of the disk, however little is in it.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mailqueue.batch import Batch, Haste
from mailqueue.clock import Clock
from mailqueue.entry import build, frame_record
from mailqueue.ids import id_text
from mailqueue.keys import log_key
from mailqueue.model import Fenced, QueueUnavailable
from mailqueue.settings import QueueSettings
from mailqueue.store.base import Store, StoreError

FIRST_RETRY, LAST_RETRY = 0.1, 2.0
"""Seconds between attempts to put an entry that had no clear answer; doubled each time."""
_SMOOTHING = 0.2
_TIGHT = 0.5
"""Seconds between entries while the store has hardly any room."""
_LONGEST_PATIENCE = 0.1
"""Seconds that a batch waits at most for an entry under way, however slow the store is."""


# Looked up for each record; a global is cheaper than an attribute of an Enum.
_LATER, _NOW = Haste.LATER, Haste.NOW


class Log:
    """Writes the log of a stream."""

    def __init__(
        self,
        store: Store,
        stream: bytes,
        settings: QueueSettings,
        clock: Clock,
        on_fenced: Callable[[], None],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """A new stream: the first entry is number 0. `on_fenced` is called once, when the log is not ours any
        more."""
        self._store, self._settings, self._clock = store, settings, clock
        self._stream, self._name = stream, id_text(stream)
        self._on_fenced, self._random = on_fenced, random
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Batch] = deque()
        """Batches not handed to the store yet; the last one still grows."""
        self._flying: deque[Batch] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._together: Batch | None = None
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._timer_at = 0.0
        self._next = 0
        self._last_start = float("-inf")
        self._last_contact = clock.boottime()
        self.committed = -1
        """Number of the last committed entry."""
        self.octets = 0
        """Octets of all committed entries."""
        self.pending = 0
        """Octets not committed yet."""
        self.mark = 0
        """`grown` is set when `octets` reach this."""
        self.grown = asyncio.Event()
        self.latency = 0.0
        """Seconds from handing over to the answer, smoothed."""
        self.failing: StoreError | None = None
        """What the store said last, when that was an error."""
        self.fenced = False
        self.tight = False
        """Set by whoever knows how much room there is: entries are fewer then."""

    @property
    def stalled(self) -> float:
        """Seconds that the oldest entry has been on its way."""
        return self._loop.time() - self._flying[0].began if self._flying else 0.0

    @contextmanager
    def together(self, size: int) -> Iterator[None]:
        """What is appended within, about `size` octets and without waiting, is committed as one. Raises
        Fenced."""
        self._together = self._growing(size)
        try:
            yield
        finally:
            self._together = None

    def append(
        self,
        record: bytes,
        *,
        haste: Haste,
        on_commit: Callable[[Batch | None], None] | None = None,
        payload: bytes = b"",
    ) -> Batch:
        """Add a record; `on_commit` is called with its batch. A payload goes to where `room` has just said.
        Raises Fenced."""
        batch = self._growing(len(payload) or len(record))
        framed = frame_record(record)
        batch.framed.append(framed)
        batch.framed_size += len(framed)
        if payload:
            batch.payloads.append(payload)
            batch.payload_size += len(payload)
        self.pending += len(framed) + len(payload)
        if on_commit is not None:
            batch.on_commit.append(on_commit)
        if haste is _NOW:
            batch.waiters += 1
        if haste > batch.haste:
            batch.haste = haste
        self._kick()
        return batch

    def room(self, size: int) -> int:
        """Where a payload of this size would begin in the entry that is growing, behind its records. `append`
        must follow at once. Raises Fenced."""
        return self._growing(size).payload_size

    def withdraw(self, batch: Batch, on_commit: Callable[[Batch | None], None]) -> bool:
        """Nobody waits for this record any more. True when that was in time: its batch is not on its way and
        holds nothing else, so that nothing will be stored."""
        if len(batch.framed) == 1 and batch.on_commit == [on_commit] and batch in self._waiting:
            self._waiting.remove(batch)
            self.pending -= batch.size
            return True
        return False

    async def barrier(self) -> None:
        """Return when all that was appended is committed. Raises Fenced."""
        last = self._waiting[-1] if self._waiting else self._flying[-1] if self._flying else None
        if self.fenced:
            raise Fenced(f"stream {self._name} was taken over")
        if last is None:
            return
        done: asyncio.Future[bool] = self._loop.create_future()

        def committed(batch: Batch | None) -> None:
            if not done.done():
                done.set_result(batch is not None)

        last.on_commit.append(committed)
        last.haste = _NOW
        self._kick()
        if not await done:
            raise Fenced(f"stream {self._name} was taken over")

    async def touch(self) -> None:
        """Commit an entry, an empty one if need be: proves that the stream is still ours. Raises Fenced."""
        if not self._waiting and not self.fenced:
            self._waiting.append(Batch(self._loop.time()))
        await self.barrier()

    def measure(self) -> None:
        """Write an empty entry when the last ones took long and nothing is on its way. While the store is
        taken for slow it gets no mail, and without an entry nobody would see that it is not any more."""
        if self.latency > self._settings.slow and not (self._flying or self._waiting or self.fenced):
            batch = Batch(self._loop.time())
            batch.haste = _NOW
            self._waiting.append(batch)
            self._kick()

    def heard(self) -> bool:
        """The store has answered, or is about to be asked. False, and fenced, when that did not happen for so
        long that a taker's seal may have been forgotten already."""
        now = self._clock.boottime()
        if now - self._last_contact > self._settings.retired_keep / 2:
            self.fence()
            return False
        if self.failing is None:
            self._last_contact = now
        return True

    def fence(self) -> None:
        """The stream is not ours any more."""
        if self.fenced:
            return
        self.fenced = True
        self._cancel_timer()
        for task in self._tasks:
            task.cancel()
        lost = [*self._flying, *self._waiting]
        self._flying.clear()
        self._waiting.clear()
        self.pending = 0
        for batch in lost:
            for call in batch.on_commit:
                call(None)
        self._on_fenced()

    async def close(self) -> int:
        """Write what waits; returns the number behind the last entry, where the seal goes. Raises Fenced."""
        await self.barrier()
        self._cancel_timer()
        return self._next

    async def abandon(self) -> None:
        """Stop writing whatever is on its way; its effect is unknown."""
        self._cancel_timer()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- batches -----------------------------------------------------------------------------------

    def _growing(self, size: int) -> Batch:
        if self.fenced:
            raise Fenced(f"stream {self._name} was taken over")
        if self._together is not None:
            return self._together
        if self._waiting:
            batch = self._waiting[-1]
            if batch.size + size <= self._settings.entry_max or not batch.framed:
                return batch
        batch = Batch(self._loop.time())
        self._waiting.append(batch)
        return batch

    def _kick(self) -> None:
        """Hand over the first batch that waits, or see to it that this happens in time."""
        if not self._waiting or len(self._flying) >= self._settings.in_flight or self.fenced:
            return
        at, now = self._due(self._waiting[0]), self._loop.time()
        if at > now:
            self._wake_at(at)
        elif self._timer is None or self._timer_at > now:
            # In the next turn of the loop: what is appended in this one comes along.
            self._wake_at(now)

    def _due(self, batch: Batch) -> float:
        settings, haste = self._settings, batch.haste
        if self.tight and len(self._waiting) == 1 and haste:
            return self._last_start + _TIGHT
        if len(self._waiting) > 1 or batch.size >= settings.batch_bytes:
            return 0.0
        if haste is _LATER:
            return batch.first + settings.defer_flush
        spacing = settings.spacing
        if haste is _NOW:
            if len(batch.framed) >= settings.batch_messages or self._all_wait(batch):
                return 0.0
        elif spacing < settings.note_spacing:
            spacing = settings.note_spacing
        if not self._flying:
            return self._last_start + spacing
        return self._last_start + max(spacing, min(2 * self.latency, _LONGEST_PATIENCE))

    def _all_wait(self, batch: Batch) -> bool:
        clients = self._settings.clients
        return clients is not None and batch.waiters + sum(b.waiters for b in self._flying) >= clients()

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        if at <= self._loop.time():
            self._timer = self._loop.call_soon(self._wake)
        else:
            self._timer = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._timer = None
        while self._waiting and len(self._flying) < self._settings.in_flight and not self.fenced:
            if self._due(self._waiting[0]) > self._loop.time():
                break
            self._launch(self._waiting.popleft())
        self._kick()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- the store ---------------------------------------------------------------------------------

    def _launch(self, batch: Batch) -> None:
        batch.number = self._next
        self._next += 1
        batch.began = self._last_start = self._loop.time()
        batch.octets = build(self._stream, batch.number, self._random(8), batch.framed, batch.payloads)
        self._flying.append(batch)
        task = self._loop.create_task(self._put(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _put(self, batch: Batch) -> None:
        key, wait = log_key(self._name, batch.number), FIRST_RETRY
        while True:
            if not self.heard():
                return
            try:
                ours = await self._store.put_new(key, batch.octets)
                break
            except StoreError as error:
                self.failing = error
            await asyncio.sleep(wait)
            wait = min(wait * 2, LAST_RETRY)
        self.failing = None
        if not ours:
            self.fence()
            return
        took = self._loop.time() - batch.began
        self.latency += (took - self.latency) * _SMOOTHING
        batch.there = True
        batch.octets = b""
        while self._flying and self._flying[0].there:
            self._commit(self._flying.popleft())
        self._kick()

    def _commit(self, batch: Batch) -> None:
        self.committed = batch.number
        self.octets += batch.base + batch.payload_size
        if self.octets >= self.mark:
            self.grown.set()
        self.pending -= batch.size
        for call in batch.on_commit:
            call(batch)
        # Whoever waited knows the batch still: it must not keep them, nor its messages.
        for done in (batch.on_commit, batch.framed, batch.payloads):
            done.clear()


def refuse_if_full(log: Log, settings: QueueSettings) -> None:
    """Raise QueueUnavailable when what is appended now could not be committed in time."""
    if log.pending > settings.pending_max:
        raise QueueUnavailable("too much waits for the store already")
    if log.stalled > settings.commit_timeout / 2:
        raise QueueUnavailable(f"the store does not answer: {log.failing or 'no error so far'}")
