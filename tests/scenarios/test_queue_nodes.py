"""Two nodes on one store, a shared folder or a bucket: one dies or sleeps, the other delivers its mail."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dialog.backend import ScriptedStore
from tests.peers.load import Load, copies, run, sinking
from tests.peers.queuesite import (
    BUCKET,
    CONNECTIONS,
    QUICK,
    balance,
    bucket,
    burns,
    drained,
    flush,
    kill_all,
    node,
    send_all,
    waiting,
)
from tests.peers.running import until
from tests.peers.seaweedfs import SeaweedFS, running_seaweedfs

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def weed() -> Iterator[SeaweedFS]:
    with running_seaweedfs() as server:
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture(params=["folder", "bucket"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The store of both nodes."""
    if request.param == "folder":
        return f'[queue_stores.shared]\nurl = "file:{tmp_path}/shared"\n'
    return bucket(tmp_path, request.getfixturevalue("weed"), request.node.originalname)


def test_a_node_burns_and_the_other_delivers_its_mail(tmp_path: Path, shared: str) -> None:
    async def main() -> None:
        async with sinking() as sink:
            with node(tmp_path, "a", shared, sink) as a, node(tmp_path, "b", shared, sink) as b:
                await burns(a, b, sink, 100)

    run(main)


def test_two_survivors_share_what_a_third_leaves(tmp_path: Path, shared: str) -> None:
    """Both take over at once; each message ends with one of them."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with (
                node(tmp_path, "a", shared, sink) as a,
                node(tmp_path, "b", shared, sink) as b,
                node(tmp_path, "c", shared, sink) as c,
            ):
                await sink.stop()
                load = Load(a.smtp, clients=8, messages_per_session=5, pause=0.0)
                async with load:
                    await load.grow(200)
                await asyncio.to_thread(kill_all, a)
                accepted = len(load.books.accepted)

                def taken() -> bool:
                    return (waiting(b) or 0) + (waiting(c) or 0) == accepted

                await asyncio.to_thread(until, taken, "the mail of the dead node")
                await sink.start(port)
                await drained(b, c, books=[load.books], sink=sink)
                assert balance(load.books, sink) == 0
                await asyncio.to_thread(b.stop)
                await asyncio.to_thread(c.stop)

    run(main)


def test_both_nodes_die_and_one_comes_back(tmp_path: Path, shared: str) -> None:
    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with node(tmp_path, "a", shared, sink) as a, node(tmp_path, "b", shared, sink) as b:
                await sink.stop()
                loads = [Load(server.smtp, clients=4, prefix=name) for name, server in (("a", a), ("b", b))]
                async with loads[0], loads[1]:
                    for load in loads:
                        await load.grow(40)
                await asyncio.to_thread(kill_all, a)
                await asyncio.to_thread(kill_all, b)
                await sink.start(port)
                await asyncio.to_thread(b.start)
                everything = loads[0].books.accepted | loads[1].books.accepted

                def all_there() -> bool:
                    flush(b)
                    return copies(sink).keys() >= everything

                await asyncio.to_thread(until, all_there, "the mail of both nodes")
                await drained(b, books=[each.books for each in loads], sink=sink)
                assert sum(copies(sink).values()) == len(everything)
                await asyncio.to_thread(b.stop)

    run(main)


def test_a_node_sleeps_and_wakes(tmp_path: Path, shared: str) -> None:
    """It was taken over meanwhile: it opens a new stream by itself. Nothing is lost, nothing comes twice."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with node(tmp_path, "a", shared, sink) as a, node(tmp_path, "b", shared, sink) as b:
                await sink.stop()
                load = Load(a.smtp, clients=6, messages_per_session=5)
                async with load:
                    await load.grow(80)
                accepted = len(load.books.accepted)
                await asyncio.to_thread(send_all, a, signal.SIGSTOP)
                await asyncio.to_thread(until, lambda: waiting(b) == accepted, "the mail of the sleeper")
                await sink.start(port)
                await asyncio.to_thread(flush, b)
                await asyncio.to_thread(send_all, a, signal.SIGCONT)
                await asyncio.to_thread(
                    until, lambda: "the queue is opened anew" in a.log() and waiting(a) == 0, "the sleeper"
                )
                await drained(a, b, books=[load.books], sink=sink)
                assert balance(load.books, sink) == 0
                # It works like any other node again.
                await sink.stop()
                again = Load(a.smtp, clients=3, prefix="again")
                async with again:
                    await again.grow(20)
                assert await asyncio.to_thread(waiting, a) == len(again.books.accepted)
                await sink.start(port)
                await drained(a, b, books=[load.books, again.books], sink=sink)
                balance(again.books, _only(sink, "again"))
                await asyncio.to_thread(a.stop)
                await asyncio.to_thread(b.stop)

    run(main)


def test_a_node_falls_asleep_while_it_delivers(tmp_path: Path, shared: str) -> None:
    """Twice comes at most what it had under way: that was sent, and could not be written down."""

    async def main() -> None:
        async with sinking(final_delay=0.2) as sink:
            port = sink.port
            with node(tmp_path, "a", shared, sink) as a, node(tmp_path, "b", shared, sink) as b:
                await sink.stop()
                load = Load(a.smtp, clients=8, messages_per_session=10, pause=0.0)
                async with load:
                    await load.grow(200)
                await sink.start(port)

                def delivered() -> bool:
                    flush(a)
                    return len(sink.delivered) >= 20

                await asyncio.to_thread(until, delivered, "deliveries")
                await asyncio.to_thread(send_all, a, signal.SIGSTOP)
                left = len(load.books.accepted) - len(copies(sink))
                assert left > 20, "it fell asleep too late to show anything"

                def the_rest() -> bool:
                    flush(b)
                    return copies(sink).keys() >= load.books.accepted

                await asyncio.to_thread(until, the_rest, "the mail of the sleeper")
                await asyncio.to_thread(send_all, a, signal.SIGCONT)
                await asyncio.to_thread(until, lambda: "the queue is opened anew" in a.log(), "the sleeper")
                await drained(a, b, books=[load.books], sink=sink)
                assert balance(load.books, sink, lambda name: True) <= 2 * CONNECTIONS
                await asyncio.to_thread(a.stop)
                await asyncio.to_thread(b.stop)

    run(main)


def _only(sink: ScriptedStore, prefix: str) -> ScriptedStore:
    mark = f"X-Load: {prefix}".encode()
    return ScriptedStore(delivered=[d for d in sink.delivered if mark in d.octets])


def test_a_node_burns_with_its_folder_beside_the_bucket(tmp_path: Path, weed: SeaweedFS) -> None:
    """Each node has a folder of its own and both have the bucket: what was in the folder was there too."""

    def its_folder() -> None:
        assert len(list((tmp_path / "a" / "disk" / "log").glob("*/*"))) > 0
        shutil.rmtree(tmp_path / "a")

    async def main() -> None:
        shared = bucket(tmp_path, weed, "beside")
        async with sinking() as sink:
            with (
                node(tmp_path, "a", shared, sink, disk=True) as a,
                node(tmp_path, "b", shared, sink, disk=True) as b,
            ):
                await burns(a, b, sink, 60, its_folder)
                (tmp_path / "a").mkdir()  # for the log of what burnt

    run(main)


@pytest.mark.parametrize("hangs", [False, True], ids=["dead", "hangs"])
def test_a_bucket_that_goes_away_and_comes_back(tmp_path: Path, weed: SeaweedFS, hangs: bool) -> None:
    """4xx with a reason meanwhile, mail that can be delivered flows, and nothing that was kept is lost."""
    away, back = (weed.pause, weed.resume) if hangs else (weed.kill, weed.start)

    async def main() -> None:
        shared = bucket(tmp_path, weed, f"one{hangs:d}", 'request_timeout = "1s"\n')
        async with sinking() as sink:
            port = sink.port
            with node(tmp_path, "a", shared, sink, QUICK + 'max_latency = "1s"\n') as a:
                await sink.stop()
                load = Load(a.smtp, clients=2, messages_per_session=5, retry=True, pause=0.1)
                async with load:
                    await load.grow(20)
                    await asyncio.to_thread(away)

                    def refused() -> bool:
                        return any(result.startswith(("451", "452")) for result in load.books.results)

                    await asyncio.to_thread(until, refused, "temporary answers")
                    await sink.start(port)
                    await load.grow(10)
                    await asyncio.to_thread(back)
                    await load.grow(10)
                assert {result[:3] for result in load.books.results} <= {"250", "451", "452"}
                await drained(a, books=[load.books], sink=sink)
                balance(load.books, sink)
                await asyncio.to_thread(a.stop)

    run(main)
