"""A worker that starts while its queue's folder cannot be opened: what passes is waited for."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailqueue.store.base import StoreMissing, StoreUnavailable
from mailqueue.store.memory import MemoryStore
from mta.config.queueing import Queue, QueueStore
from mta.spool import stores
from tests.dialog.queueing import QUEUED, MailStore, eventually
from tests.dialog.server import run, serving
from tests.dialog.test_mta_queue_keep import BUSY, client_of, send


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.spool.service.START_PATIENCE", 0.3)
    monkeypatch.setattr("mta.spool.service.AGAIN", 0.1)


class Trouble:
    """A system call that fails for the queue's folder and what is in it, while `number` is not 0."""

    def __init__(self, queue: Path, number: int, real: Callable[..., Any]) -> None:
        self.number = number
        self._queue = str(queue)
        self._real = real

    def __call__(self, path: Any, *arguments: Any, **rest: Any) -> Any:
        below = rest.get("dir_fd")
        whole = str(path) if below is None else f"{os.readlink(f'/proc/self/fd/{below}')}/{path}"
        if self.number and f"{whole}/".startswith(f"{self._queue}/"):
            raise OSError(self.number, os.strerror(self.number))
        return self._real(path, *arguments, **rest)


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize(
    ("call", "number"),
    [
        *(("mkdir", number) for number in (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)),
        *(("open", number) for number in (errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EIO)),
    ],
)
def test_what_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool, call: str, number: int
) -> None:
    """Mail is delivered meanwhile, what would have to wait is the client's, and then the queue opens."""
    queue = tmp_path / "queue"
    if is_there:
        queue.mkdir(mode=0o700)
    trouble = Trouble(queue, number, getattr(os, call))
    monkeypatch.setattr(os, call, trouble)

    async def main() -> None:
        async with serving(tmp_path, queue="", store=MailStore(bob=BUSY)) as server:
            service = server.daemon._queue
            assert service is not None
            client = await client_of(server)
            assert await send(client, "bob") == "451 4.2.0 busy; the queue is not ready\r\n"
            assert await send(client, "carol") == "250 2.0.0 kept\r\n"
            assert service.trouble.endswith(f": {os.strerror(number)}")
            before = len(os.listdir("/proc/self/fd"))
            await asyncio.sleep(0.5)
            assert len(os.listdir("/proc/self/fd")) <= before + 1, "attempts leave nothing open"
            trouble.number = 0
            await eventually(lambda: service.queue)
            assert QUEUED.match(await send(client, "bob"))

    run(main)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOTDIR])
@pytest.mark.parametrize("is_there", [True, False])
def test_what_an_administrator_must_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool, number: int
) -> None:
    queue = tmp_path / "queue"
    if is_there:
        queue.mkdir(mode=0o700)
    monkeypatch.setattr(os, "mkdir", Trouble(queue, number, os.mkdir))

    async def main() -> None:
        with pytest.raises(ValueError, match=f"^queue: file:{queue}: .*{os.strerror(number)}$"):
            async with serving(tmp_path, queue="", store=MailStore()):
                pass

    run(main)


def test_a_folder_above_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(queue: Queue, named: dict[str, QueueStore]) -> object:
        return stores.open_stores(queue, {"local": QueueStore(url=f"file:{tmp_path}/none/queue")})

    monkeypatch.setattr("mta.daemon_queue.open_stores", missing)

    async def main() -> None:
        with pytest.raises(ValueError, match=r"^queue: .*the folder above it does not exist") as caught:
            async with serving(tmp_path, queue="", store=MailStore()):
                pass
        assert isinstance(caught.value.__cause__, StoreMissing)

    run(main)


def test_of_several_stores_one_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were opened before it are closed: the next attempt comes in some seconds."""
    monkeypatch.setattr(os, "mkdir", Trouble(tmp_path / "two", errno.EROFS, os.mkdir))
    monkeypatch.setattr("mailqueue.store.urls.open_store", lambda url, options: MemoryStore(url))
    named = {
        "one": QueueStore(url=f"file:{tmp_path}/one"),
        "bucket": QueueStore(url="s3://bucket"),
        "two": QueueStore(url=f"file:{tmp_path}/two"),
    }
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreUnavailable, match="opening it: Read-only file system"):
        stores.open_stores(Queue(stores=tuple(named), copies=2), named)
    assert len(os.listdir("/proc/self/fd")) == before
