"""The queue on an object store: a SeaweedFS of one process on loopback that flushes each write to its disk.

`queue_s3_accept`: messages a second that Tamis answers 250 with 64 sessions while its next hop is down, each
of them durable in the bucket. `queue_s3_requests`: requests that one message costs, all of the queue's
included (heartbeats, housekeeping), at 100 messages a second; `queue_s3_requests_full` at full speed. There
is no peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable

import uvloop

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.filler import BODY, SITE
from bench.queue import Server, offer
from bench.sink import Nowhere
from bench.system import RECIPIENT, SENDER
from bench.tamis import Tamis
from bench.workplace import free_port
from mailqueue.model import NewMessage, QueuedRecipient, Status
from mailqueue.queue import MailQueue
from mailqueue.settings import QueueSettings
from mailqueue.store.base import Blob, SealResult, Store
from mailqueue.store.options import StoreOptions
from mailqueue.store.urls import open_store
from tests.peers.seaweedfs import ACCESS_KEY, SECRET_KEY, running_seaweedfs

SESSIONS = 64
SECONDS = 20.0
QUICK_SECONDS = 4.0
PACE = 100
"""Messages a second."""
WARM_UP = 400
BUCKET = "bench"

_QUEUE = """
[queue]
stores = ["bucket"]
[queue_stores.bucket]
url = "s3://{bucket}/tamis"
endpoints = ["{endpoint}"]
allow_http = true
access_key = "{key}"
secret_file = "{secret}"
"""


class Counting:
    """A store that counts requests (`mailqueue.store.base.Store`)."""

    def __init__(self, store: Store) -> None:
        """Count what goes to `store`."""
        self.name = store.name
        self.requests = 0
        self._store = store

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        """One request."""
        self.requests += 1
        return await self._store.put_new(key, data)

    async def put(self, key: str, data: bytes) -> None:
        """One request."""
        self.requests += 1
        await self._store.put(key, data)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """One request."""
        self.requests += 1
        return await self._store.get(key, start, end)

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        """One request for each thousand keys."""
        found = await self._store.list_after(prefix, after, limit)
        self.requests += 1 + len(found) // 1000
        return found

    async def delete(self, keys: Iterable[str]) -> None:
        """One request for each thousand keys."""
        doomed = list(keys)
        self.requests += 1 + len(doomed) // 1000
        await self._store.delete(doomed)

    async def seal_new(self, key: str, data: bytes) -> SealResult:
        """One request."""
        self.requests += 1
        return await self._store.seal_new(key, data)

    async def close(self) -> None:
        """Nothing is asked."""
        await self._store.close()


def measure(options: Options) -> list[Figure]:
    """Measure with the daemon, then with the library alone."""
    seconds = QUICK_SECONDS if options.quick else SECONDS
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(options.folder))
        seaweedfs = stack.enter_context(running_seaweedfs())
        seaweedfs.make_bucket(BUCKET)
        secret = place / "secret"
        secret.write_text(SECRET_KEY)
        secret.chmod(0o600)
        more = _QUEUE.format(bucket=BUCKET, endpoint=seaweedfs.endpoint, key=ACCESS_KEY, secret=secret)
        with contextlib.ExitStack() as inner:
            tamis = Tamis(place / "tamis", Nowhere(free_port()), more)
            tamis.start()
            inner.callback(tamis.stop)
            tamis.wait()
            server = Server("Tamis", tamis.port, tamis.process, tamis.flush)
            rate = WARM_UP / offer(server, WARM_UP, SESSIONS)
            count = max(WARM_UP, round(rate * seconds / 2 / SESSIONS) * SESSIONS)
            rates = sorted(count / offer(server, count, SESSIONS) for _ in range(options.rounds))
        keys = StoreOptions((seaweedfs.endpoint,), allow_http=True, access_key=ACCESS_KEY, secret=SECRET_KEY)
        paced = uvloop.run(_requests(keys, "paced", PACE, seconds))
        full = uvloop.run(_requests(keys, "full", 0, seconds))
    return [
        Figure("queue_s3_accept", rates[len(rates) // 2], "messages/s", rate=True),
        Figure("queue_s3_requests", paced, "requests"),
        Figure("queue_s3_requests_full", full, "requests"),
    ]


async def _requests(keys: StoreOptions, name: str, pace: float, seconds: float) -> float:
    """Requests a message, at a pace, or with `SESSIONS` messages at a time."""
    store = Counting(open_store(f"s3://{BUCKET}/{name}", keys))
    queue = await MailQueue.open(store, QueueSettings(node=name))
    taken = 0

    async def take() -> None:
        nonlocal taken
        now = time.time()
        recipient = QueuedRecipient(RECIPIENT, SITE, Status.DEFERRED, now + 3600, 1, "451 4.4.1 away", now)
        await queue.enqueue(NewMessage(SENDER, [recipient], b"Subject: bench\r\n\r\n", BODY, created=now))
        taken += 1

    async def keep_taking(until: float) -> None:
        while time.monotonic() < until:
            await take()

    before, until = store.requests, time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        if pace:
            while time.monotonic() < until:
                tasks.create_task(take())
                await asyncio.sleep(1 / pace)
        else:
            for _ in range(SESSIONS):
                tasks.create_task(keep_taking(until))
    requests = store.requests - before
    await queue.close()
    await store.close()
    return requests / taken


if __name__ == "__main__":
    run("queue_s3", measure)
