"""Nodes whose queue is in a cloud, by Google's and Azure's protocols: what `tests.scenarios.test_queue_nodes`
shows of S3's in full, the way of one message, and how the credentials get there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.load import run, sinking
from tests.peers.objectservers import CLOUDS, ObjectServer, running
from tests.peers.queuesite import BUCKET, bucket, burns, node
from tests.peers.running import until
from tests.peers.site import Site

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module", params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[ObjectServer]:
    with running(request.param) as server:
        server.make_bucket(BUCKET)
        yield server


def test_a_node_burns_and_the_other_delivers_its_mail(tmp_path: Path, cloud: ObjectServer) -> None:
    """One has its credentials from the environment, the other from files."""

    async def main() -> None:
        from_environment = bucket(tmp_path, cloud, "nodes", credentials=False)
        from_files = bucket(tmp_path, cloud, "nodes")
        async with sinking() as sink:
            with (
                node(tmp_path, "a", from_environment, sink, environment=cloud.environment()) as a,
                node(tmp_path, "b", from_files, sink) as b,
            ):
                heard = await asyncio.to_thread(b.command, "queue", "probe")
                assert f"{cloud.scheme}://{BUCKET}/nodes at {cloud.endpoint}: ok" in heard
                await burns(a, b, sink, 60)

    run(main)


def test_a_node_without_good_credentials_says_so(tmp_path: Path, cloud: ObjectServer) -> None:
    """It does not start, and names the store and what that answered."""
    word, wrong = next(iter(cloud.wrong_credentials().items()))
    server = Site(tmp_path)
    server.environment |= cloud.environment(wrong)
    server.set_up(
        queue='stores = ["shared"]\n', more=bucket(tmp_path, cloud, "wrong", credentials=False), workers=1
    )
    try:
        server.start(wait=False)
        process = server.process
        assert process is not None
        until(lambda: process.poll() is not None, lambda: f"an end; log: {server.log()}")
        assert process.returncode == 1
        said = [line for line in server.log().splitlines() if line.startswith("tamis: cannot start: ")]
        assert len(said) == 1, server.log()
        where = f"{cloud.scheme}://{BUCKET}/wrong at {cloud.endpoint}: writing probe/"
        assert where in said[0]
        assert word in said[0]
        assert "Traceback" not in server.log()
    finally:
        server.end()
