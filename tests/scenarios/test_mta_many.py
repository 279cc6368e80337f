"""Five thousand sessions at once, and more than the server will have.

Each session is a descriptor here and one in a worker: the test raises its own soft limit of open files to
what it needs, and fails when the hard limit (`ulimit -Hn`, usually 20,000 or more) does not allow that.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.load import Load, Lost, Session, copies, run, sink_backend, sinking
from tests.peers.running import PATIENCE
from tests.peers.site import Site, site

SESSIONS = 5000
AT_ONCE = 100
"""Clients that connect at the same time; the others wait for their turn."""
DESCRIPTORS = SESSIONS + 500


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough descriptors for our ends of the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= DESCRIPTORS, f"needs ulimit -Hn {DESCRIPTORS}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def opened(server: Site, number: int) -> list[Session]:
    """That many sessions, each with EHLO said."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> Session:
        async with gate:
            session = Session(server.smtp)
            await session.open()
            return session

    return list(await asyncio.gather(*(one() for _ in range(number))))


async def admitted(session: Session) -> bool:
    """Whether the server takes the session; raises when it refuses it with anything but 421 4.3.2."""
    try:
        await session.open()
    except Lost as lost:
        if not lost.where.startswith("greeting: 421 4.3.2 "):
            raise
        return False
    return True


async def all_alive(sessions: list[Session]) -> None:
    """Every session answers."""
    for session in sessions:
        session.writer.write(b"NOOP\r\n")
    for session in sessions:
        assert (await session.reply("NOOP")).startswith("250 2.0.0")


def open_sessions(server: Site) -> int:
    return int(server.status()["sessions"]["open"])


@pytest.mark.usefixtures("descriptors")
def test_five_thousand_sessions_while_mail_flows(tmp_path: Path) -> None:
    async def main() -> None:
        async with sinking() as sink:
            with site(tmp_path, backend=sink_backend(sink), recipients="all") as server:
                load = Load(server.smtp, clients=4)
                async with load:
                    sessions = await opened(server, SESSIONS)
                    assert await asyncio.to_thread(open_sessions, server) >= SESSIONS
                    await load.grow(100)
                    await all_alive(sessions)
                    # Any of them may send now.
                    for number, session in enumerate(sessions[:: SESSIONS // 50]):
                        reply = await session.send(b"X-Load: idle%d\r\n\r\n" % number, "alice@example.test")
                        assert reply.startswith("250 2.0.0")
                    await load.grow(100)
                    await all_alive(sessions)
                assert load.troubles == []
                assert set(load.books.results) == {"250 2.0.0"}
                assert load.books.accepted | {f"idle{number}" for number in range(50)} == copies(sink).keys()
                for session in sessions:
                    session.cut()
                end = time.monotonic() + PATIENCE
                while await asyncio.to_thread(open_sessions, server):
                    assert time.monotonic() < end
                    await asyncio.sleep(0.1)

    run(main)


def test_more_sessions_than_allowed(tmp_path: Path) -> None:
    """Those over the limit are told 421 4.3.2, those inside notice nothing; later there is room again."""

    async def main() -> None:
        async with sinking() as sink:
            limits = '[limits]\nsessions = 40\n[timeouts]\nstressed_command = "1m"'
            with site(tmp_path, backend=sink_backend(sink), recipients="all", more=limits) as server:
                inside = await opened(server, 40)
                for _ in range(20):
                    reader, writer = await asyncio.open_connection("127.0.0.1", server.smtp)
                    answer = await asyncio.wait_for(reader.read(), PATIENCE)
                    assert answer.startswith(b"421 4.3.2 "), answer
                    assert answer.count(b"\r\n") == 1
                    writer.close()
                await all_alive(inside)
                for number, session in enumerate(inside):
                    reply = await session.send(b"X-Load: inside%d\r\n\r\n" % number, "alice@example.test")
                    assert reply.startswith("250 2.0.0")
                assert set(copies(sink).values()) == {1}
                assert len(copies(sink)) == 40
                for session in inside[:20]:
                    await session.quit()
                end = time.monotonic() + PATIENCE
                late = Session(server.smtp)
                while not await admitted(late):  # each worker is careful for some seconds
                    assert time.monotonic() < end
                    await asyncio.sleep(0.2)
                assert (await late.send(b"X-Load: late\r\n\r\n", "alice@example.test")).startswith(
                    "250 2.0.0"
                )
                await late.quit()
                await all_alive(inside[20:])
                for session in inside[20:]:
                    await session.quit()

    run(main)
