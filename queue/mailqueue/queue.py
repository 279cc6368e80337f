"""`MailQueue`: what a daemon holds of the queue. One instance owns one stream, its log, for a process life.

All of it runs in one event loop. Messages enter `live` when their ENQ is committed; outcomes are seen there
at once and follow into the log. See the package's docstring for the order of writes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mailqueue.batch import Batch, Haste
from mailqueue.bodies import StoredBodies, day_of
from mailqueue.cache import PayloadCache
from mailqueue.clock import Clock, SystemClock
from mailqueue.heartbeat import Heartbeat
from mailqueue.housekeeping import Housekeeping
from mailqueue.ids import IdMaker, id_octets, id_text
from mailqueue.index import Index
from mailqueue.intake import Intake, Prepared
from mailqueue.live import Live
from mailqueue.loading import Loader
from mailqueue.log import Log, refuse_if_full
from mailqueue.model import (
    MAX_PRIORITY,
    MIN_PRIORITY,
    Change,
    CorruptMessage,
    Fenced,
    NewMessage,
    QueuedMessage,
    QueueUnavailable,
    UnknownMessage,
)
from mailqueue.opening import announce, check_format
from mailqueue.recipients import LIVE_MAX
from mailqueue.records import BodyRef, Delta, Done, Outcome, State, encode_record
from mailqueue.settings import QueueSettings
from mailqueue.store.base import UNBOUNDED, Blob, Store, StoreError, room_of
from mailqueue.takeover import LeftBehind, Watcher

SYSTEM_CLOCK = SystemClock()
NOTE_PATIENCE = 2.0
"""Seconds that an entry may be on its way until nothing more is to be delivered (`MailQueue.takes_notes`)."""


@dataclass(slots=True, frozen=True)
class QueueStats:
    """Figures for high-water marks and metrics."""

    messages: int
    """Live messages in this stream."""
    recipients: int
    """Live recipients."""
    size: int
    """Octets of the live messages."""
    pending: int
    """Octets that wait for the store."""
    latency: float
    """Seconds from handing over to commit, smoothed, or the age of the oldest entry under way when that is
    more."""
    entries: int
    """Entries written since the start."""
    room: int = UNBOUNDED
    """Octets that new mail may take in the stores."""


class MailQueue:
    """The queue of one process. Made by `open`."""

    def __init__(
        self,
        store: Store,
        settings: QueueSettings,
        clock: Clock,
        on_adopted: Callable[[Sequence[int]], None],
        random: Callable[[int], bytes],
    ) -> None:
        """Parts that do nothing yet."""
        self._store, self._settings, self._clock = store, settings, clock
        self._loop = asyncio.get_running_loop()
        self._ids = IdMaker(clock, random)
        stream = self._ids.new()
        self.stream = id_text(stream)
        """Name of our stream."""
        self._index = Index(stream)
        self.live = Live(self._index)
        """The messages, by handle."""
        self._bodies = StoredBodies(store)
        self._cache = PayloadCache(settings.cache_max)
        self._loader = Loader(store, self._index, self._cache, settings.spill_dir)
        self._fenced_calls: list[Callable[[], None]] = []
        self._log = Log(store, stream, settings, clock, self._taken_over, random)
        self._intake = Intake(self._log, self._index, self._cache, settings.commit_timeout)
        self._heartbeat = Heartbeat(store, self._index, self._log, settings, clock)
        self._keeper = Housekeeping(
            store, self._index, self._log, settings, clock, self._bodies.forget, random
        )
        self._watcher = Watcher(
            store, self._index, self._log, self._keeper, settings, clock, on_adopted, random
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def open(
        cls,
        store: Store,
        settings: QueueSettings,
        clock: Clock = SYSTEM_CLOCK,
        on_adopted: Callable[[Sequence[int]], None] = lambda handles: None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> MailQueue:
        """Announce a new stream and start its tasks; messages of dead streams arrive by `on_adopted`.

        `random` returns as many random octets as it is asked for. Raises StoreError and FormatError.
        """
        await check_format(store, random)
        queue = cls(store, settings, clock, on_adopted, random)
        await announce(store, queue.stream, settings, clock)
        await queue._heartbeat.start()
        for work in (queue._heartbeat.run, queue._keeper.run, queue._watcher.run):
            task = queue._loop.create_task(work())
            task.add_done_callback(queue._ended)
            queue._tasks.add(task)
        return queue

    def new_id(self) -> str:
        """A queue id for a message to come, to be put into its trace field."""
        return id_text(self._ids.new())

    async def enqueue(self, new: NewMessage) -> str:
        """Keep a message: durable on return, in `live` from then on. Returns its queue id.

        Raises QueueUnavailable (nothing is kept; a message that gets stored nevertheless is cancelled),
        Fenced, and ValueError for a message that no queue can hold (no recipients, an id that is taken).
        """
        self._check_open()
        refuse_if_full(self._log, self._settings)
        size = len(new.header) + (len(new.body) if isinstance(new.body, bytes) else new.body.size)
        if room_of(self._store) < size + self._log.pending:
            raise QueueUnavailable(f"{self._store.name}: there is no room for more mail")
        prepared = await self._prepare(new)
        await self._intake.finish(self._intake.start(prepared))
        return id_text(prepared.id)

    async def settle(
        self,
        message: int | str,
        changes: Sequence[Change],
        *,
        urgent: bool,
        follow: Sequence[NewMessage] = (),
    ) -> list[str]:
        """Record what became of recipients; the message leaves the queue when none of them is live.
        Recipients that are settled already stay as they are: of two who settle one, the first counts. When
        that leaves nothing to record, `follow` is not queued either.

        Seen in `live` at once. `urgent`: written within `note_spacing`, and durable on return, unless the
        store does not take it in `commit_timeout`: then it is written when the store is back. Not urgent
        (deferrals): returns at once, written within `defer_flush`. `follow` are messages (reports) queued in
        the same write, all or nothing: their ids are returned; with them QueueUnavailable is raised, before
        anything changed, when a large body of theirs cannot be stored. Raises UnknownMessage, Fenced, and
        IndexError for a recipient that does not exist.
        """
        self._check_open()
        slot = self.live.resolve(message)
        prepared: list[Prepared] = []
        if follow:
            id = self._index.id_of(slot)
            prepared = [await self._prepare(new) for new in follow]
            slot = self._index.find(id)
            if slot < 0:
                raise UnknownMessage(id_text(id))
            self._check_open()
        durable: asyncio.Future[bool] = self._loop.create_future()

        def committed(batch: Batch | None) -> None:
            _answer(durable, batch is not None)

        urgent = urgent or bool(prepared)
        record = self._change(slot, changes)
        if record is None:
            return []
        with self._log.together(len(record) + sum(len(p.payload) for p in prepared)):
            self._log.append(record, haste=Haste.SOON if urgent else Haste.LATER, on_commit=committed)
            for one in prepared:
                self._intake.add(one)
        if urgent:
            patience = self._loop.call_later(self._settings.commit_timeout, _answer, durable, True)
            try:
                if not await durable:
                    raise Fenced(f"stream {self.stream} was taken over")
            finally:
                patience.cancel()
        return [id_text(one.id) for one in prepared]

    async def written(self) -> None:
        """Return when all that was settled until now is durable. Raises Fenced, and QueueUnavailable when the
        store does not take it in `commit_timeout`: then it is written when the store is back."""
        log = self._log
        try:
            async with asyncio.timeout(max(0.0, self._settings.commit_timeout - log.stalled)):
                await log.barrier()
        except TimeoutError:
            reason = str(log.failing or f"{self._store.name}: no answer")
            raise QueueUnavailable(f"{reason}; it will be done when the store takes it") from None

    async def load(self, message: int | str) -> QueuedMessage:
        """Everything about a message but a large body. Raises UnknownMessage, CorruptMessage,
        QueueUnavailable."""
        id = self._index.id_of(self.live.resolve(message))
        try:
            return await self._loader.load(id)
        except CorruptMessage as error:
            if self.may_deliver():
                raise
            # What others have taken over and dealt with is not damaged.
            raise QueueUnavailable(f"the stream may have been taken over: {error}") from error

    def boottime(self) -> float:
        """Seconds of a clock that is never set and does not stop (`mailqueue.clock`)."""
        return self._clock.boottime()

    def may_deliver(self) -> bool:
        """False when others may take us for dead: asked before each attempt and before the final dot."""
        return not self._closed and not self._log.fenced and self._heartbeat.is_fresh()

    @property
    def takes_notes(self) -> bool:
        """False while the store does not take what became of messages, being away or full: what is delivered
        then is delivered once more after a crash, so no more tries begin."""
        return self._log.stalled < NOTE_PATIENCE

    @property
    def trouble(self) -> str:
        """Why new mail cannot be kept now, as far as is known: what the store said last. "" when it can."""
        log = self._log
        if log.failing is not None and log.stalled >= NOTE_PATIENCE:
            return str(log.failing)
        if self._heartbeat.failing:
            return self._heartbeat.failing
        return f"{self._store.name}: no answer" if log.stalled >= self._settings.commit_timeout / 2 else ""

    @property
    def is_adopting(self) -> bool:
        """True while it is not yet in `live` what is ours already by the stores."""
        return self._keeper.undecided

    async def left_behind(self) -> list[LeftBehind]:
        """What dead streams have left and nobody has taken over yet, by a look at the stores. What is not
        among it is in `live` of somebody, once he is not adopting any more. Raises QueueUnavailable."""
        try:
            return await self._watcher.left_behind()
        except StoreError as error:
            raise QueueUnavailable(str(error)) from error

    @property
    def fenced(self) -> bool:
        """True when the stream has been taken over: everything raises Fenced; close this queue, open
        another."""
        return self._log.fenced

    def on_fenced(self, call: Callable[[], None]) -> None:
        """Have `call` called once when the stream turns out to be taken over."""
        self._fenced_calls.append(call)

    def stats(self) -> QueueStats:
        """Figures now."""
        index, log = self._index, self._log
        return QueueStats(
            index.messages,
            index.live_recipients,
            index.total_size,
            log.pending,
            max(log.latency, log.stalled),
            log.committed + 1,
            room_of(self._store),
        )

    async def close(self) -> None:
        """Write what waits, take a snapshot and seal our stream, so that others may have its messages at
        once.

        With a store that does not answer it gives up after `commit_timeout`: then others wait for the
        heartbeat to stand still, as after a crash. The store stays open. Calling it again does nothing.
        """
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(TimeoutError, StoreError, Fenced):
            async with asyncio.timeout(self._settings.commit_timeout):
                await self._keeper.seal_own()
                await self._heartbeat.beat(closed=True)
        self._intake.close()
        await self._log.abandon()

    # --- inside ------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._log.fenced:
            raise Fenced(f"stream {self.stream} was taken over")
        if self._closed:
            raise QueueUnavailable("the queue is closed")

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Only a bug of ours gets here with an exception: it must be heard, for without this task the queue is
        # half dead (and, as its heartbeat stops, soon in other hands).
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a task of the queue has failed", "exception": error, "task": task}
            self._loop.call_exception_handler(context)

    def _taken_over(self) -> None:
        for call in self._fenced_calls:
            call()

    async def _prepare(self, new: NewMessage) -> Prepared:
        id = id_octets(new.id) if new.id is not None else self._ids.new()
        if not new.recipients or not any(r.status.is_live for r in new.recipients):
            raise ValueError("a message without a recipient to deliver to")
        if not MIN_PRIORITY <= new.priority <= MAX_PRIORITY:
            raise ValueError(f"priority {new.priority} is not within {MIN_PRIORITY} and {MAX_PRIORITY}")
        if self._index.find(id) >= 0:
            raise ValueError(f"{new.id} is in the queue already")
        size = len(new.body) if isinstance(new.body, bytes) else new.body.size
        now = self._clock.wall()
        body = await self._store_body(new.body, now) if size > self._settings.inline_max else None
        return Prepared(new, id, body, now, self._settings.lifetime)

    async def _store_body(self, body: bytes | Blob, now: float) -> BodyRef:
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                return await self._bodies.put(body, day_of(now))
        except TimeoutError:
            raise QueueUnavailable("the store takes too long for the body") from None
        except (StoreError, CorruptMessage) as error:
            raise QueueUnavailable(str(error)) from error

    def _change(self, slot: int, changes: Sequence[Change]) -> bytes | None:
        # Changes the index; returns the record that says so, None when nothing has changed.
        index = self._index
        changed: dict[int, State] = {}
        for change in changes:
            old = changed.get(change.recipient) or index.state(slot, change.recipient)
            if old.status > LIVE_MAX:
                continue
            changed[change.recipient] = State(
                old.site if change.site is None else change.site,
                int(change.status),
                change.due,
                old.attempts + (change.attempted > 0),
                old.reply if change.reply is None else change.reply,
                change.attempted or old.last,
            )
        if not changed:
            return None
        id = index.id_of(slot)
        index.set_states(slot, list(changed.items()))
        if index.live_in(slot):
            return encode_record(Outcome(id, [Delta(*item) for item in changed.items()]))
        index.remove(slot)
        self._cache.drop(id)
        return encode_record(Done(id, self._clock.wall()))


def _answer(future: asyncio.Future[bool], answer: bool) -> None:
    """Let whoever waits go on, unless it does already."""
    if not future.done():
        future.set_result(answer)
