"""The folder in which a FileStore writes: made by the first write, and swept of what the dead have left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mailqueue.store import scratch
from mailqueue.store.base import StoreFull
from mailqueue.store.file import FileStore
from tests.peers.running import ROOT
from tests.unit.test_queue_store_file import flushes, left_over, run


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    root = tmp_path / "queue"
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from mailqueue.store.disk import Disk\n"
        f"disk = Disk(Path({str(root)!r}))\n"
        "scratch = disk._prepared()\n"
        "os.close(os.open(scratch.next(), os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=scratch.fd))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "queue")}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        run(write(root))
        assert left_over(root) == ["1"]
        other.kill()
        other.wait()
    run(write(root))
    assert list((root / ".tmp").iterdir()) == []


def test_a_leftover_whose_lock_was_never_made_goes_when_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / "queue" / ".tmp" / "abc"
    folder.mkdir(parents=True)
    run(write(tmp_path / "queue"))
    assert folder.exists()
    old = time.time() - scratch.LEFT_OVER - 10
    os.utime(folder, (old, old))
    run(write(tmp_path / "queue"))
    assert not folder.exists()


def test_a_store_that_only_reads_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "queue"
    run(write(root))
    monkeypatch.setattr(os, "mkdir", no_room)
    flushed = flushes(monkeypatch, lambda fd: False)

    async def main() -> None:
        store = FileStore(root)
        assert await store.get("hb/s") == b"1"
        assert await store.list_after("") == ["hb/s"]
        with pytest.raises(StoreFull, match="writing hb/s: No space left"):
            await store.put("hb/s", b"2")
        await store.close()

    before = root.stat().st_mtime_ns
    run(main())
    assert root.stat().st_mtime_ns == before
    assert flushed == [str(tmp_path)]  # before the write


def test_no_room_for_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write tries again, and leaves no folder and nothing open behind."""
    root = tmp_path / "queue"

    async def main() -> None:
        store = FileStore(root)
        with monkeypatch.context() as patched:
            patched.setattr(scratch, "_lock", no_room)
            for _ in range(3):
                with pytest.raises(StoreFull):
                    await store.put("hb/s", b"1")
                assert list((root / ".tmp").iterdir()) == []
                opened.append(len(os.listdir("/proc/self/fd")))
        await store.put("hb/s", b"1")
        await store.close()

    opened: list[int] = []
    run(main())
    assert opened[0] == opened[-1]


def no_room(*arguments: object, **rest: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def write(root: Path) -> None:
    store = FileStore(root)
    await store.put("hb/s", b"1")
    await store.close()
