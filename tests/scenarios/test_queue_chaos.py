"""Two nodes on one bucket, and everything goes wrong at the same time, by chance; the books balance.

As in `test_mta_chaos`, but here whole nodes die and come back, or sleep for longer than the other one waits,
and the server of the bucket stands still.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.peers.chaos import NOTED, SECONDS, World, world
from tests.peers.load import run
from tests.peers.queuesite import BUCKET, SHORT, bucket, kill_all, queue_site, send_all
from tests.peers.seaweedfs import SeaweedFS, running_seaweedfs
from tests.peers.site import Site

pytestmark = pytest.mark.scenario

LONG = 6.0
"""Seconds of a sleep in which the other node takes over (`SHORT`)."""
TIME = 2 * SECONDS


async def reload(around: World, weed: SeaweedFS, server: Site) -> None:
    """As an administrator does it."""
    await asyncio.to_thread(server.request, {"command": "reload"})


async def burn(around: World, weed: SeaweedFS, server: Site) -> None:
    """A node dies and comes back, before or after the other one has taken its mail over."""
    await asyncio.to_thread(kill_all, server)
    around.ledger.forget(NOTED)
    await asyncio.sleep(around.chance.choice((0.0, LONG)))
    await asyncio.to_thread(server.start)


async def sleep(around: World, weed: SeaweedFS, server: Site) -> None:
    """A node stands still while the other one takes over, and wakes up with what it was about to do."""
    send_all(server, signal.SIGSTOP)
    await asyncio.sleep(LONG)
    send_all(server, signal.SIGCONT)
    await asyncio.sleep(1)
    around.ledger.forget(NOTED + LONG + 1)


async def hang(around: World, weed: SeaweedFS, server: Site) -> None:
    """The bucket does not answer, for a moment or for longer than a node may do without it."""
    assert weed.process is not None
    weed.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(around.chance.choice((1.0, LONG)))
    weed.process.send_signal(signal.SIGCONT)
    around.ledger.forget(NOTED + LONG)


TROUBLES: tuple[Callable[[World, SeaweedFS, Site], Awaitable[None]], ...] = (reload, burn, sleep, hang)


def member(folder: Path, name: str, around: World, weed: SeaweedFS) -> AbstractContextManager[Site]:
    """A node of the two."""
    (folder / name).mkdir()
    queue = f'{SHORT}node = "{name}"\nstores = ["shared"]\n'
    settings = around.settings(queue, bucket(folder, weed, "chaos"))
    return queue_site(folder / name, workers=1, **settings)


def test_the_books_of_two_nodes_balance(tmp_path: Path) -> None:
    async def main() -> None:
        with running_seaweedfs() as weed:
            weed.make_bucket(BUCKET)
            async with world() as around:
                with member(tmp_path, "a", around, weed) as a, member(tmp_path, "b", around, weed) as b:
                    around.populate([a, b])
                    end = time.monotonic() + TIME
                    while time.monotonic() < end:
                        await asyncio.sleep(1 + 2 * around.chance.random())
                        trouble = around.chance.choice(TROUBLES)
                        await trouble(around, weed, around.chance.choice((a, b)))
                    await around.settle([a, b])
                    around.balance()
                    await asyncio.to_thread(a.stop)
                    await asyncio.to_thread(b.stop)

    run(main, TIME + 240)
