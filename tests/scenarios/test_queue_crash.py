"""Processes that die, are replaced or stop while mail waits: each recipient gets its message, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.peers.load import Load, copies, run, sink_backend, sinking
from tests.peers.queuesite import (
    NEVER,
    QUICK,
    balance,
    drained,
    flush,
    kill_all,
    kill_worker,
    queue_site,
    rows,
    waiting,
)
from tests.peers.running import until

pytestmark = pytest.mark.scenario


def test_workers_killed_while_mail_is_queued(tmp_path: Path) -> None:
    """The next worker knows that the dead one is gone, and has its mail without waiting for silence."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            queue, backend = QUICK + NEVER, sink_backend(sink)
            with queue_site(tmp_path, queue=queue, backend=backend, recipients="all") as server:
                await sink.stop()
                load = Load(server.smtp, clients=8, messages_per_session=5, retry=True, pause=0.005)
                async with load:
                    for turn in range(2):
                        await load.grow(60)
                        await asyncio.to_thread(kill_worker, server, turn)
                        await asyncio.to_thread(server.wait_ready)
                    await load.grow(40)
                assert set(load.books.results) <= {"250 2.0.0", "lost: answer", "lost: commands"}
                await sink.start(port)
                await drained(server, books=[load.books], sink=sink)
                balance(load.books, sink)
                await asyncio.to_thread(server.stop)

    run(main)


def test_everything_killed_while_mail_is_queued(tmp_path: Path) -> None:
    """As by a power cut, twice; the next life of the same machine does not wait either."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            queue, backend = QUICK + NEVER, sink_backend(sink)
            with queue_site(tmp_path, queue=queue, backend=backend, recipients="all") as server:
                await sink.stop()
                load = Load(server.smtp, clients=8, messages_per_session=5, retry=True, pause=0.005)
                async with load:
                    for _ in range(2):
                        await load.grow(60)
                        await asyncio.to_thread(kill_all, server)
                        await asyncio.to_thread(server.start)
                    await load.grow(40)
                await sink.start(port)
                await drained(server, books=[load.books], sink=sink)
                balance(load.books, sink)
                await asyncio.to_thread(server.stop)

    run(main)


def test_killed_while_draining(tmp_path: Path) -> None:
    """Twice may come only what was on its way, or not yet written down, when a process died."""

    async def main() -> None:
        async with sinking(final_delay=0.2) as sink:
            port = sink.port
            queue, backend = QUICK + NEVER, sink_backend(sink)
            with queue_site(tmp_path, queue=queue, backend=backend, recipients="all") as server:
                await sink.stop()
                load = Load(server.smtp, clients=10, messages_per_session=10, pause=0.0)
                async with load:
                    await load.grow(400)

                def delivered(goal: int) -> bool:
                    flush(server)
                    return len(sink.delivered) >= goal

                await sink.start(port)
                await asyncio.to_thread(until, lambda: delivered(40), "deliveries")
                await asyncio.to_thread(kill_worker, server, 0)
                goal = len(sink.delivered) + 40
                await asyncio.to_thread(until, lambda: delivered(goal), "deliveries after the first death")
                await asyncio.to_thread(kill_all, server)
                assert len(copies(sink)) < len(load.books.accepted), "killed too late to show anything"
                await asyncio.to_thread(server.start)
                await drained(server, books=[load.books], sink=sink)
                double = balance(load.books, sink, lambda name: True)
                assert double <= 3 * 20
                await asyncio.to_thread(server.stop)

    run(main)


def test_reloads_while_mail_is_queued_and_drained(tmp_path: Path) -> None:
    """Old workers hand over what they have: nothing waits for silence, nothing comes twice."""

    async def main() -> None:
        async with sinking(final_delay=0.01) as sink:
            port = sink.port
            queue, backend = QUICK + NEVER, sink_backend(sink)
            with queue_site(tmp_path, queue=queue, backend=backend, recipients="all") as server:
                await sink.stop()
                load = Load(server.smtp, clients=6, pause=0.01)
                async with load:
                    await load.grow(100)
                    await asyncio.to_thread(server.reload)
                    await load.grow(100)
                    await sink.start(port)
                    await asyncio.to_thread(flush, server)
                    await load.grow(30)
                    await asyncio.to_thread(server.reload)
                    await load.grow(30)
                assert set(load.books.results) == {"250 2.0.0"}
                await drained(server, books=[load.books], sink=sink)
                assert balance(load.books, sink) == 0
                await asyncio.to_thread(server.stop)

    run(main)


def test_a_stop_under_load_and_the_next_life(tmp_path: Path) -> None:
    """Every message that was answered 250 is in the queue of the next life at once, under its name."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            queue, backend = 'retry = ["1h"]\n' + NEVER, sink_backend(sink)
            with queue_site(tmp_path, queue=queue, backend=backend, recipients="all") as server:
                await sink.stop()
                load = Load(server.smtp, clients=6, messages_per_session=3)
                async with load:
                    await load.grow(100)
                    await asyncio.to_thread(server.stop)
                assert set(load.books.results) <= {"250 2.0.0", "421 4.3.2"}
                accepted = load.books.accepted
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(until, lambda: waiting(server) == len(accepted), "the old mail")
                assert all(row.deferred for row in await asyncio.to_thread(rows, server))
                await sink.start(port)
                await drained(server, books=[load.books], sink=sink)
                assert copies(sink).keys() == accepted
                assert max(copies(sink).values()) == 1
                await asyncio.to_thread(server.stop)

    run(main)


def test_a_back_end_that_dies_again_and_again_while_draining(tmp_path: Path) -> None:
    """Each recipient ends in exactly one of delivered, deferred, bounced; in the end all are delivered."""

    async def main() -> None:
        async with sinking(final_delay=0.02) as sink:
            port = sink.port
            queue, backend = QUICK + NEVER, sink_backend(sink)
            with queue_site(tmp_path, queue=queue, backend=backend, recipients="all") as server:
                await sink.stop()
                load = Load(server.smtp, clients=10, messages_per_session=10, pause=0.0)
                async with load:
                    await load.grow(300)
                deaths = 3
                for _ in range(deaths):
                    await sink.start(port)
                    goal = len(sink.delivered) + 40

                    def delivered(goal: int = goal) -> bool:
                        flush(server)
                        return len(sink.delivered) >= goal

                    await asyncio.to_thread(until, delivered, "deliveries")
                    await sink.stop()
                settled = len(copies(sink))
                left = await asyncio.to_thread(waiting, server)
                assert left is not None
                # What the sink has and had no time to say is in both.
                assert len(load.books.accepted) <= settled + left <= len(load.books.accepted) + deaths * 60
                await sink.start(port)
                await drained(server, books=[load.books], sink=sink)
                double = balance(load.books, sink, lambda name: True)
                assert double <= deaths * 60
                await asyncio.to_thread(server.stop)

    run(main)
