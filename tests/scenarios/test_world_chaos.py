"""Users with wishes, milters, TLS, MX records and an administrator, while everything goes wrong by chance.

As in `test_mta_chaos`, with all that a message can ask for; `tests.peers.chaosbooks` says what must hold.
When `TAMIS_CHAOS_SECONDS` is set, there are more kinds of trouble than `make test` has the time for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.peers.chaos import SECONDS
from tests.peers.chaosdesk import Desk
from tests.peers.chaosworld import Whole, whole
from tests.peers.load import run
from tests.peers.queuesite import kill_all, queue_site
from tests.peers.site import Site
from tests.peers.smalldisk import fill, mounted

pytestmark = pytest.mark.scenario


async def reload(around: Whole, server: Site, desk: Desk) -> None:
    """As an administrator does it."""
    await asyncio.to_thread(server.request, {"command": "reload"})


async def work(around: Whole, server: Site, desk: Desk) -> None:
    """Orders for the queue."""
    for _ in range(3):
        await desk.work()


async def absent(around: Whole, server: Site, desk: Desk) -> None:
    """Milter and policy server are gone for a moment."""
    await around.meddlers.go()
    await asyncio.sleep(around.chance.random() / 2)
    await around.meddlers.come()


async def kill(around: Whole, server: Site, desk: Desk) -> None:
    """kill -9 of a worker."""
    processes = await asyncio.to_thread(server.workers)
    for pid in [pid for name, pid in processes.items() if name.startswith("worker")][:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    around.killed()


async def burn(around: Whole, server: Site, desk: Desk) -> None:
    """kill -9 of all, and a new start."""
    await asyncio.to_thread(kill_all, server)
    around.killed()
    await asyncio.to_thread(server.start)


async def offline(around: Whole, server: Site, desk: Desk) -> None:
    """The server is killed or stopped; the administrator works on what it has left; a new start."""
    if around.chance.random() < 0.5:
        await asyncio.to_thread(kill_all, server)
        around.killed()
    else:
        await asyncio.to_thread(server.command, "stop", "--now")
        await asyncio.to_thread(server.wait)
        around.killed()
    await asyncio.to_thread(desk.look_offline)
    await asyncio.to_thread(server.start)


async def roll(around: Whole, server: Site, desk: Desk) -> None:
    """New certificates, and the DNS says so."""
    around.roll()


async def use_up(around: Whole, server: Site, desk: Desk) -> None:
    """The disk of the queue is full for a while."""
    around.ledger.full = around.ledger.scarce = True
    filler = await asyncio.to_thread(fill, server.directory / "disk")
    await asyncio.sleep(1)
    filler.unlink()


Trouble = Callable[[Whole, Site, Desk], Awaitable[None]]


DISK_SIZE = 96 * 1024 * 1024
TIME = 0.4 * SECONDS
FULL = "max_messages = 12\n"
"""A queue that often takes nothing more, so that clients are told to come again."""


@contextlib.contextmanager
def site_on_a_disk(folder: Path, around: Whole, queue: str) -> Iterator[Site]:
    """A site whose queue has a small disk of its own."""
    with mounted(folder, DISK_SIZE) as disk:
        store = f'[queue_stores.small]\nurl = "file:{disk}/queue"\n'
        with queue_site(folder, **around.settings(f'stores = ["small"]\n{queue}', store)) as server:
            yield server


KINDS: dict[str, tuple[Sequence[Trouble], str]] = {
    "full": ([reload, absent, roll], FULL),
    "deaths": ([reload, work, absent, kill, burn], FULL),
}
MORE: dict[str, tuple[Sequence[Trouble], str]] = {
    "filters": ([reload, absent], ""),
    "orders": ([reload, absent, work], ""),
    "disk": ([reload, absent, use_up], ""),
    "all": ([reload, work, absent, use_up, kill, burn, roll], FULL),
    "offline": ([reload, work, offline, roll], ""),
}
"""Troubles, and settings of the queue, by a name."""
if "TAMIS_CHAOS_SECONDS" in os.environ:
    KINDS |= MORE


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_gets_what_was_asked_for(tmp_path: Path, kind: str) -> None:
    troubles, queue = KINDS[kind]

    async def main() -> None:
        async with whole(tmp_path) as around:
            around.ledger.full = bool(queue)
            with site_on_a_disk(tmp_path, around, queue) as server:
                desk = around.populate(server)
                end = time.monotonic() + TIME
                while (pause := 1 + around.chance.random()) < end - time.monotonic():
                    await asyncio.sleep(pause)
                    await around.chance.choice(troubles)(around, server, desk)
                await around.settle(server, desk)
                print(around.summary(), dict(desk.done))
                around.check()
                assert not desk.problems, "\n".join(desk.problems)
                await asyncio.to_thread(server.stop)

    run(main, TIME + 240)
