"""Processes killed under load: what was answered 250 is in the store, the ports keep accepting."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

from tests.peers.load import Books, Load, copies, name_in, run, sink_backend, sinking
from tests.peers.running import until
from tests.peers.site import NO_QUEUE, Site, site

KILLS = 4


async def kill(server: Site, role: str, turn: int) -> None:
    """kill -9 one process of a role, another one each turn."""
    processes = await asyncio.to_thread(server.workers)
    mine = sorted(pid for name, pid in processes.items() if name.startswith(role))
    os.kill(mine[turn % len(mine)], signal.SIGKILL)


def check(books: Books, stored: Counter[str]) -> Counter[str]:
    """Nothing that was answered 250 is missing; returns what is there more than once."""
    assert books.pending == []
    assert books.accepted - stored.keys() == set()
    double = Counter({name: number - 1 for name, number in stored.items() if number > 1})
    # Only where the client was not told could anybody know no better.
    assert [name for name in double if not books.may_be_double(name)] == []
    return double


def test_workers_killed_under_load(tmp_path: Path) -> None:
    async def main() -> None:
        async with sinking() as sink:
            with site(tmp_path, backend=sink_backend(sink), recipients="all") as server:
                load = Load(server.smtp, clients=10, messages_per_session=5, retry=True, pause=0.005)
                async with load:
                    for turn in range(KILLS):
                        await load.grow(100)
                        await kill(server, "worker", turn)
                        # The other worker goes on at once, before a new one is there.
                        await load.grow(20)
                        await asyncio.to_thread(server.wait_ready)
                    await load.grow(100)
                # A client of the dead worker saw its connection break, but nobody was ever refused.
                assert not [trouble for trouble in load.troubles if trouble.startswith("connect")], (
                    load.troubles
                )
                double = check(load.books, copies(sink))
                assert all("lost: answer" in load.books.tries[name] for name in double)
                assert set(load.books.results) <= {"250 2.0.0", "lost: answer", "lost: commands"}
                assert len(double) <= KILLS * 10  # what was in work when a worker died
                status = await asyncio.to_thread(server.status)
                assert sum(worker["restarts"] for worker in status["workers"]) == KILLS

    run(main)


def test_both_workers_killed_at_once(tmp_path: Path) -> None:
    """Clients wait in the queue of the listening socket, which the supervisor keeps open."""

    async def main() -> None:
        with site(tmp_path) as server:
            load = Load(server.smtp, clients=5, retry=True)
            async with load:
                await load.grow(20)
                for pid in (await asyncio.to_thread(server.wait_ready)).values():
                    os.kill(pid, signal.SIGKILL)
                await load.grow(20)
            assert not [trouble for trouble in load.troubles if trouble.startswith("connect")]
            check(load.books, Counter(name_in(octets) for octets in server.messages()))

    run(main)


def test_the_embedded_store_killed_under_load(tmp_path: Path) -> None:
    async def main() -> None:
        with site(tmp_path, queue=NO_QUEUE, more='[timeouts]\ncommand = "1m"') as server:
            load = Load(server.smtp, clients=8, messages_per_session=5, retry=True, pause=0.005)
            async with load:
                for turn in range(KILLS):
                    await load.grow(60)
                    await kill(server, "store", turn)
                await load.grow(60)
            # Sessions with clients went on: a store that dies is a temporary answer.
            assert load.troubles == []
            assert not [result for result in load.books.results if result.startswith(("lost", "5"))]
            check(load.books, Counter(name_in(octets) for octets in server.messages()))
            status = await asyncio.to_thread(server.status)
            assert sum(worker["restarts"] for worker in status["workers"]) == KILLS
            await asyncio.to_thread(server.stop)

    run(main)


def test_a_back_end_that_dies_and_comes_back_under_load(tmp_path: Path) -> None:
    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with site(tmp_path, queue=NO_QUEUE, backend=sink_backend(sink), recipients="all") as server:
                load = Load(server.smtp, clients=8, messages_per_session=5, retry=True, pause=0.005)
                async with load:
                    for _ in range(3):
                        await load.grow(60)
                        await sink.stop()
                        before = load.books.results["451 4.4.1"]

                        def refused(before: int = before) -> bool:
                            return load.books.results["451 4.4.1"] > before

                        await asyncio.to_thread(until, refused, "temporary answers")
                        await sink.start(port)
                    await load.grow(60)
                assert load.troubles == []
                assert not [result for result in load.books.results if result.startswith(("lost", "5"))]
                check(load.books, copies(sink))
                await asyncio.to_thread(server.stop)

    run(main)


def test_a_stop_under_load(tmp_path: Path) -> None:
    """Every message that was begun is answered, and what was answered 250 is in the store."""

    async def main() -> None:
        with site(tmp_path) as server:
            load = Load(server.smtp, clients=6, messages_per_session=3)
            async with load:
                await load.grow(50)
                await asyncio.to_thread(server.stop)
            assert set(load.books.results) <= {"250 2.0.0", "421 4.3.2"}
            assert Counter(name_in(octets) for octets in server.messages()) == Counter(load.books.accepted)

    run(main)
