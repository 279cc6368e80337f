"""What the dialogs about the queue share: looking into it, and a mail store that changes its mind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailqueue.inspect import Inspection
from mailqueue.model import QueuedMessage, Status
from mailqueue.queue import MailQueue
from mailqueue.store.base import Store
from mailqueue.store.file import FileStore
from mta.spool.stores import open_stores
from tests.dialog.backend import ScriptedStore
from tests.dialog.server import Server

STRANGERS = "[policy]\ntrusted_networks = []\n"
"""Nobody vouches for a client that has not logged in."""
QUEUED = re.compile(r"^250 2\.0\.0 queued (?:for \d+ )?as ([0-9A-Z]{26})\r\n$")


class Breakable:
    """A queue's store that fails where the test says so: `fault` is asked with the key of each new object."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.fault: Callable[[str], Exception | None] = lambda key: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put_new(self, key: str, data: Any) -> bool:
        fault = self.fault(key)
        if fault is not None:
            raise fault
        return await self._inner.put_new(key, data)


def breakable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `Breakable` before the stores of the daemons to come."""

    def opened(*arguments: Any) -> Any:
        return Breakable(open_stores(*arguments))

    monkeypatch.setattr("mta.daemon_queue.open_stores", opened)


def store_of(server: Server) -> Breakable:
    """The queue's store."""
    service = server.daemon._queue
    assert service is not None
    assert isinstance(service.store, Breakable)
    return service.store


class MailStore(ScriptedStore):
    """A mail store whose final replies by recipient may be changed; others get 250."""

    def __init__(self, **replies: str) -> None:
        super().__init__(final_reply=self._final)
        self.replies = {f"{name}@example.test": reply for name, reply in replies.items()}

    def _final(self, address: str) -> str:
        return self.replies.get(address, "250 2.0.0 kept")

    def heal(self) -> None:
        """Accept everything from now on."""
        self.replies.clear()

    def got(self, name: str) -> list[bytes]:
        """The messages of a recipient."""
        return [d.octets for d in self.delivered if d.recipient == f"{name}@example.test"]


def queue_of(server: Server) -> MailQueue:
    """The queue of the daemon."""
    service = server.daemon._queue
    assert service is not None
    assert service.queue is not None
    return service.queue


async def flush(server: Server) -> int:
    """Try now what waits."""
    service = server.daemon._queue
    assert service is not None
    assert service.acts is not None
    return await service.acts.flush("")


async def waiting(server: Server) -> list[QueuedMessage]:
    """The messages in the queue, oldest first."""
    queue = queue_of(server)
    names = sorted(queue.live.id_of(handle) for handle in queue.live.handles())
    return [await queue.load(name) for name in names]


async def on_disk(folder: Path) -> list[QueuedMessage]:
    """What somebody would find who came after us now."""
    store = FileStore(str(folder / "queue"))
    try:
        inspection = await Inspection.open(store)
        assert inspection.problems == []
        return [await inspection.load(row.id) for _, row in inspection.messages()]
    finally:
        await store.close()


def statuses(message: QueuedMessage) -> dict[str, Status]:
    """The local parts of recipients, and what is known of them."""
    return {person.address.partition("@")[0]: person.status for person in message.recipients}


async def eventually(true: Callable[[], object], what: str = "") -> None:
    """Wait until something is true; the test's own time limit is the end."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never: {what}")
