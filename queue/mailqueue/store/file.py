"""The store of one machine: a folder of files. The default, and it needs nothing.

Keys are paths below the folder. `mailqueue.store.disk` says what a write does to the disk and why it is
durable; here it runs in a pool of threads, so that a flush stops no session, and errors of the operating
system become ours.

    no room (ENOSPC, EDQUOT)                       StoreFull
    not permitted, not a folder                    StoreRefused
    anything else: an I/O error, read-only         StoreUnavailable

A file system is read-only after an error, or while somebody works on it: that passes. Reading goes on
meanwhile, for a store that only reads writes nothing.

A disk that hangs makes calls hang, as no call to the kernel can be given up: callers that have a deadline
cancel. What writes octets in memory may be cancelled at once; a `put_new` of a Blob ends when its thread
has stopped reading the Blob, so that its owner may close it then.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from mailqueue.store.base import (
    Blob,
    MissingKey,
    SealResult,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreRefused,
    StoreUnavailable,
    check_key,
    check_prefix,
    seal_alone,
)
from mailqueue.store.disk import FULL, Disk
from mailqueue.threads import started_pool

THREADS = 8
"""Threads for waiting on the disk: group commits (a few in flight), bodies, reads."""
_REFUSED = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
        *(errno.ENAMETOOLONG, errno.EOPNOTSUPP, errno.ENOSYS),
    }
)

T = TypeVar("T")


class FileStore:
    """Objects as files below one folder. Several processes of one machine may use it at the same time."""

    __slots__ = ("_disk", "_pool", "name")

    def __init__(self, path: str | os.PathLike[str], *, threads: int = THREADS) -> None:
        """Open the folder; it is made when only the last part of the path is missing.

        Blocks for a moment. Raises StoreError.
        """
        self.name = f"file:{os.fspath(path)}"
        try:
            self._disk = Disk(Path(path))
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise StoreMissing(self.name, "opening it: the folder above it does not exist") from error
            raise self._translated(error, "opening it") from error
        try:
            self._pool = started_pool(threads, "queue-disk")
        except OSError as error:
            self._disk.close()
            raise self._translated(error, "starting its threads") from error

    @property
    def room(self) -> int:
        """Octets that new mail may take; less than 0 when what is left is for what makes room."""
        return self._disk.room

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        """Create an object; it is on the disk when this returns. Raises also what `data.chunks` raises."""
        check_key(key)
        stop = threading.Event()
        running = self._start(self._disk.create, key, data, stop)
        try:
            return await asyncio.shield(running)
        except OSError as error:
            raise self._translated(error, f"writing {key}") from error
        except asyncio.CancelledError:
            stop.set()
            running.add_done_callback(_forget)
            if not isinstance(data, bytes):
                await asyncio.wait((running,))
            raise

    async def put(self, key: str, data: bytes) -> None:
        """Create or overwrite an object; after a power cut the old or nothing may be there."""
        check_key(key)
        await self._run(f"writing {key}", self._disk.replace, key, data)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Octets of an object. Raises MissingKey."""
        check_key(key)
        try:
            return await self._start(self._disk.read, key, start, end)
        except FileNotFoundError:
            raise MissingKey(self.name, f"there is no {key}") from None
        except OSError as error:
            raise self._translated(error, f"reading {key}") from error

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        """Keys under `prefix` greater than `after`, sorted."""
        check_prefix(prefix)
        return await self._run(f"listing {prefix or 'it'}", self._disk.names, prefix, after, limit)

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        some = [check_key(key) for key in keys]
        await self._run(f"removing {some[0] if some else 'nothing'}", self._disk.remove, some)

    async def seal_new(self, key: str, seal: bytes) -> SealResult:
        """Try to end a log at this number."""
        return await seal_alone(self, key, seal)

    async def close(self) -> None:
        """Wait for what is running and close the folder."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """The same where nobody can wait for it: it blocks."""
        self._pool.shutdown()
        self._disk.close()

    def _start(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def _run(self, what: str, function: Callable[..., T], *arguments: object) -> T:
        try:
            return await self._start(function, *arguments)
        except OSError as error:
            raise self._translated(error, what) from error

    def _translated(self, error: OSError, what: str) -> StoreError:
        kind: type[StoreError] = StoreUnavailable
        if error.errno in FULL:
            kind = StoreFull
        elif error.errno in _REFUSED:
            kind = StoreRefused
        return kind(self.name, f"{what}: {error.strerror or error}")


def _forget(future: asyncio.Future[bool]) -> None:
    """Nobody waits for it any more: its error is nobody's business."""
    if not future.cancelled():
        future.exception()
