"""Clients that go away at the wrong moment: nothing answered 250 is missing, no retry brings a copy more."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from pathlib import Path

from tests.dialog.backend import ScriptedStore
from tests.peers.load import (
    Books,
    Load,
    Session,
    copies,
    message,
    run,
    send_and_vanish,
    sink_backend,
    sinking,
)
from tests.peers.running import PATIENCE, until
from tests.peers.site import Site, site

RECIPIENT = "alice@example.test"
VANISHING = 300


async def settled(sink: ScriptedStore) -> None:
    """Wait until nothing has been delivered for a while: no delivery is under way any more."""
    number = -1
    while number != len(sink.delivered):
        number = len(sink.delivered)
        await asyncio.sleep(0.5)


async def deliver(server: Site, name: str, size: int = 1000) -> str:
    """Send a message and stay; the reply."""
    session = Session(server.smtp, f"{name}.test")
    await session.open()
    reply = await session.send(message(name, size), RECIPIENT)
    await session.quit()
    return reply


def test_clients_vanish_at_random_points_under_load(tmp_path: Path) -> None:
    async def main() -> None:
        chance = random.Random(5321)
        async with sinking(final_delay=0.005) as sink:
            with site(tmp_path, backend=sink_backend(sink), recipients="all") as server:
                books = Books()
                gate = asyncio.Semaphore(10)

                async def vanish(name: str, size: int) -> None:
                    async with gate:
                        books.note(name, await send_and_vanish(server.smtp, name, RECIPIENT, chance, size))

                load = Load(server.smtp, clients=3)
                async with load, asyncio.TaskGroup() as tasks:
                    for number in range(VANISHING):
                        size = chance.choice([200, 4000, 4000, 100_000])
                        tasks.create_task(vanish(f"{size}-{number}", size))
                await settled(sink)
                first = copies(sink)
                assert books.accepted - first.keys() == set()
                assert set(first.values()) == {1}
                silent = [name for name in books.pending if name in first]
                assert silent  # delivered, and the client does not know
                for turn in range(2):  # to either worker, then to those of another generation
                    for name in books.pending:
                        books.note(name, await deliver(server, name, int(name.partition("-")[0])))
                    assert books.pending == []
                    if turn == 0:
                        await asyncio.to_thread(server.reload)
                        for name in silent:
                            books.note(name, "lost: answer")
                double = {name: number for name, number in copies(sink).items() if number != 1}
                assert double == {}
                assert load.books.accepted <= first.keys()
                await asyncio.to_thread(server.stop)

    run(main)


def pids(server: Site) -> list[int]:
    return sorted(server.wait_ready().values())


def test_the_memory_is_shared_by_workers_generations_and_lives(tmp_path: Path) -> None:
    """A client that vanished tries again: at the other worker, after a reload, after a restart."""

    async def main() -> None:
        async with sinking(final_delay=0.5) as sink:
            with site(tmp_path, backend=sink_backend(sink), recipients="all") as server:
                first, second = await asyncio.to_thread(pids, server)
                os.kill(second, signal.SIGSTOP)  # so it is the first that has to take the client
                for name in ("one", "two", "three"):
                    await vanish_after_the_end(server, sink, name)
                    await heard(server, name)
                os.kill(second, signal.SIGCONT)
                await told(server)
                os.kill(first, signal.SIGSTOP)
                assert (await deliver(server, "one")).startswith("250 2.0.0 already delivered")
                assert (await deliver(server, "another")).startswith("250 2.0.0 kept")
                os.kill(first, signal.SIGCONT)
                await asyncio.to_thread(server.reload)
                for _ in range(4):
                    assert (await deliver(server, "two")).startswith("250 2.0.0 already delivered")
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                for _ in range(4):
                    assert (await deliver(server, "three")).startswith("250 2.0.0 already delivered")
                assert copies(sink) == {"one": 1, "two": 1, "three": 1, "another": 1}

    run(main)


async def vanish_after_the_end(server: Site, sink: ScriptedStore, name: str) -> None:
    """Send a message and go away when the back end has it and has not answered yet."""
    sink.data_seen.clear()
    session = Session(server.smtp, f"{name}.test")
    await session.open()
    assert (await session.begin(RECIPIENT)).startswith("354")
    session.writer.write(message(name) + b".\r\n")
    await asyncio.wait_for(sink.data_seen.wait(), PATIENCE)
    session.cut()


async def heard(server: Site, name: str) -> None:
    """Wait until the server has noticed that this client does not know."""

    def noticed() -> bool:
        found = re.search(rf"id=(\S+) .* helo={name}\.test", server.log())
        return found is not None and f"not acknowledged  id={found[1]}" in server.log()

    await asyncio.to_thread(until, noticed, "the memory")


async def told(server: Site) -> None:
    """Let every worker read what the supervisor has told it: it answers questions in their order."""
    for _ in range(3):  # each waits for all workers, though not for ever
        assert (await asyncio.to_thread(server.status))["remembered"] == 3
