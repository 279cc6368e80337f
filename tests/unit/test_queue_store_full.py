"""A disk without room: mail is refused first, and what makes room can still be written."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailqueue.keys import log_prefix
from mailqueue.model import Change, QueueUnavailable, Status
from mailqueue.store import disk
from mailqueue.store.base import UNBOUNDED, StoreFull, StoreUnavailable, room_of
from mailqueue.store.disk import RESERVE, Disk
from mailqueue.store.file import FileStore
from mailqueue.store.memory import MemoryStore
from mailqueue.store.replicated import Member, Replicated
from tests.simulation.loop import run
from tests.simulation.queues import message, open_queue


def failing(code: int) -> Callable[..., Any]:
    def write(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return write


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_signs_of_life_need_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    async def main() -> None:
        store = FileStore(str(tmp_path / "queue"))
        await store.put("hb/one", b"a long sign of life")
        monkeypatch.setattr(Disk, "_write", failing(code))
        for octets in (b"short", b"a much longer sign of life"):
            await store.put("hb/one", octets)
            assert await store.get("hb/one") == octets
        with pytest.raises(StoreFull):
            await store.put("hb/two", b"new")
        with pytest.raises(StoreFull):
            await store.put_new("log/one", b"entry")
        monkeypatch.undo()
        await store.put("hb/one", b"room again")
        assert await store.get("hb/one") == b"room again"
        assert await store.list_after("hb/") == ["hb/one"]
        await store.close()

    asyncio.run(main())


def size_of_disk(monkeypatch: pytest.MonkeyPatch, **values: int) -> None:
    """What the kernel says of the file system: blocks of 4,096 octets, and files."""
    known = {"f_frsize": 4096, "f_blocks": 0, "f_bavail": 0, "f_files": 0, "f_favail": 0, **values}
    monkeypatch.setattr(os, "fstatvfs", lambda fd: SimpleNamespace(**known))
    monkeypatch.setattr(disk, "_MEASURED", 0.0)


@pytest.mark.parametrize(
    ("values", "room"),
    [
        ({"f_blocks": 1 << 24, "f_bavail": 1 << 20}, (1 << 32) - RESERVE),
        ({"f_blocks": 1 << 24, "f_bavail": RESERVE // 4096 - 1}, -4096),
        ({}, UNBOUNDED),  # it does not tell
        ({"f_blocks": 2048, "f_bavail": 300}, 44 * 4096),  # a small one: an eighth is kept
        ({"f_blocks": 1 << 24, "f_bavail": 1 << 20, "f_files": 80_000, "f_favail": 10_001}, 4096),
        ({"f_blocks": 1 << 24, "f_bavail": 1 << 20, "f_files": 800, "f_favail": 99}, -4096),
    ],
)
def test_some_room_is_not_for_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, int], room: int
) -> None:
    async def main() -> None:
        store = FileStore(str(tmp_path / "queue"))
        assert room_of(store) > 0
        size_of_disk(monkeypatch, **values)
        await store.put("hb/one", b"looks again")
        assert room_of(store) == room
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(("copies", "room"), [(2, 5), (3, -1)])
def test_the_room_of_several_stores_is_what_enough_of_them_have(copies: int, room: int) -> None:
    class Full(MemoryStore):
        def __init__(self, room: int) -> None:
            super().__init__()
            self.room = room

    stores = [Full(-1), MemoryStore(), Full(5)]
    assert room_of(Replicated([Member(store) for store in stores], copies, 0)) == room


def test_without_room_mail_is_refused_and_what_makes_room_is_written() -> None:
    class Full(MemoryStore):
        room = UNBOUNDED

    async def main() -> None:
        store = Full()
        queue = await open_queue(store, snapshot_every=60.0, housekeeping=30.0)
        ids = [await queue.enqueue(message(b"x" * 300)) for _ in range(50)]
        store.room = 200
        with pytest.raises(QueueUnavailable, match="no room"):
            await queue.enqueue(message(b"x" * 300))
        store.room = 0
        assert queue.stats().room == 0
        for id in ids:
            change = Change(0, Status.DELIVERED, attempted=1.0)
            queue._loop.create_task(queue.settle(id, [change], urgent=True))
            await asyncio.sleep(0.2)
        await asyncio.sleep(8.0)
        # One entry holds many notes, and all that they are about is gone within seconds.
        assert queue.stats().entries < 50 + 50
        assert len(await store.list_after(log_prefix(queue.stream))) < 5
        store.room = UNBOUNDED
        await queue.enqueue(message(b"x" * 300))
        await queue.close()

    run(main())


def test_other_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        store = FileStore(str(tmp_path / "queue"))
        await store.put("hb/one", b"old")
        monkeypatch.setattr(Disk, "_write", failing(errno.EIO))
        with pytest.raises(StoreUnavailable):
            await store.put("hb/one", b"new")
        assert await store.get("hb/one") == b"old"
        await store.close()

    asyncio.run(main())
