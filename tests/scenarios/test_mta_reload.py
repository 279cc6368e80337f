"""Reloads while mail flows: no client is refused or cut, nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.peers.load import Load, copies, name_in, run, sink_backend, sinking
from tests.peers.needs import needs, program
from tests.peers.running import PATIENCE
from tests.peers.site import Site, site

RELOADS = 2
"""In each test: several reloads in all, and each takes seconds on a busy machine."""


async def reload(server: Site) -> None:
    await asyncio.to_thread(server.reload)


def test_reloads_under_load(tmp_path: Path) -> None:
    """Clients with a new connection for each message, and others that stay connected all the time."""

    async def main() -> None:
        async with sinking() as sink:
            limits = "[limits]\ntransactions_per_session = 0"
            with site(tmp_path, backend=sink_backend(sink), recipients="all", more=limits) as server:
                hasty = Load(server.smtp, clients=6, prefix="hasty")
                loyal = Load(server.smtp, clients=6, prefix="loyal", messages_per_session=1_000_000)
                async with hasty, loyal:
                    for _ in range(RELOADS):
                        await asyncio.gather(hasty.grow(50), loyal.grow(50))
                        await reload(server)
                    await asyncio.gather(hasty.grow(50), loyal.grow(50))
                assert hasty.troubles == loyal.troubles == []
                assert set(hasty.books.results) == set(loyal.books.results) == {"250 2.0.0"}
                stored = copies(sink)
                assert stored == Counter(hasty.books.accepted | loyal.books.accepted)
                assert server.status()["generation"] == 1 + RELOADS
                await asyncio.to_thread(server.stop)

    run(main)


def test_reloads_under_load_with_the_embedded_store(tmp_path: Path) -> None:
    """The store is replaced too; its own sessions, those of the workers' pools, end in order."""

    async def main() -> None:
        with site(tmp_path) as server:
            load = Load(server.smtp, clients=8, messages_per_session=3)
            async with load:
                for _ in range(RELOADS):
                    await load.grow(30)
                    await reload(server)
                await load.grow(30)
            assert load.troubles == []
            assert set(load.books.results) == {"250 2.0.0"}
            stored = Counter(name_in(octets) for octets in server.messages())
            assert stored == Counter(load.books.accepted)
            await asyncio.to_thread(server.stop)

    run(main)


@pytest.mark.scenario
def test_smtp_source_notices_nothing(tmp_path: Path) -> None:
    """smtp-source ends with an error at the first reply that it does not expect."""
    needs("postfix")

    async def source(port: int, name: str, number: int, *options: str) -> None:
        process = await asyncio.create_subprocess_exec(
            program("smtp-source"), "-4", *options, "-N", "-s", "10", "-m", str(number), "-l", "4000",
            "-f", f"{name}@example.org", "-t", f"{name}@example.test", f"127.0.0.1:{port}",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE * 2)
        assert process.returncode == 0, output.decode()

    async def main() -> None:
        async with sinking() as sink:
            number = 300
            with site(tmp_path, backend=sink_backend(sink), recipients="all") as server:
                for batch in range(RELOADS):
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(source(server.smtp, f"new{batch}", number))
                        tasks.create_task(source(server.smtp, f"reused{batch}", number, "-d"))
                        tasks.create_task(reload(server))
                stored = Counter(message.recipient for message in sink.delivered)
                assert len(stored) == 2 * number * RELOADS
                assert set(stored.values()) == {1}
                await asyncio.to_thread(server.stop)

    run(main)
