"""Large bodies: objects of their own, named by their content, stored once for equal ones.

A body lies in the bucket of the day on which it was stored. Buckets are deleted whole when no message can be
alive that was queued on that day (`QueueSettings.lifetime` and `body_keep`); a message that lives longer -
held, or with a late expiry - has its body stored again in a newer bucket first (`mailqueue.housekeeping`). So
nobody counts references. Clocks may be wrong about the day: that of the node that is most behind counts.

Hashing and temporary files of large bodies work in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Container, Iterator

from mailqueue.keys import BODIES, body_key, body_prefix
from mailqueue.model import BytesBlob, CorruptMessage
from mailqueue.records import BodyRef
from mailqueue.store.base import CHUNK, Blob, MissingKey, Store

_IN_LOOP = 1024 * 1024
"""Octets in memory that are hashed, and put into a file, without a thread: a millisecond."""
_IN_MEMORY = 256 * 1024
"""Octets of a body that is read into memory; others go to a temporary file, for thousands may be sent at the
same time."""
_KNOWN = 1000
"""Bodies of which a process remembers that it has stored them."""
_RANGE = 4 * 1024 * 1024
"""Octets of one range request."""


def day_of(wall: float) -> str:
    """The bucket of a moment (UTC)."""
    return time.strftime("%Y%m%d", time.gmtime(max(wall, 0.0)))


class FileBlob:
    """Octets in an unlinked temporary file, which ends with this object."""

    __slots__ = ("_fd", "size")

    def __init__(self, folder: str | None) -> None:
        """An empty file in `folder`, None for the system's. Raises OSError."""
        fd, path = tempfile.mkstemp(prefix="mailqueue-", dir=folder)
        os.unlink(path)
        self._fd = fd
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add octets at the end. Raises OSError."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(data)

    def chunks(self) -> Iterator[bytes]:
        """All octets in order. Raises OSError."""
        at = 0
        while at < self.size:
            chunk = os.pread(self._fd, CHUNK, at)
            if not chunk:
                raise OSError("a temporary file is shorter than what was written to it")
            at += len(chunk)
            yield chunk

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


class StoredBodies:
    """Stores bodies, and remembers which it has stored: equal ones of one process are sent once.

    That an object is there does not say that it is durable: with several stores it may be on too few of them.
    Only `put_new` tells, so nothing is skipped but what this process has put itself.
    """

    __slots__ = ("_known", "_store")

    def __init__(self, store: Store) -> None:
        """Nothing is known yet."""
        self._store = store
        self._known: OrderedDict[BodyRef, None] = OrderedDict()

    def forget(self) -> None:
        """What was stored may be gone."""
        self._known.clear()

    async def put(self, body: bytes | Blob, day: str) -> BodyRef:
        """Have a body in the bucket of `day`, durably. Raises StoreError, and CorruptMessage when something
        else is stored under its name."""
        ref = BodyRef(day, await _digest(body), len(body) if isinstance(body, bytes) else body.size)
        if ref not in self._known:
            key = body_key(day, ref.digest)
            if not await self._store.put_new(key, body):
                raise CorruptMessage(f"{key}: what is stored there has not the octets of its name")
            self._known[ref] = None
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return ref


async def fetch_body(store: Store, ref: BodyRef, spill_dir: str | None) -> Blob:
    """A stored body, checked against its name. Raises StoreError, CorruptMessage and OSError."""
    key, hasher = body_key(ref.day, ref.digest), hashlib.sha256()
    small = ref.size <= _IN_MEMORY
    parts: list[bytes] = []
    file = None if small else FileBlob(spill_dir)
    at = 0
    while at < ref.size:
        try:
            data = await store.get(key, at, min(at + _RANGE, ref.size))
        except MissingKey:
            raise CorruptMessage(f"{key}: the body is missing") from None
        if not data:
            break
        at += len(data)
        if file is None:
            hasher.update(data)
            parts.append(data)
        elif len(data) <= _IN_LOOP:
            _keep(file, hasher, data)
        else:
            await asyncio.to_thread(_keep, file, hasher, data)
    if hasher.digest() != ref.digest:
        raise CorruptMessage(f"{key}: the body is damaged")
    return file if file is not None else BytesBlob(b"".join(parts))


async def restore_body(store: Store, ref: BodyRef, day: str, spill_dir: str | None) -> BodyRef:
    """Have a stored body in a newer bucket too. Raises as `fetch_body`."""
    body = await fetch_body(store, ref, spill_dir)
    return await StoredBodies(store).put(body.data if isinstance(body, BytesBlob) else body, day)


async def delete_buckets(store: Store, before: str, keep: Container[str] = ()) -> int:
    """Delete the bodies of all days before `before`, but not the keys to `keep`; returns how many. Raises
    StoreError."""
    deleted = 0
    after = ""
    while True:
        keys = await store.list_after(BODIES, after, 1000)
        old = [key for key in keys if key < body_prefix(before)]
        if not old:
            return deleted
        dead = [key for key in old if key not in keep]
        await store.delete(dead)
        deleted += len(dead)
        after = old[-1]


def _keep(file: FileBlob, hasher: hashlib._Hash, data: bytes) -> None:
    hasher.update(data)
    file.append(data)


async def _digest(body: bytes | Blob) -> bytes:
    if isinstance(body, bytes):
        if len(body) <= _IN_LOOP:
            return hashlib.sha256(body).digest()
        return await asyncio.to_thread(lambda: hashlib.sha256(body).digest())
    if body.size <= _IN_LOOP:
        return _digest_blob(body)
    return await asyncio.to_thread(_digest_blob, body)


def _digest_blob(body: Blob) -> bytes:
    hasher = hashlib.sha256()
    for chunk in body.chunks():
        hasher.update(chunk)
    return hasher.digest()
