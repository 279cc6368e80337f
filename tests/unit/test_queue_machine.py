"""One node, a store that lies in all the ways it may, and a crash between any two of its calls; a ledger
knows what was promised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from mailqueue.fsck import fsck
from mailqueue.inspect import Inspection
from mailqueue.model import Change, Fenced, QueueUnavailable, Status, UnknownMessage
from mailqueue.queue import MailQueue
from mailqueue.store.base import StoreError
from mailqueue.store.memory import MemoryStore
from tests.simulation.loop import Process, Timeline, run
from tests.simulation.queues import message, settings
from tests.simulation.store import Line, RemoteStore

T = TypeVar("T")


class Clock:
    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def wall(self) -> float:
        return 1.8e9 + self._timeline.now

    def boottime(self) -> float:
        return self._timeline.now


class QueueMachine(RuleBasedStateMachine):
    """Accepted messages are live or settled, whatever happens; settled ones stay so."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.chance = Random(seed)
        self.timeline = Timeline()
        self.memory = MemoryStore()
        self.line = Line()
        self.owed: dict[str, set[int]] = {}
        """Accepted: recipients whose end is not recorded."""
        self.ended: dict[str, set[int]] = {}
        """Recipients whose end is durable."""
        self.doubtful: set[str] = set()
        """Refused to a client in a life that ended before it could say so to the store: may come back."""
        self.refused: set[str] = set()
        self.queue: MailQueue | None = None
        self.process: Process | None = None
        self.tasks: list[asyncio.Task[Any]] = []

    def start(self, work: Callable[[MailQueue], Coroutine[Any, Any, None]]) -> None:
        assert self.queue is not None
        assert self.process is not None
        self.tasks.append(self.process.start(work(self.queue)))

    def run_to(self, seconds: float) -> None:
        self.timeline.run_to(self.timeline.now + seconds)

    # --- the node -----------------------------------------------------------------------------------

    @precondition(lambda self: self.process is None)
    @rule()
    def boot(self) -> None:
        self.process = self.timeline.process()
        store = RemoteStore(self.memory, self.timeline, self.process, self.line, self.chance)
        quick = settings(
            commit_timeout=4.0,
            snapshot_every=4.0,
            compact_after=5.0,
            housekeeping=3.0,
            inline_max=300,
            takeover=5.0,
            deliver_for=3.0,
            heartbeat=1.0,
            adopt_rows=3,
            lease=1.0,
        )

        async def open_it() -> None:
            while self.queue is None:
                try:
                    self.queue = await MailQueue.open(
                        store, quick, Clock(self.timeline), random=self.chance.randbytes
                    )
                except StoreError:
                    await asyncio.sleep(0.5)

        self.tasks.append(self.process.start(open_it()))
        self.run_to(0.5)

    @precondition(lambda self: self.process is not None)
    @rule()
    def crash(self) -> None:
        self.end_process()

    @precondition(lambda self: self.process is not None)
    @rule(calls=st.integers(1, 40))
    def crash_at_a_call(self, calls: int) -> None:
        assert self.process is not None
        victim = self.process
        self.line.fuse, self.line.blow = calls, lambda: self.end_process(victim)

    def end_process(self, victim: Process | None = None) -> None:
        if self.process is not None and victim in (None, self.process):
            self.process.kill()
            self.doubtful |= self.refused
            self.process = self.queue = None
            self.tasks = []

    @precondition(lambda self: self.queue is not None)
    @rule()
    def close(self) -> None:
        queue, process = self.queue, self.process
        assert queue is not None
        assert process is not None
        self.queue = None
        closing = process.start(queue.close())
        self.run_to(10)
        assert closing.done() or not process.alive
        self.end_process()

    # --- work ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.queue is not None)
    @rule(count=st.integers(1, 8), recipients=st.integers(1, 3), size=st.sampled_from([0, 100, 400]))
    def enqueue(self, count: int, recipients: int, size: int) -> None:
        async def one(queue: MailQueue) -> None:
            id = queue.new_id()
            try:
                await queue.enqueue(message(b"x" * size, recipients, id=id))
            except (QueueUnavailable, Fenced):
                self.refused.add(id)
            else:
                self.owed[id] = set(range(recipients))

        for _ in range(count):
            self.start(one)

    @precondition(lambda self: self.queue is not None and any(self.owed.values()))
    @rule(data=st.data(), status=st.sampled_from(list(Status)), urgent=st.booleans())
    def settle(self, data: st.DataObject, status: Status, urgent: bool) -> None:
        id = data.draw(st.sampled_from(sorted(id for id, recipients in self.owed.items() if recipients)))
        recipient = data.draw(st.sampled_from(sorted(self.owed[id])))
        final = not status.is_live

        async def work(queue: MailQueue) -> None:
            began = self.timeline.now
            if final:
                # From now on it may be recorded or not, until we hear.
                self.owed[id].discard(recipient)
            try:
                await queue.settle(
                    id, [Change(recipient, status, due=9e9, attempted=1.0)], urgent=urgent or final
                )
            except (UnknownMessage, Fenced):
                return
            if final and self.timeline.now - began < 3.99:
                self.ended.setdefault(id, set()).add(recipient)

        self.start(work)

    @rule(seconds=st.sampled_from([0.003, 0.05, 0.5, 3.0, 15.0]))
    def time_passes(self, seconds: float) -> None:
        self.run_to(seconds)

    @rule(chance=st.sampled_from([0.0, 0.0, 0.2, 0.6]), cut=st.booleans())
    def store_changes_its_mind(self, chance: float, cut: bool) -> None:
        self.line.faults, self.line.cut = chance, cut and chance > 0

    # --- promises --------------------------------------------------------------------------------------

    @invariant()
    def nothing_of_ours_has_failed(self) -> None:
        if hasattr(self, "timeline"):
            for process in self.timeline.processes:
                assert not process.loop.errors, process.loop.errors

    def teardown(self) -> None:
        if not hasattr(self, "timeline"):
            return
        self.line.faults, self.line.cut, self.line.fuse = 0.0, False, -1
        self.run_to(20)
        if self.process is None:
            self.boot()
        self.timeline.run(self.has_all, self.timeline.now + 120)
        self.run_to(15)
        queue = self.queue
        assert queue is not None
        live = {queue.live.id_of(handle): handle for handle in queue.live.handles()}
        for id, recipients in self.owed.items():
            for recipient in recipients:
                assert id in live, f"lost: {id}"
                assert queue.live.recipients(live[id])[recipient].status.is_live, id
        for id, ended in self.ended.items():
            for recipient in ended if id in live else ():
                assert not queue.live.recipients(live[id])[recipient].status.is_live, f"back: {id}"
        assert not (set(live) & self.refused) - self.doubtful, "refused, and kept"
        assert queue.stats().recipients == sum(queue.live.row(handle).live for handle in live.values())
        memory = self.memory
        self.timeline.close()
        report = run(fsck(memory))
        assert report.is_sound, report.findings
        assert len(run(Inspection.open(memory))) == len(live)

    def has_all(self) -> bool:
        queue = self.queue
        if queue is None:
            return False
        live = {queue.live.id_of(handle) for handle in queue.live.handles()}
        return all(id in live for id, recipients in self.owed.items() if recipients)


QueueMachine.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
TestQueueMachine = QueueMachine.TestCase
