"""A folder on a disk without room: what exists can be overwritten, and nothing else is pretended."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailqueue.store.base import StoreFull, StoreUnavailable
from mailqueue.store.disk import Disk
from mailqueue.store.file import FileStore


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
