"""The queue of a server that does not run: read from its stores, changed with a stream of our own.

Reading takes no part (`mailqueue.inspect`): nothing is written, other nodes are not disturbed. What changes
something opens the queue as a worker does, but tries nothing: it adopts what the stopped server has left,
does what is asked, and hands everything over to whoever comes next by closing in order. Messages of a node
that is alive are that node's: they are named, not touched.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from mailqueue.entry import FormatError
from mailqueue.inspect import Inspection
from mailqueue.live import Live
from mailqueue.model import CorruptMessage, QueueError, Row, UnknownMessage
from mailqueue.opening import read_announcement
from mailqueue.queue import MailQueue
from mailqueue.store.base import Store
from mta import config, log
from mta.address import AddressError, parse_address
from mta.folders import in_words
from mta.mailq.filters import parse_filter
from mta.mailq.rows import QueueRow
from mta.queue_stores import become_server_user, opened_stores, require_queue
from mta.queue_stream import Stream, opened_stream
from mta.spool.acts import log_orders
from mta.spool.facts import message_facts, message_row, unreadable_row
from mta.spool.remote import TAKEOVER, QueueProblem

BATCH = 100
"""Messages that are read from a store, or changed there, at the same time."""

T = TypeVar("T")


class OfflineQueue:
    """`mta.cli_queue_common.Access` of a server that does not run. Its methods raise QueueProblem."""

    def __init__(self, settings: config.Config, now: Callable[[], float]) -> None:
        """Nothing is opened yet. `now` is seconds of the epoch. Raises QueueProblem."""
        self._settings = settings
        self._now = now
        self.missing: dict[str, str] = {}
        self._open: tuple[asyncio.Runner, _Look] | None = None
        become_server_user(settings)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Look once for all that is read in the context."""
        with asyncio.Runner() as runner:
            look = self._look()
            self._open = runner, runner.run(_entered(look))
            try:
                yield
            finally:
                self._open = None
                runner.run(_left(look))

    def rows(self, words: Sequence[str]) -> Iterator[QueueRow]:
        """The messages that a filter means, of all nodes that share the stores."""
        wanted = parse_filter(list(words))
        now = self._now()
        with asyncio.Runner() as runner:
            pages = self._pages()
            try:
                while (page := runner.run(_next(pages))) is not None:
                    yield from (row for row in page if wanted.matches(row, now))
            finally:
                runner.run(pages.aclose())

    def show(self, name: str) -> dict[str, Any]:
        """Everything about a message."""

        async def show(look: _Look) -> dict[str, Any]:
            message = await look.inspection.load(name)
            return message_facts(message, active=False, node=await look.node_of(name))

        return self._read(show)

    def octets(self, name: str) -> Iterator[bytes]:
        """Header and body of a message."""

        async def read(look: _Look) -> list[bytes]:
            message = await look.inspection.load(name)
            # All at once: the stores are closed when this returns, and a large body is a file by then.
            body = await message.body.fetch()
            return [message.header, *body.chunks()]

        yield from self._read(read)

    def act(self, action: str, ids: Sequence[str], words: Sequence[str], to: str = "") -> Iterator[str]:
        """Do something to messages by ids, or to all that a filter means; the ids of those it was done to."""
        if action == "redirect":
            try:
                parse_address(to)
            except AddressError as error:
                raise QueueProblem(f"{to!r} is no address: {error}") from error
        wanted = parse_filter(list(words))
        logged = self._log_as_the_server()

        async def act(stream: Stream) -> list[str]:
            await self._require_ours(stream, ids)
            names = [name for name in ids if stream.has(name)]
            if not ids:
                names = [
                    row.id async for row in self._own_rows(stream.queue) if wanted.matches(row, self._now())
                ]
            done = []
            for start in range(0, len(names), BATCH):
                some = names[start : start + BATCH]
                # Together they share the writes of the log.
                worked = await asyncio.gather(*(stream.acts.act(action, name, to) for name in some))
                now = [name for name, did in zip(some, worked, strict=True) if did]
                if logged:
                    log_orders(action, now, to)
                done += now
            log.flush()
            return done

        yield from self._change(act)

    def stats(self) -> dict[str, dict[str, Any]]:
        """Nothing is known of next hops: nobody delivers."""
        return {}

    def flush(self, site: str) -> int:
        """Let everything be due when a server starts; how many messages."""

        async def flush(stream: Stream) -> int:
            number = 0
            for handle in list(stream.queue.live.handles()):
                states = stream.queue.live.recipients(handle)
                if any(state.status.is_live and site in ("", state.site) for state in states):
                    number += await stream.acts.act("retry", stream.queue.live.id_of(handle))
            return number

        return self._change(flush)

    # --- inside ------------------------------------------------------------------------------------

    def _log_as_the_server(self) -> bool:
        """Write into the log of the server, if that is a file: who looks for a message later looks there."""
        settings = self._settings.log
        if settings.target == "stderr":  # of the server that was; ours is a terminal
            return False
        try:
            log.configure(settings)
        except OSError as error:
            print(f"tamis: it will not be in the log: {in_words(error)}", file=sys.stderr)
            return False
        return True

    def _read(self, work: Callable[[_Look], Awaitable[T]]) -> T:
        async def run() -> T:
            async with self._look() as look:
                return await work(look)

        if self._open is None:
            return asyncio.run(run())
        runner, look = self._open
        return runner.run(_awaited(work(look)))

    def _change(self, work: Callable[[Stream], Awaitable[T]]) -> T:
        async def run() -> T:
            try:
                async with opened_stores(self._settings) as store:
                    await require_queue(store)
                    async with opened_stream(self._settings, store, self._now) as stream:
                        if not stream.is_whole:
                            self.missing[TAKEOVER] = "not all that ended processes have left was taken over"
                        return await work(stream)
            except (QueueError, FormatError) as error:
                raise QueueProblem(f"the queue could not do it: {error}") from error

        return asyncio.run(run())

    async def _require_ours(self, stream: Stream, ids: Sequence[str]) -> None:
        """Raises QueueProblem for messages that another node has, which is alive."""
        missing = [name for name in ids if not stream.has(name)]
        if not missing:
            return
        look = _Look(stream.store, await Inspection.open(stream.store))
        for name in missing:
            if node := await look.node_of(name):
                raise QueueProblem(f"message {name} is with node {node}: ask there, or wait until it is dead")

    @asynccontextmanager
    async def _look(self) -> AsyncIterator[_Look]:
        try:
            async with opened_stores(self._settings) as store:
                await require_queue(store)
                inspection = await Inspection.open(
                    store, spill_dir=self._settings.process.spill_directory or None
                )
                yield _Look(store, inspection)
        except (QueueError, FormatError) as error:
            raise QueueProblem(str(error)) from error

    async def _pages(self) -> AsyncGenerator[list[QueueRow], None]:
        async with self._look() as look:
            found = list(look.inspection.messages())
            for start in range(0, len(found), BATCH):
                yield await look.rows(found[start : start + BATCH])

    async def _own_rows(self, queue: MailQueue) -> AsyncIterator[QueueRow]:
        for handle in list(queue.live.handles()):
            try:
                message = await queue.load(handle)
            except UnknownMessage:
                continue
            except CorruptMessage as error:
                yield unreadable_row(queue.live, handle, str(error), self._settings.queue.node)
                continue
            yield message_row(message, active=False, node=self._settings.queue.node)


class _Look:
    """What one look at the stores has found."""

    def __init__(self, store: Store, inspection: Inspection) -> None:
        self._store = store
        self._nodes: dict[str, str] = {}
        self._streams: dict[str, str] = {}
        self.inspection = inspection

    async def rows(self, found: Sequence[tuple[str, Row]]) -> list[QueueRow]:
        """The messages as a list shows them."""
        return list(await asyncio.gather(*(self._row(stream, row) for stream, row in found)))

    async def node_of(self, name: str) -> str:
        """The node that has a message."""
        if not self._streams:
            self._streams = {row.id: stream for stream, row in self.inspection.messages()}
        stream = self._streams.get(name.upper())
        return "" if stream is None else await self._node(stream)

    async def _row(self, stream: str, row: Row) -> QueueRow:
        node = await self._node(stream)
        try:
            message = await self.inspection.load(row.id)
        except CorruptMessage as error:
            return unreadable_row(self._live(stream), row.handle, str(error), node)
        return message_row(message, active=False, node=node)

    async def _node(self, stream: str) -> str:
        if stream not in self._nodes:
            announced = await read_announcement(self._store, stream)
            self._nodes[stream] = "" if announced is None else announced.node
        return self._nodes[stream]

    def _live(self, stream: str) -> Live:
        for reader in self.inspection.readers():
            if reader.name == stream:
                return Live(reader.replay.index)
        raise LookupError(stream)


async def _entered(look: AbstractAsyncContextManager[_Look]) -> _Look:
    return await look.__aenter__()


async def _left(look: AbstractAsyncContextManager[_Look]) -> None:
    await look.__aexit__(None, None, None)


async def _awaited(work: Awaitable[T]) -> T:
    try:
        return await work
    except QueueError as error:
        raise QueueProblem(str(error)) from error


async def _next(pages: AsyncIterator[list[QueueRow]]) -> list[QueueRow] | None:
    async for page in pages:
        return page
    return None
