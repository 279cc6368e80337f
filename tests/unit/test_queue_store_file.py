"""The FileStore: errors of the disk, leftovers of the dead, races of processes, and who may read."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mailqueue.store import scratch
from mailqueue.store.base import MissingKey, StoreError, StoreFull, StoreRefused, StoreUnavailable
from mailqueue.store.file import FileStore
from tests.peers.running import ROOT
from tests.peers.storecontract import Pieces

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(main)


def left_over(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob(".tmp/*/*") if path.name != scratch.LOCK)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, StoreUnavailable),
        (errno.EACCES, StoreRefused),
        (errno.EPERM, StoreRefused),
        (errno.EIO, StoreUnavailable),
        (errno.EMFILE, StoreUnavailable),
    ],
)
@pytest.mark.parametrize("call", ["open", "write", "link"])
def test_errors_of_the_system(
    number: int, kind: type[StoreError], call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **rest: object) -> None:
        raise OSError(number, os.strerror(number))

    async def main() -> None:
        store = FileStore(tmp_path / "queue")
        await store.put_new("log/s/0", b"entry")
        with monkeypatch.context() as patched:
            patched.setattr(os, call, fail)
            with pytest.raises(StoreError) as caught:
                await store.put_new("log/s/1", b"entry")
        assert type(caught.value) is kind
        assert str(caught.value) == f"{store.name}: writing log/s/1: {os.strerror(number)}"
        assert left_over(tmp_path / "queue") == []
        assert await store.list_after("") == ["log/s/0"]
        assert await store.put_new("log/s/1", b"entry")
        await store.close()

    run(main())


def flushes(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> list[str]:
    """Let fsync fail for chosen descriptors; returns the paths that were flushed."""
    flushed = []
    real = os.fsync

    def fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        flushed.append(path)
        if fails(fd):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return flushed


def test_a_file_that_cannot_be_flushed_never_gets_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        store = FileStore(tmp_path / "queue")
        with monkeypatch.context() as patched:
            flushes(patched, lambda fd: stat.S_ISREG(os.fstat(fd).st_mode))
            with pytest.raises(StoreUnavailable, match="Input/output error"):
                await store.put_new("log/s/0", b"entry")
        assert await store.list_after("") == []
        assert left_over(tmp_path / "queue") == []
        # The next attempt writes another file: the one whose pages may be lost is gone.
        assert await store.put_new("log/s/0", b"entry")
        await store.close()

    run(main())


def test_after_a_folder_that_cannot_be_flushed_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        store = FileStore(tmp_path / "queue")
        await store.put_new("log/s/0", b"entry")
        with monkeypatch.context() as patched:
            flushes(patched, lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode))
            with pytest.raises(StoreUnavailable, match="Input/output error"):
                await store.put_new("log/s/1", b"entry")
        # The kernel would say now that all is well.
        for write in (
            store.put_new("log/s/1", b"entry"),
            store.put_new("log/s/2", b"entry"),
            store.put("hb/s", b"1"),
            store.delete(["log/s/0"]),
        ):
            with pytest.raises(StoreUnavailable, match=r"nothing is written since a flush failed \(Input"):
                await write
        assert await store.get("log/s/0") == b"entry"
        await store.close()

    run(main())


def test_every_folder_on_the_way_is_flushed_even_if_another_process_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "queue"

    async def main() -> None:
        store = FileStore(root)
        await store.put("hb/s", b"1")  # before the first write the way down to the root is flushed
        (root / "log" / "s").mkdir(parents=True, mode=0o700)
        flushed = flushes(monkeypatch, lambda fd: False)
        await store.put_new("log/s/0", b"entry")
        assert flushed[1:] == [str(root), str(root / "log"), str(root / "log/s")]
        del flushed[:]
        await store.put_new("log/s/1", b"entry")
        assert flushed[1:] == [str(root / "log/s")]
        del flushed[:]
        # Found with the same octets: who wrote it may not have come so far as to flush the folder.
        assert await store.put_new("log/s/1", b"entry")
        assert flushed[1:] == [str(root / "log/s")]
        await store.close()

    run(main())


def test_a_folder_that_another_process_removed_is_made_and_flushed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "queue"

    async def main() -> None:
        one, other = FileStore(root), FileStore(root)
        await one.put_new("body/20260101/a", b"1")
        await other.delete(["body/20260101/a"])
        assert not (root / "body/20260101").exists()
        assert (root / "body").exists()
        flushed = flushes(monkeypatch, lambda fd: False)
        assert await one.put_new("body/20260101/b", b"2")
        assert flushed[1:] == [str(root), str(root / "body"), str(root / "body/20260101")]
        await other.delete(["body/20260101/b"])
        await one.put("body/20260101/c", b"3")
        assert await other.list_after("") == ["body/20260101/c"]
        await one.close()
        await other.close()

    run(main())


def test_more_folders_than_are_kept_open(tmp_path: Path) -> None:
    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        store = FileStore(tmp_path / "queue")
        keys = [f"log/{number:03}/0" for number in range(200)]
        assert all(await asyncio.gather(*(store.put_new(key, b"x") for key in keys)))
        assert await store.list_after("log/") == keys
        descriptors = len(os.listdir("/proc/self/fd"))
        assert descriptors - before < 120
        await store.delete(keys)
        assert await store.list_after("") == []
        await store.close()
        assert len(os.listdir("/proc/self/fd")) < descriptors - 50

    run(main())


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    async def main() -> None:
        store = FileStore(tmp_path / "queue")
        await store.put_new("log/s/0", b"x")
        await store.put("hb/s", b"x")
        for path in [tmp_path / "queue", *(tmp_path / "queue").rglob("*")]:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        await store.close()

    before = os.umask(0)
    try:
        run(main())
    finally:
        os.umask(before)


def test_what_is_not_ours_is_not_listed(tmp_path: Path) -> None:
    root = tmp_path / "queue"

    async def main() -> None:
        store = FileStore(root)
        await store.put_new("log/s/0", b"x")
        (root / "lost+found").mkdir(mode=0)
        (root / ".hidden").write_text("x")
        (root / "log" / "s" / "0~").write_text("x")
        assert await store.list_after("") == ["log/s/0"]
        await store.close()

    run(main())


def test_processes_that_race_for_keys(tmp_path: Path) -> None:
    """Four processes create the same 50 keys: each key has one winner, and holds what that one wrote."""
    root = tmp_path / "queue"
    script = (
        "import asyncio, sys\n"
        "from mailqueue.store.file import FileStore\n"
        "async def main():\n"
        f"    store = FileStore({str(root)!r})\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    keys = [f'lease/{n % 5}/{n}' for n in range(50)]\n"
        "    won = await asyncio.gather(*(store.put_new(key, sys.argv[1].encode()) for key in keys))\n"
        "    print(' '.join(key for key, mine in zip(keys, won) if mine))\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "queue")}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        for number in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"ready\n"
    won: dict[str, str] = {}
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(b"go\n")
        racer.stdin.flush()
    for number, racer in enumerate(racers):
        output, _ = racer.communicate(timeout=30)
        for key in output.decode().split():
            assert key not in won
            won[key] = str(number)
    assert len(won) == 50
    assert {key: (root / key).read_text() for key in won} == won


class Slow(Pieces):
    """A Blob that waits after its first piece; counts who still reads it."""

    def __init__(self) -> None:
        super().__init__(b"x" * 1000, 3)
        self.reading = threading.Event()
        self.go_on = threading.Event()
        self.ended = False

    def chunks(self) -> Iterator[bytes]:
        for piece in super().chunks():
            yield piece
            self.reading.set()
            self.go_on.wait(10)
        self.ended = True


def test_a_cancelled_blob_is_not_read_any_more(tmp_path: Path) -> None:
    async def main() -> None:
        store = FileStore(tmp_path / "queue")
        blob = Slow()
        task = asyncio.ensure_future(store.put_new("body/1/a", blob))
        await asyncio.to_thread(blob.reading.wait, 10)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()  # the thread is still inside the Blob
        blob.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not blob.ended
        assert await store.list_after("") == []
        assert left_over(tmp_path / "queue") == []
        await store.close()

    run(main())


def test_the_error_of_a_blob_is_passed_on(tmp_path: Path) -> None:
    class Broken(Pieces):
        def chunks(self) -> Iterator[bytes]:
            yield self.octets
            raise LookupError("the spill is gone")

    async def main() -> None:
        store = FileStore(tmp_path / "queue")
        with pytest.raises(LookupError, match="the spill is gone"):
            await store.put_new("body/1/a", Broken(b"x", 2))
        assert await store.list_after("") == []
        assert left_over(tmp_path / "queue") == []
        await store.close()

    run(main())


def test_a_key_cannot_be_a_folder_of_another(tmp_path: Path) -> None:
    async def main() -> None:
        store = FileStore(tmp_path / "queue")
        await store.put_new("log/s", b"x")
        with pytest.raises(StoreRefused, match="Not a directory"):
            await store.put_new("log/s/0", b"x")
        with pytest.raises((MissingKey, StoreRefused)):
            await store.get("log/s/0")
        await store.close()

    run(main())


def refuse_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_the_system_need_give_no_threads_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of processes counts them, too: a commit must neither hang nor be done behind our back."""

    async def main() -> None:
        store = FileStore(tmp_path / "queue")
        monkeypatch.setattr(threading.Thread, "start", refuse_thread)
        puts = (store.put_new(f"log/s/{number}", b"entry") for number in range(20))
        assert all(await asyncio.gather(*puts))
        store.close_now()

    run(main())


def test_a_store_without_threads_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(threading.Thread, "start", refuse_thread)
    with pytest.raises(StoreUnavailable, match="starting its threads"):
        FileStore(tmp_path / "queue")
    assert len(os.listdir("/proc/self/fd")) == before
