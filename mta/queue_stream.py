"""A short life in the queue: a stream of a command's own, which delivers nothing.

It is opened as a worker opens its queue, with the same pieces (`mta.spool`), and closed in order, so that a
running worker, or the next one, adopts what it holds at once. While it lives it adopts what dead streams have
left; `opened_stream` waits for what the stopped server of this node has left.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

from msgspec import structs

from mailqueue.collector import by_stream, is_whole
from mailqueue.heartbeat import read_beat
from mailqueue.keys import RETIRED, STREAMS, last_segment
from mailqueue.model import QueuedMessage, UnknownMessage
from mailqueue.opening import read_announcement
from mailqueue.queue import MailQueue
from mailqueue.schedule import Dispatcher
from mailqueue.store.base import Store
from mta import assembly_queue, config
from mta.daemon_policy import build_ground
from mta.delivery.outcome import Outcome
from mta.dsn.decide import Why
from mta.envelope import Recipient
from mta.policy.ground import Ground
from mta.reply import Reply
from mta.spool.acts import Acts
from mta.spool.attempt import Attempts
from mta.spool.hops import SiteLimits
from mta.spool.record import Record
from mta.spool.reports import Reports, Route
from mta.spool.runner import Runner

LOOK = 0.1
"""Seconds between two looks at what is adopted already."""


class Stream:
    """An open queue and what may be done with it."""

    def __init__(self, store: Store, queue: MailQueue, acts: Acts, route: Route, *, is_whole: bool) -> None:
        """Made by `opened_stream`."""
        self.is_whole = is_whole
        """False where messages of ended processes were not taken over in time, or cannot be."""
        self.store = store
        self.queue = queue
        self.acts = acts
        self.route = route
        """Where a recipient's copy goes, by the configuration."""

    def has(self, name: str) -> bool:
        """True when a message is ours."""
        try:
            self.queue.live.handle_of(name)
        except UnknownMessage:
            return False
        return True


@asynccontextmanager
async def opened_stream(
    settings: config.Config, store: Store, now: Callable[[], float], *, adopt: bool = True
) -> AsyncIterator[Stream]:
    """A stream that ends with the context. With `adopt` the messages of this node's dead processes are ours.

    Raises StoreError, FormatError and QueueError.
    """

    def report(event: str, fields: dict[str, object]) -> None:
        if event != "stream adopted":
            print(f"tamis: {event}: {', '.join(map(str, fields.values()))}", file=sys.stderr)

    service = assembly_queue.service_settings(settings, 1, report, _nobody)
    ground = ground_of(settings)
    route = ground.route
    wanted = await _left_behind(store, settings.queue.node) if adopt else {}
    queue = await MailQueue.open(store, service.queue)
    try:
        reports = Reports(assembly_queue.report_settings(settings), route, _count, now=now)
        runner = Runner(
            queue,
            Dispatcher(SiteLimits(service.hops, 1), connections=1),
            lambda runner: Attempts(
                service.attempts, queue, {}, route, lambda transport: False, reports, _SILENT, ground,
                added=runner.added, now=now,
            ),
            _SILENT,
            retry=service.attempts.retry,
            now=now,
        )  # fmt: skip
        await _wait_for(wanted, store, queue, settings.queue.takeover)
        acts = Acts(queue, runner, runner.attempts, route, now)
        yield Stream(store, queue, acts, route, is_whole=not wanted)
    finally:
        await queue.close()


def _nobody() -> int:
    """Clients that could come along with what is written: it is written at once."""
    return 0


def ground_of(settings: config.Config) -> Ground:
    """The routes of a configuration. Who exists is not asked: it was when the message came in."""
    everybody = config.RecipientSource("all")
    domains = {name: structs.replace(d, recipients=everybody) for name, d in settings.domains.items()}
    return build_ground(structs.replace(settings, domains=domains), {}, _no_users, print)


async def _wait_for(wanted: dict[str, bytes], store: Store, queue: MailQueue, takeover: float) -> None:
    """Wait until these streams are adopted, as far as they are dead; those that are not stay in `wanted`."""
    loop = asyncio.get_running_loop()
    # The queue itself decides who is dead; a stream that does not move for that long will be ours.
    until = loop.time() + takeover * 1.5 + 5.0
    while wanted and loop.time() < until:
        await asyncio.sleep(LOOK)
        retired = by_stream(await store.list_after(RETIRED))
        for stream, beat in list(wanted.items()):
            if is_whole(retired.get(stream, set())):
                is_done = not queue.is_adopting  # what is ours by the store is in memory, too
            else:
                is_done = (await read_beat(store, stream))[0] != beat
            if is_done:
                del wanted[stream]


async def _left_behind(store: Store, node: str) -> dict[str, bytes]:
    """Streams that closed in order, or are this node's, with their last heartbeat."""
    retired = by_stream(await store.list_after(RETIRED))
    found = {}
    for key in await store.list_after(STREAMS):
        stream = last_segment(key)
        if is_whole(retired.get(stream, set())):
            continue
        beat, read = await read_beat(store, stream)
        announced = await read_announcement(store, stream)
        if (read is not None and read.closed) or (announced is not None and announced.node == node):
            found[stream] = beat
    return found


class _Silent:
    """`mta.spool.attempt.Journal` that nobody reads: the command says itself what it has done."""

    def tried(
        self,
        message: QueuedMessage,
        record: Record,
        outcomes: Sequence[Outcome],
        seconds: float,
        transport: str = "",
    ) -> None:
        """Nothing is tried but what an administrator gives up."""

    def expired(self, message: QueuedMessage, record: Record, recipients: Sequence[Recipient]) -> None:
        """Nothing expires."""

    def reported(self, about: str, report: str) -> None:
        """A report is in the queue."""

    def addressed(self, about: str, name: str, recipients: Sequence[Recipient]) -> None:
        """No aliases are looked up."""

    def unaddressed(self, name: str, recipient: Recipient, reply: Reply) -> None:
        """No aliases are looked up."""

    def untold(self, name: str, recipient: Recipient, reply: str) -> None:
        """An administrator gives up a notice, who knows of it."""

    def recalled(self, site: str, messages: int) -> None:
        """Nothing is tried."""

    def unreadable(self, name: str, problem: Exception) -> None:
        """A message cannot be read and is on hold: it counts as not done."""

    def not_tried(self, name: str, problem: Exception) -> None:
        """The command says why it could not be done."""

    def failed(self, name: str, error: Exception) -> None:
        """Faults come out of the command."""


_SILENT = _Silent()


def _count(why: Why) -> None:
    """Nobody reads the counters of a command."""


def _no_users() -> NoReturn:
    raise LookupError("no users file is read here")
