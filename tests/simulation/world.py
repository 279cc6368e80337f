"""A cluster in virtual time: machines that take messages in and deliver them, and everything that goes wrong.

The ledger knows what was promised: a message whose `enqueue` returned must reach each of its recipients at
least once, and a recipient whose final state was durable must never be tried again. Deliveries beyond the
first are counted by what the documentation calls their windows; any other is an error.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from mailqueue.clock import Clock
from mailqueue.model import (
    Change,
    CorruptMessage,
    Fenced,
    NewMessage,
    QueuedRecipient,
    QueueUnavailable,
    Status,
    UnknownMessage,
)
from mailqueue.process import ProcessIdentity
from mailqueue.queue import MailQueue
from mailqueue.settings import QueueSettings
from mailqueue.store.base import Store, StoreError
from mailqueue.store.memory import MemoryStore
from mailqueue.store.replicated import Member, Replicated
from tests.simulation.loop import Process, Timeline
from tests.simulation.store import Line, RemoteStore


class Identity(ProcessIdentity):
    """A process of which the simulation knows whether it is gone."""

    __slots__ = ()
    running: set[int] = set()  # noqa: RUF012 - replaced by each world

    def is_gone(self, observer: ProcessIdentity) -> bool:
        return self.machine == observer.machine and self.pid not in Identity.running


@dataclass
class Delivery:
    """A recipient got the message."""

    at: float
    node: str
    durable: float | None = None
    """When its final state was known to be durable."""


@dataclass
class Ledger:
    """What was promised and what happened."""

    accepted: dict[str, int] = field(default_factory=dict)
    """Id -> number of recipients, of messages whose client heard 250."""
    refused: set[str] = field(default_factory=set)
    deliveries: dict[tuple[str, int], list[Delivery]] = field(default_factory=dict)
    windows: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def deliver(self, id: str, recipient: int, at: float, node: str) -> Delivery:
        before = self.deliveries.setdefault((id, recipient), [])
        if before:
            last = before[-1]
            if any(one.durable is not None and one.durable < at for one in before):
                self.errors.append(f"{id}/{recipient}: tried at {at:.2f} on {node} after {before}")
            self.windows["done, not yet durable" if last.durable is None else "at the same time"] += 1
        delivery = Delivery(at, node)
        before.append(delivery)
        return delivery

    def missing(self) -> list[str]:
        return [
            id
            for id, recipients in self.accepted.items()
            if any((id, number) not in self.deliveries for number in range(recipients))
        ]


class MachineClock:
    """Clocks of a machine. The wall clock jumps; boot time goes on while the process is stopped."""

    def __init__(self, timeline: Timeline, offset: float) -> None:
        self._timeline, self.offset = timeline, offset

    def wall(self) -> float:
        return 1_800_000_000.0 + self._timeline.now + self.offset

    def boottime(self) -> float:
        return self._timeline.now


class Machine:
    """A machine that runs one worker process at a time."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.clock = MachineClock(world.timeline, world.chance.uniform(-50, 50))
        self.lines = [Line() for _ in world.memories]
        self.process: Process | None = None
        self.queue: MailQueue | None = None
        self.draining = False

    def boot(self) -> None:
        """Start a worker."""
        world = self.world
        world.pids += 1
        process = self.process = world.timeline.process()
        identity = Identity(self.name, "boot", "ns", world.pids, 1)
        Identity.running.add(world.pids)
        self.pid = world.pids
        self.draining, self.drained = False, asyncio.Event()
        stores = [
            RemoteStore(memory, world.timeline, process, line, world.chance)
            for memory, line in zip(world.memories, self.lines, strict=True)
        ]
        store: Store = stores[0]
        if len(stores) > 1:
            store = Replicated([Member(one) for one in stores], world.copies, 0)
        settings = world.settings(self.name, identity)
        process.start(self._life(store, settings, self.clock))

    def kill(self) -> None:
        """kill -9, or the machine burns: no difference to the others."""
        if self.process is not None:
            self.process.kill()
            Identity.running.discard(self.pid)
            self.process = self.queue = None

    def drain(self) -> None:
        """Have the worker hand over and end."""
        if self.process is not None:
            self.draining = True
            self.process.loop.call_soon(self.drained.set)

    def pause(self) -> None:
        """As by SIGSTOP, and SIGCONT the next time."""
        if self.process is not None:
            self.process.stopped = not self.process.stopped

    async def _life(self, store: Store, settings: QueueSettings, clock: Clock) -> None:
        while not self.draining:
            due: set[int] = set()
            try:
                queue = await MailQueue.open(store, settings, clock, due.update, self.world.random_bytes)
            except StoreError:
                await asyncio.sleep(1.0)
                continue
            self.queue = queue
            fenced = asyncio.Event()
            queue.on_fenced(fenced.set)
            clients = [asyncio.create_task(self._client(queue, due)) for _ in range(self.world.clients)]
            runner = asyncio.create_task(self._runner(queue, due))
            drain = asyncio.create_task(self.drained.wait())
            waits = asyncio.create_task(fenced.wait())
            await asyncio.wait((waits, drain), return_when=asyncio.FIRST_COMPLETED)
            tasks = (*clients, runner, waits, drain)
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, Fenced):
                    self.world.ledger.errors.append(repr(outcome))
            await queue.close()
            self.queue = None
        Identity.running.discard(self.pid)

    async def _client(self, queue: MailQueue, due: set[int]) -> None:
        world, chance = self.world, self.world.chance
        while not world.quiet:
            await asyncio.sleep(chance.expovariate(world.rate))
            id = queue.new_id()
            several = chance.random() < 0.2
            count = chance.randint(2, 4) if several else 1
            recipients = [QueuedRecipient(f"r{n}@{id}.test", f"site{n}") for n in range(count)]
            body = world.random_bytes(chance.choice((20, 200, 3000)))
            new = NewMessage(f"s@{id}.test", recipients, b"Subject: x\r\n\r\n", body, id=id)
            try:
                await queue.enqueue(new)
            except (QueueUnavailable, Fenced):
                world.ledger.refused.add(id)
            else:
                world.ledger.accepted[id] = count
                world.bodies[id] = body
                due.add(queue.live.handle_of(id))

    async def _runner(self, queue: MailQueue, due: set[int]) -> None:
        while True:
            await asyncio.sleep(0.2)
            for handle in sorted(due):
                due.discard(handle)
                if handle in queue.live:
                    try:
                        await self._work(queue, handle, due)
                    except (QueueUnavailable, UnknownMessage):
                        due.add(handle)

    async def _work(self, queue: MailQueue, handle: int, due: set[int]) -> None:
        world, chance, ledger = self.world, self.world.chance, self.world.ledger
        try:
            message = await queue.load(handle)
            body = await message.body.fetch()
        except UnknownMessage:
            return
        except QueueUnavailable:
            due.add(handle)
            return
        except CorruptMessage as error:
            ledger.errors.append(str(error))
            return
        if b"".join(body.chunks()) != world.bodies.get(message.id, b"".join(body.chunks())):
            ledger.errors.append(f"{message.id}: another body")
        await asyncio.sleep(chance.uniform(0.0, 0.1))
        if handle not in queue.live or queue.live.id_of(handle) != message.id or not queue.may_deliver():
            due.add(handle)
            return
        changes, delivered = [], []
        for number, state in enumerate(queue.live.recipients(handle)):
            if not state.status.is_live:
                continue
            if not world.quiet and chance.random() < 0.6:
                changes.append(
                    Change(number, Status.DEFERRED, self.clock.wall(), "451 later", self.clock.wall())
                )
            else:
                delivered.append(ledger.deliver(message.id, number, world.timeline.now, self.name))
                changes.append(Change(number, Status.DELIVERED, 0, "250 ok", self.clock.wall()))
        began = world.timeline.now
        await queue.settle(handle, changes, urgent=bool(delivered))
        if world.timeline.now - began < world.commit_timeout - 0.01:
            for delivery in delivered:
                delivery.durable = world.timeline.now
        if len(changes) > len(delivered):
            due.add(handle)


class World:
    """One run."""

    def __init__(
        self,
        seed: int,
        machines: int = 3,
        *,
        clients: int = 1,
        rate: float = 0.5,
        stores: int = 1,
        copies: int = 0,
    ) -> None:
        """`copies` of several stores must have what is accepted; the first is the authority."""
        Identity.running = set()
        self.chance = Random(seed)
        self.timeline = Timeline()
        self.memories = [MemoryStore(f"memory:{number}") for number in range(stores)]
        self.copies = copies
        self.ledger = Ledger()
        self.bodies: dict[str, bytes] = {}
        self.quiet = False
        self.clients, self.rate = clients, rate
        self.pids = 100
        self.commit_timeout = 5.0
        self.reports: list[tuple[float, str, dict[str, object]]] = []
        self.lease = self.chance.choice((0.5, 15.0))
        self.machines = [Machine(self, f"m{number}") for number in range(machines)]

    def random_bytes(self, count: int) -> bytes:
        return self.chance.randbytes(count)

    def settings(self, node: str, identity: ProcessIdentity) -> QueueSettings:
        """Times as in production, but all that happens seldom happens within the run."""
        return QueueSettings(
            node=node,
            identity=identity,
            report=lambda event, fields: self.reports.append((self.timeline.now, event, fields)),
            commit_timeout=self.commit_timeout,
            inline_max=2000,
            cache_max=20_000,
            defer_flush=2.0,
            lease=self.lease,
            processes=2,
            adopt_rows=2,
            snapshot_every=6.0,
            snapshot_bytes=4000,
            compact_after=8.0,
            compact_bytes=6000,
            housekeeping=4.0,
        )

    def play(self, seconds: float) -> None:
        """Everything goes wrong for a while, then all is repaired and the queue must run dry."""
        chance, timeline = self.chance, self.timeline
        latency = chance.choice((0.01, 0.01, 0.1, 0.6))
        for machine in self.machines:
            for line in machine.lines:
                line.latency = latency
            machine.boot()
        end = timeline.now + seconds
        while timeline.now < end:
            timeline.run_to(timeline.now + chance.expovariate(0.25))
            self.strike(chance.choice(self.machines))
        self.quiet = True
        for machine in self.machines:
            for line in machine.lines:
                line.cut, line.faults, line.fuse = False, 0.0, -1
            if machine.process is None:
                machine.boot()
            else:
                machine.process.stopped = False
        timeline.run(self.is_dry, timeline.now + 300.0)

    def strike(self, machine: Machine) -> None:
        """One thing goes wrong, or is repaired."""
        chance = self.chance
        line = chance.choice(machine.lines)
        match chance.randrange(10):
            case 0:
                machine.kill()
            case 8:
                # Right at a request to come, in the middle of whatever is done then.
                line.fuse = chance.randint(1, 60)
                line.blow = chance.choice((machine.kill, machine.pause, machine.drain))
            case 1 | 2:
                if machine.process is None or not machine.process.alive:
                    machine.boot()
            case 3:
                machine.pause()
            case 4:
                line.cut = not line.cut
            case 9:
                # A whole store is down, or back, for everybody.
                number = chance.randrange(len(self.memories))
                down = not any(other.lines[number].cut for other in self.machines)
                for other in self.machines:
                    other.lines[number].cut = down
            case 5:
                line.faults = chance.choice((0.0, 0.05, 0.3))
            case 6:
                machine.clock.offset += chance.choice((-86400.0, -60.0, 60.0, 86400.0))
            case _:
                if machine.queue is not None and chance.random() < 0.5:
                    machine.drain()
                for other in self.machines:
                    if other.draining and other.queue is None and other.process is not None:
                        other.kill()
                        other.boot()

    def is_dry(self) -> bool:
        """Nothing is live anywhere, and all that was promised was done."""
        if any(m.process is not None and m.queue is None and not m.draining for m in self.machines):
            return False
        for machine in self.machines:
            if machine.process is not None and machine.process.stopped:
                machine.process.stopped = False  # a strike on a request hit after the others had ended
                return False
            if machine.draining and machine.queue is None:
                machine.kill()
                machine.boot()
                return False
            if machine.queue is not None and len(machine.queue.live):
                return False
        return not self.ledger.missing() or self.timeline.now > 100_000

    def check(self) -> Sequence[str]:
        """What is wrong after the run."""
        problems = [f"lost: {id}" for id in self.ledger.missing()]
        problems += self.ledger.errors
        for process in self.timeline.processes:
            problems += [str(context) for context in process.loop.errors]
        return problems
