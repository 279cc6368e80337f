"""Everything goes wrong at the same time, by chance; in the end the books balance.

Clients of all manners send to recipients behind next hops that fail at any stage, while the server is
reloaded, its workers die, and the disk of its queue fills up or turns read-only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.peers.chaos import NOTED, SECONDS, world
from tests.peers.fickle import Ledger
from tests.peers.load import run
from tests.peers.queuesite import queue_site
from tests.peers.site import Site
from tests.peers.smalldisk import fill, mounted, remount

pytestmark = pytest.mark.scenario

DISK_SIZE = 64 * 1024 * 1024
STORE = 'stores = ["small"]\n'


async def reload(server: Site, ledger: Ledger, disk: Path) -> None:
    """As an administrator does it."""
    await asyncio.to_thread(server.request, {"command": "reload"})


async def kill(server: Site, ledger: Ledger, disk: Path) -> None:
    """kill -9 of a worker."""
    processes = await asyncio.to_thread(server.workers)
    for pid in [pid for name, pid in processes.items() if name.startswith("worker")][:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ledger.forget(NOTED)


async def use_up(server: Site, ledger: Ledger, disk: Path) -> None:
    """The disk of the queue is full for a while."""
    filler = await asyncio.to_thread(fill, disk)
    await asyncio.sleep(1)
    filler.unlink()


async def protect(server: Site, ledger: Ledger, disk: Path) -> None:
    """The disk of the queue is read-only for a while."""
    with contextlib.suppress(subprocess.CalledProcessError):  # somebody writes just now
        await asyncio.to_thread(remount, disk, "ro")
    await asyncio.sleep(1)
    await asyncio.to_thread(remount, disk, "rw")


Trouble = Callable[[Site, Ledger, Path], Awaitable[None]]


async def disturb(
    server: Site, ledger: Ledger, disk: Path, chance: random.Random, troubles: Sequence[Trouble]
) -> None:
    """One trouble after the other, until the time is over."""
    end = time.monotonic() + SECONDS
    while (pause := 1 + 2 * chance.random()) < end - time.monotonic():
        await asyncio.sleep(pause)
        await chance.choice(troubles)(server, ledger, disk)


@pytest.mark.parametrize(
    "troubles",
    [[reload], [reload, kill], [reload, kill, use_up, protect]],
    ids=["reloads", "deaths", "disk"],
)
def test_the_books_balance(tmp_path: Path, troubles: Sequence[Trouble]) -> None:
    async def main() -> None:
        async with world() as around:
            with mounted(tmp_path, DISK_SIZE) as disk:
                store = f'[queue_stores.small]\nurl = "file:{disk}/queue"\n'
                with queue_site(tmp_path, **around.settings(STORE, store)) as server:
                    around.populate([server])
                    await disturb(server, around.ledger, disk, around.chance, troubles)
                    await around.settle([server])
                    around.balance()
                    await asyncio.to_thread(server.stop)

    run(main, SECONDS + 240)
