"""A gateway before the bucket that is wrong, in every way that we know: what was answered 250 is not lost,
what cannot be kept is answered 4xx, and all goes on by itself when the gateway is right again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.fakes3 import Answer
from tests.peers.load import Load, run, sinking
from tests.peers.queuesite import BUCKET, balance, bucket, drained, flush, kill_all, node, rows, waiting
from tests.peers.running import until
from tests.peers.s3gateway import (
    Fault,
    Gateway,
    answering,
    cut,
    gateway,
    late,
    lost,
    page,
    refusing,
    sent_to_page,
    silent,
    sometimes,
    sound,
    unconditional,
)
from tests.peers.seaweedfs import SeaweedFS, running_seaweedfs
from tests.peers.site import Site

pytestmark = pytest.mark.scenario

NOT_FOUND = answering(Answer("404 Not Found", b"404 page not found"))
AWAY: dict[str, Fault] = {
    "a page": page,
    "303": sent_to_page,
    "404": NOT_FOUND,
    "a region": refusing("301 Moved Permanently", "PermanentRedirect"),
    "the clock": refusing("403 Forbidden", "RequestTimeTooSkewed"),
    "too much": refusing("503 Slow Down", "SlowDown"),
    "full": refusing("507 Insufficient Storage", "XMinioStorageFull"),
    "an error inside 200": refusing("200 OK", "InternalError"),
}
NOW_AND_THEN = (*AWAY.values(), cut, late, lost, silent, refusing("409 Conflict", "OperationAborted"))


@pytest.fixture(scope="module")
def weed() -> Iterator[SeaweedFS]:
    with running_seaweedfs() as server:
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture
def front(weed: SeaweedFS) -> Iterator[Gateway]:
    with gateway(weed.port) as running:
        yield running


def shared(folder: Path, weed: SeaweedFS, front: Gateway, space: str) -> str:
    """The section of a store behind the gateway."""
    return bucket(folder, weed, space).replace(weed.endpoint, front.endpoint)


def test_nothing_is_lost_while_a_gateway_answers_for_the_bucket(
    tmp_path: Path, weed: SeaweedFS, front: Gateway
) -> None:
    """What comes meanwhile is the client's, and what waits is there afterwards, also after a crash."""

    async def main() -> None:
        async with sinking() as sink:
            port = sink.port
            with node(tmp_path, "a", shared(tmp_path, weed, front, "away"), sink) as server:
                await sink.stop()
                kept = Load(server.smtp, clients=4, messages_per_session=5, prefix="kept")
                async with kept:
                    await kept.grow(20)
                front.fault = sent_to_page
                refused = Load(server.smtp, clients=2, messages_per_session=5, prefix="refused")
                async with refused:
                    await asyncio.sleep(1)
                assert refused.books.results, "no answer"
                assert all(each.startswith(("451", "452")) for each in refused.books.results)
                await asyncio.to_thread(kill_all, server)
                front.fault = sound
                await asyncio.to_thread(server.start)
                number = len(kept.books.accepted)
                await asyncio.to_thread(until, lambda: waiting(server) == number, "the mail of the dead one")
                await sink.start(port)
                front.fault = NOT_FOUND  # nobody has read the mail yet
                await asyncio.to_thread(flush, server)
                await asyncio.sleep(3)
                assert await asyncio.to_thread(rows, server, "status=held") == []
                front.fault = sound
                await drained(server, books=[kept.books], sink=sink)
                assert balance(kept.books, sink) == 0
                await asyncio.to_thread(server.stop)

    run(main)


def test_a_node_is_taken_over_through_a_gateway_that_fails_now_and_then(
    tmp_path: Path, weed: SeaweedFS, front: Gateway
) -> None:
    """One request of twenty goes wrong, also while the other node reads what the dead one has left."""
    dice = random.Random(20261130)

    async def main() -> None:
        section = shared(tmp_path, weed, front, "fickle")
        async with sinking() as sink:
            port = sink.port
            with node(tmp_path, "a", section, sink) as a, node(tmp_path, "b", section, sink) as b:
                await sink.stop()
                front.fault = sometimes(lambda: dice.random() < 1 / 20, lambda: dice.choice(NOW_AND_THEN))
                load = Load(a.smtp, clients=6, messages_per_session=5)
                async with load:
                    await load.grow(100)
                await asyncio.to_thread(kill_all, a)
                await sink.start(port)
                await drained(b, books=[load.books], sink=sink)
                front.fault = sound
                await asyncio.to_thread(until, lambda: waiting(b) == 0, "an empty queue")
                assert rows(b, "status=held") == []
                assert "Traceback" not in a.log() + b.log()
                await asyncio.to_thread(b.stop)

    run(main)


def test_a_start_while_one_of_two_gateways_is_away(tmp_path: Path, weed: SeaweedFS, front: Gateway) -> None:
    front.fault = silent

    async def main() -> None:
        section = bucket(tmp_path, weed, "two").replace(
            f'"{weed.endpoint}"', f'"{front.endpoint}", "{weed.endpoint}"'
        )
        async with sinking() as sink:
            port = sink.port
            with node(tmp_path, "a", section, sink) as server:
                assert "not tried, for it does not answer" in server.log()
                assert f"at {front.endpoint}: " in server.log()
                await sink.stop()
                load = Load(server.smtp, clients=2, messages_per_session=5)
                async with load:
                    await load.grow(5)
                await sink.start(port)
                await drained(server, books=[load.books], sink=sink)
                await asyncio.to_thread(server.stop)

    run(main)


def test_a_server_that_ignores_conditions_is_refused(tmp_path: Path, weed: SeaweedFS, front: Gateway) -> None:
    """Two nodes would believe that a stream is theirs."""
    front.fault = unconditional
    server = Site(tmp_path)
    server.set_up(queue='stores = ["shared"]\n', more=shared(tmp_path, weed, front, "lies"), workers=1)
    try:
        server.start(wait=False)
        process = server.process
        assert process is not None
        until(lambda: process.poll() is not None, lambda: f"an end; log: {server.log()}")
        assert process.returncode == 1
        assert "it ignores the condition of a conditional write" in server.log()
        assert "Traceback" not in server.log()
    finally:
        server.end()
