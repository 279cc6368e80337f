"""What docs/queue.md says to do when something is lost, done: all that was accepted arrives, once."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.load import Load, copies, message, run, sink_backend, sinking
from tests.peers.queuesite import BUCKET, SHORT, balance, bucket, drained, kill_all, queue_site
from tests.peers.running import ROOT
from tests.peers.seaweedfs import SeaweedFS, running_seaweedfs
from tests.peers.site import Site

pytestmark = pytest.mark.scenario

BODY = 400_000
"""Octets of a message whose body is an object of its own."""


@pytest.fixture(scope="module")
def weed() -> Iterator[SeaweedFS]:
    with running_seaweedfs() as server:
        server.make_bucket(BUCKET)
        yield server


def folder_section(name: str, folder: Path) -> str:
    return f'[queue_stores.{name}]\nurl = "file:{folder}"\n'


def queue(*stores: str) -> str:
    return f'retry = ["1h", "1s"]\n{SHORT}node = "a"\nstores = [{", ".join(map(repr, stores))}]\n'


def the_folder(server: Site, disk: Path, more: str) -> tuple[str, str]:
    """Of a folder and a bucket the folder: make a new, empty one."""
    shutil.rmtree(disk)
    disk.mkdir()
    return queue("disk", "shared"), more


def the_bucket(server: Site, disk: Path, more: str) -> tuple[str, str]:
    """Of a folder and a bucket the bucket: leave only the folder, and announce its streams."""
    page = (ROOT / "docs" / "queue.md").read_text()
    (script,) = re.findall(r"```sh\ncd /var/lib/tamis/queue\n(.*?)```", page, re.DOTALL)
    assert not (disk / "stream").exists()
    subprocess.run(["/bin/sh", "-e", "-c", script], cwd=disk, check=True)
    return queue("disk"), folder_section("disk", disk)


@pytest.mark.parametrize("lost", [the_folder, the_bucket])
def test_of_a_folder_and_a_bucket_one_is_lost(
    tmp_path: Path, weed: SeaweedFS, lost: Callable[[Site, Path, str], tuple[str, str]]
) -> None:
    disk = tmp_path / "disk"
    more = folder_section("disk", disk) + bucket(tmp_path, weed, lost.__name__)
    log = lose_and_restore(tmp_path, queue("disk", "shared"), more, lambda server: lost(server, disk, more))
    assert ("the queue has another store" in log) == (lost is the_bucket)


def test_a_copy_of_the_folder_is_put_in_its_place(tmp_path: Path) -> None:
    disk, copy = tmp_path / "disk", tmp_path / "copy"

    def lost(server: Site) -> tuple[str, str]:
        shutil.copytree(disk, copy)
        shutil.rmtree(disk)
        shutil.copytree(copy, disk)
        assert server.command("queue", "fsck").rstrip().endswith(": ok")
        assert len(server.command("queue", "list", "--json").splitlines()) > 20
        return queue("disk"), folder_section("disk", disk)

    log = lose_and_restore(tmp_path, queue("disk"), folder_section("disk", disk), lost)
    assert "the queue has another store" not in log, "a copy is the same store"


def test_the_folder_is_moved_to_another_disk(tmp_path: Path) -> None:
    def moved(server: Site) -> tuple[str, str]:
        shutil.copytree(tmp_path / "state" / "queue", tmp_path / "new")
        shutil.rmtree(tmp_path / "state" / "queue")
        return queue("new"), folder_section("new", tmp_path / "new")

    log = lose_and_restore(tmp_path, SHORT + 'node = "a"\nretry = ["1h"]\n', "", moved, end=Site.stop)
    assert re.search(f"the queue has another store.*file:{tmp_path}/state/queue", log)


def lose_and_restore(
    folder: Path,
    words: str,
    more: str,
    lose: Callable[[Site], tuple[str, str]],
    end: Callable[[Site], None] = kill_all,
) -> str:
    """Queue mail, let the machine die, have something done to its stores, and let it start again; its log."""

    async def main() -> None:
        async with sinking() as sink:
            port, backend = sink.port, sink_backend(sink)
            await sink.stop()
            settings: dict[str, Any] = {"backend": backend, "recipients": "all", "workers": 1}
            with queue_site(folder, queue=words, more=more, **settings) as server:
                load = Load(server.smtp, clients=2, messages_per_session=5)
                async with load:
                    await load.grow(25)
                large = Load(server.smtp, clients=1, size=BODY, prefix="large")
                async with large:
                    await large.grow(1)
                await asyncio.to_thread(end, server)
                changed, sections = await asyncio.to_thread(lose, server)
                server.set_up(queue=changed, more=sections, **settings)
                await asyncio.to_thread(server.start)
                await sink.start(port)
                await drained(server, books=[load.books, large.books], sink=sink)
                assert max(copies(sink).values()) == 1
                balance(load.books, sink)
                for name in large.books.accepted:
                    (found,) = (
                        one.octets for one in sink.delivered if f"X-Load: {name}\r\n".encode() in one.octets
                    )
                    assert found.endswith(message(name, BODY))
                await asyncio.to_thread(server.stop)
                logs.append(server.log())

    logs: list[str] = []
    run(main)
    return logs[0]
