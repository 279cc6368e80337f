"""The disk under the queue: full, read-only, with bits that have turned."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailqueue.entry import HEAD_SIZE
from mailqueue.inspect import Inspection
from mailqueue.keys import log_key
from mailqueue.live import Live
from mailqueue.store.disk import SHARE
from mailqueue.store.file import FileStore
from tests.dialog.backend import ScriptedStore
from tests.peers.load import Load, copies, name_in, run, sink_backend, sinking
from tests.peers.queuesite import (
    NEVER,
    QUICK,
    SHORT,
    balance,
    drained,
    flush,
    kill_all,
    noted,
    queue_site,
    rows,
    waiting,
)
from tests.peers.running import until
from tests.peers.site import Site
from tests.peers.smalldisk import fill, mounted, remount

pytestmark = pytest.mark.scenario

SILENCE = 2.5
DISK_SIZE, ROOM = 8 * 1024 * 1024, 500 * 1024
RESERVED = DISK_SIZE // SHARE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    with mounted(tmp_path, DISK_SIZE) as folder:
        yield folder


SMALL = 'stores = ["small"]\nmax_latency = "1s"\n'


def store_on(disk: Path) -> str:
    return f'[queue_stores.small]\nurl = "file:{disk}/queue"\n'


@contextlib.contextmanager
def site_on(disk: Path, folder: Path, sink: ScriptedStore, takeover: str) -> Iterator[Site]:
    """A site whose queue is on a small disk."""
    with queue_site(
        folder,
        queue=QUICK + takeover + SMALL,
        backend=sink_backend(sink),
        recipients="all",
        more=store_on(disk),
    ) as server:
        yield server


async def refusals(load: Load) -> None:
    """Wait until some of its clients are told to try later."""

    def refused() -> bool:
        return any(result.startswith("45") for result in load.books.results)

    await asyncio.to_thread(until, refused, "refusals")


def leave_room(disk: Path) -> Path:
    """Fill the disk until new mail finds little room; the file that does it."""
    filler = disk / "filler"
    filler.write_bytes(bytes(DISK_SIZE - RESERVED - ROOM))
    return filler


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """What it takes is kept, what it does not take stays with the client; when there is room all flows."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with site_on(small_disk, tmp_path, sink, NEVER) as server:
                await sink.stop()
                filler = leave_room(small_disk)
                load = Load(server.smtp, clients=4, messages_per_session=5, retry=True)
                async with load:
                    await refusals(load)
                    kept = len(load.books.accepted)
                    assert kept > 10
                    await sink.start(port)
                    await load.grow(20)  # what can be delivered at once is
                    filler.unlink()
                    await load.grow(20)
                assert {result[:3] for result in load.books.results} <= {"250", "451", "452"}
                await drained(server, books=[load.books], sink=sink)
                balance(load.books, sink)
                await asyncio.to_thread(server.stop)

    run(main)


def test_a_disk_that_the_queue_itself_has_filled_is_drained(tmp_path: Path, small_disk: Path) -> None:
    """Mail that fills the disk leaves room for the notes that it is delivered: nothing has to be deleted by
    hand, and nothing comes twice, also when the server dies before it has made room."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with site_on(small_disk, tmp_path, sink, NEVER) as server:
                await sink.stop()
                leave_room(small_disk)
                load = Load(server.smtp, clients=4, messages_per_session=5, retry=True)
                async with load:
                    await refusals(load)
                    kept = len(load.books.accepted)
                    await sink.start(port)
                    await load.grow(20)
                assert kept > 100
                assert {result[:3] for result in load.books.results} <= {"250", "451", "452"}
                await drained(server, books=[load.books], sink=sink)
                await noted(small_disk / "queue")
                await asyncio.to_thread(kill_all, server)
                await asyncio.to_thread(server.start)
                await asyncio.sleep(SILENCE)
                await drained(server, books=[load.books], sink=sink)
                balance(load.books, sink)
                await asyncio.to_thread(server.stop)

    run(main)


def test_a_disk_without_any_room_is_drained(tmp_path: Path, small_disk: Path) -> None:
    """What waits is delivered although not even a sign of life finds room: that is the way to get some."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with site_on(small_disk, tmp_path, sink, SHORT) as server:
                await sink.stop()
                load = Load(server.smtp, clients=4, messages_per_session=5)
                async with load:
                    await load.grow(20)
                await asyncio.to_thread(fill, small_disk)
                await asyncio.sleep(SILENCE)  # longer than an owner may deliver without a sign of life
                await sink.start(port)

                def delivered() -> bool:
                    flush(server)
                    return copies(sink).keys() >= load.books.accepted

                await asyncio.to_thread(until, delivered, "what waits")
                (small_disk / "filler").unlink()
                await drained(server, books=[load.books], sink=sink)
                assert max(copies(sink).values()) == 1
                await asyncio.to_thread(server.stop)

    run(main)


def test_a_disk_that_becomes_read_only(tmp_path: Path, small_disk: Path) -> None:
    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with site_on(small_disk, tmp_path, sink, NEVER) as server:
                await sink.stop()
                load = Load(server.smtp, clients=4, messages_per_session=5, retry=True)
                async with load:
                    await load.grow(30)
                    await asyncio.to_thread(remount, small_disk, "ro")
                    await refusals(load)
                    await asyncio.to_thread(until, lambda: unusable(server), "a queue that is not open")
                    await sink.start(port)
                    await load.grow(20)  # what can be delivered at once is
                    await asyncio.to_thread(remount, small_disk, "rw")
                    await load.grow(20)
                    await asyncio.to_thread(until, lambda: usable(server), "an open queue")
                assert {result[:3] for result in load.books.results} <= {"250", "451", "452"}
                await drained(server, books=[load.books], sink=sink)
                balance(load.books, sink)
                await asyncio.to_thread(server.stop)

    run(main)


def test_workers_that_start_on_a_disk_that_is_read_only(tmp_path: Path, small_disk: Path) -> None:
    """They serve without a queue, and open it when the disk can be written to again."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with site_on(small_disk, tmp_path, sink, NEVER) as server:
                await asyncio.to_thread(remount, small_disk, "ro")
                await asyncio.to_thread(kill_workers, server)
                await asyncio.to_thread(until, lambda: unopened(server), "workers without a queue")
                load = Load(server.smtp, clients=2, messages_per_session=5, retry=True)
                async with load:
                    await load.grow(20)
                    assert {result[:3] for result in load.books.results} == {"250"}, (
                        "what can be delivered at once is"
                    )
                    await sink.stop()
                    await refusals(load)
                    assert load.books.accepted <= copies(sink).keys(), "nothing is kept"
                    await asyncio.to_thread(remount, small_disk, "rw")
                    await load.grow(20)
                    await sink.start(port)
                await drained(server, books=[load.books], sink=sink)
                balance(load.books, sink)
                await asyncio.to_thread(server.stop)

    run(main)


def kill_workers(server: Site) -> None:
    """Kill them and wait for those that come in their place."""
    before = working(server)
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        now = working(server)
        return len(now) == len(before) and not now & before

    until(replaced, "new workers")


def working(server: Site) -> set[int]:
    return {pid for name, pid in server.workers().items() if name.startswith("worker")}


def unopened(server: Site) -> bool:
    """Every worker serves and says why it has no queue."""
    troubles = server.status()["queue"]["troubles"]
    return len(troubles) == len(working(server)) == server.log().count("no queue yet") and all(
        "Read-only file system" in why for why in troubles.values()
    )


def unusable(server: Site) -> bool:
    """Every worker says why its queue is not open, and so do the log and the probe."""
    troubles = server.status()["queue"]["troubles"]
    return (
        len(troubles) == len(server.workers())
        and all("Read-only file system" in why for why in troubles.values())
        and server.log().count("the queue cannot be used") == len(troubles)
        and "Read-only file system" in server.command("status")
    )


def usable(server: Site) -> bool:
    """The queue is open, and the log says so."""
    begun = server.log().count("the queue cannot be used")
    return (
        server.status()["queue"] == {"open": True, "troubles": {}}
        and server.log().count("the queue can be used again") == begun
    )


def test_a_disk_that_is_read_only_at_the_start(tmp_path: Path, small_disk: Path) -> None:
    """The server says what is wrong and does not start: nobody could queue anything."""
    remount(small_disk, "ro")
    server = Site(tmp_path)
    server.set_up(queue='stores = ["small"]\n', more=store_on(small_disk))
    try:
        server.start(wait=False)
        assert server.wait() != 0
        assert re.search(r"queue.*(read-only|Read-only)|not.*writ", server.log()), server.log()
        assert "Traceback" not in server.log()
    finally:
        server.end()


def test_bits_that_have_turned(tmp_path: Path) -> None:
    """One entry is damaged while nobody runs: it is reported and kept aside, all the rest flows."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            queue, backend = 'retry = ["1h"]\n' + NEVER, sink_backend(sink)
            with queue_site(tmp_path, queue=queue, backend=backend, recipients="all", workers=1) as server:
                await sink.stop()
                load = Load(server.smtp, clients=1, messages_per_session=100)
                async with load:
                    await load.grow(40)
                await asyncio.to_thread(kill_all, server)
                broken = await flip(tmp_path / "state" / "queue")
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(
                    until,
                    lambda: (waiting(server) or 0) >= len(load.books.accepted) - len(broken),
                    "the mail",
                )
                await sink.start(port)

                def all_but_broken() -> bool:
                    flush(server)
                    return copies(sink).keys() >= load.books.accepted - broken

                await asyncio.to_thread(until, all_but_broken, "what is whole")
                assert max(copies(sink).values()) == 1
                assert not broken & copies(sink).keys()
                log = server.log()
                assert "corrupt" in log or "unreadable" in log
                held = await asyncio.to_thread(rows, server)
                assert all(row.held for row in held)
                await asyncio.to_thread(server.stop)

    run(main)


async def flip(folder: Path) -> set[str]:
    """Turn a bit in the text of one message and in the record of another; their names."""
    store = FileStore(str(folder))
    broken: set[str] = set()
    try:
        inspection = await Inspection.open(store)
        for reader in inspection.readers():
            index = reader.replay.index
            places = {index.location(slot).number: (slot, index.location(slot)) for slot in index.slots()}
            alone = [number for number in places if number % 7 == 3][:2]
            for number, in_text in zip(alone, (True, False), strict=False):
                slot, place = places[number]
                for other in index.slots():
                    if index.location(other).number == number:
                        message = await inspection.load(Live(index).id_of(other))
                        if in_text is False or other == slot:
                            broken.add(name_in(message.header))
                path = folder / log_key(reader.name, number)
                octets = bytearray(path.read_bytes())
                octets[place.offset + place.length // 2 if in_text else HEAD_SIZE + 20] ^= 16
                path.write_bytes(octets)
    finally:
        await store.close()
    assert len(broken) >= 2
    return broken
