"""Reloads while mail flows: no client is refused or cut, nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.dialog.milters import at, puppet
from tests.dialog.programs import deciding
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


PROGRAMS = """
[milters.one]
address = "unix:{folder}/one"
listeners = ["smtp"]
[policy_servers.two]
address = "unix:{folder}/two"
[limits]
transactions_per_session = 0
"""
POLICY = """
require ["vnd.tamis.stage", "vnd.tamis.policy_server", "editheader"];
stage "connect" {{ policy_server "two"; }}
stage "rcpt" {{ policy_server "two"; }}
stage "data" {{ addheader "X-Policy" "{generation}"; }}
"""


def wants(asked: dict[str, str]) -> str:
    """What the policy server wants: of the session at connect, of the message at RCPT."""
    return "PREPEND X-Client: seen" if asked["protocol_state"] == "CONNECT" else "PREPEND X-Server: seen"


def test_reloads_of_the_policy_under_load(tmp_path: Path) -> None:
    """With a milter and a policy server in each session: what they want is done, and their sessions end."""

    def write(generation: int) -> None:
        (tmp_path / "policy.sieve").write_text(POLICY.format(generation=generation))

    async def generation(server: Site) -> int:
        found: int = (await asyncio.to_thread(server.status))["generation"]
        return found

    async def main() -> None:
        write(0)
        mark = at("eom", lambda ctx: ctx.add_header("X-Milter", "seen"))
        async with (
            sinking() as sink,
            puppet(tmp_path, "one", mark) as heard,
            deciding(tmp_path / "two", wants) as asked,
        ):
            with site(
                tmp_path,
                backend=sink_backend(sink),
                recipients="all",
                policy='scripts = ["policy.sieve"]',
                more=PROGRAMS.format(folder=tmp_path),
            ) as server:
                hasty = Load(server.smtp, clients=4, prefix="hasty")
                loyal = Load(server.smtp, clients=4, prefix="loyal", messages_per_session=1_000_000)
                async with hasty, loyal:
                    await asyncio.gather(hasty.grow(30), loyal.grow(30))
                    write(1)
                    await reload(server)
                    await asyncio.gather(hasty.grow(30), loyal.grow(30))
                    write(2)
                    server.signal(signal.SIGHUP)
                    async with asyncio.timeout(PATIENCE):
                        while await generation(server) < 3:  # noqa: ASYNC110 - another process
                            await asyncio.sleep(0.1)
                    await asyncio.gather(hasty.grow(30), loyal.grow(30))
                assert hasty.troubles == loyal.troubles == []
                assert set(hasty.books.results) == set(loyal.books.results) == {"250 2.0.0"}
                assert copies(sink) == Counter(hasty.books.accepted | loyal.books.accepted)
                await asyncio.to_thread(server.stop)
            policies = Counter[bytes]()
            for one in sink.delivered:
                lines = one.octets.split(b"\r\n")
                for mark_of_one in (b"X-Client: seen", b"X-Server: seen", b"X-Milter: seen"):
                    assert lines.count(mark_of_one) == 1, one.octets
                policies.update(line for line in lines if line.startswith(b"X-Policy"))
            assert set(policies) == {b"X-Policy: 0", b"X-Policy: 1", b"X-Policy: 2"}
            assert policies.total() == len(sink.delivered)
            sessions = len([one for one in heard if one.startswith("connect ")])
            async with asyncio.timeout(PATIENCE):
                while heard.count("close") < sessions:  # noqa: ASYNC110 - the milter is told by a socket
                    await asyncio.sleep(0.05)
            assert heard.count("close") == sessions
            assert len([one for one in asked if one["protocol_state"] == "CONNECT"]) == sessions

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
