"""The contract of every store: five calls on immutable keys, one for seals, and the errors they raise.

Everything the queue promises rests on one primitive, `put_new`: of all who create a key at the same time,
through whatever endpoint, exactly one succeeds, and what it wrote is durable when it hears so. `probe`
(mailqueue.store.probe) refuses a store that does not keep this.

Keys are relative to the store's prefix, which is the queue's name space: the first segment of a key says
what it is ("log/...", "lease/...", see `mailqueue.keys`). No key is a folder of another: with "a/b" there
is no "a". Stores do not look at values, with one exception:
an object under "log/" that begins with `SEAL_MARK` is a seal. A seal ends the log of a process, and it is
the one kind of object that a writer other than the owner of the log may create there, so a replicated
store has to tell it from an entry (see `mailqueue.store.replicated`).

Beyond the five calls, `seal_new` exists because sealing is more than one `put_new` when there are several
stores. With one store it is `seal_alone`.

Every call may be cancelled at any time; the effect of a cancelled `put_new`, `put` or `delete` is unknown,
as after `StoreUnavailable`. Repeating the same call with the same octets is always safe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

SEAL_MARK = b"SEAL\n"
"""First octets of a seal. No log entry begins with them."""
KEY_MAX = 512
"""Octets of the longest key; object stores allow about 1,000 with the prefix (S3: 1,024)."""
CHUNK = 256 * 1024
"""Octets of a large object that are read, compared or copied at a time."""
SEGMENT = r"[A-Za-z0-9_]{1,200}"
"""One part of a key; file systems allow 255 octets. All its characters sort after the slash: some object
stores list folder by folder, and only so is that the order of the keys."""
_KEY = re.compile(rf"{SEGMENT}(?:/{SEGMENT})*")
_PREFIX = re.compile(rf"(?:{SEGMENT}/)*")


class StoreError(Exception):
    """A store did not do what it was asked.

    `store` is its name (a URL without secrets), `text` what went wrong in words for an administrator.
    """

    def __init__(self, store: str, text: str) -> None:
        """`text` says what was tried and what the answer was."""
        super().__init__(f"{store}: {text}")
        self.store = store
        self.text = text


class StoreUnavailable(StoreError):
    """Try again later: no answer, an I/O error, read-only. Whether a write had its effect is unknown."""


class StoreFull(StoreUnavailable):
    """No room: disk, quota or limit of the bucket."""


class StoreRefused(StoreError):
    """Credentials, permission, no such bucket, or a store that failed the probe: an administrator
    must act."""


class StoreMissing(StoreRefused):
    """What the store would be kept in is not there: no such bucket, no folder above ours."""


class MissingKey(StoreError):
    """There is no such object."""


@runtime_checkable
class Blob(Protocol):
    """Octets that may be too large for memory. They do not change."""

    @property
    def size(self) -> int:
        """Octets."""

    def chunks(self) -> Iterator[bytes]:
        """All octets in order, in pieces of any size; may be called again, and from several threads, each
        with an iterator of its own."""


class SealResult(NamedTuple):
    """What became of an attempt to end a log at some number."""

    sealed: bool
    """True: from this number on the old owner can commit nothing. False: an entry holds the number, which
    counts; go on with the next."""
    found: bytes
    """What stands there: a seal (ours, or another taker's), or the entry."""


class Store(Protocol):
    """A place for immutable objects.

    All methods raise `StoreUnavailable` (StoreFull when there is no room) and `StoreRefused`, and
    ValueError for a key that `check_key` refuses.
    """

    name: str
    """URL without secrets, for logs and errors."""

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        """Create an object.

        True: durable now, and ours (created now, or found with exactly these octets, as after an answer that
        was lost). False: the key exists with other octets. An exception: unknown.
        """

    async def put(self, key: str, data: bytes) -> None:
        """Create or overwrite; for heartbeats and hints with one writer only. Need not be durable."""

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """The octets from `start` up to but without `end` (None: all the rest); fewer where the object ends.

        Raises MissingKey.
        """

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        """Keys under `prefix` that are greater than `after`, sorted; at most `limit`.

        `prefix` is whole segments with a slash at the end ("log/01J.../"), or empty for all. `after` is a
        key that need not exist, but no folder of keys (some servers would skip all of it). Objects that were
        there before the call are all in it; those created meanwhile may be missing.
        """

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects. Keys that do not exist are fine."""

    async def seal_new(self, key: str, seal: bytes) -> SealResult:
        """Try to end a log at this number with an object that begins with `SEAL_MARK`.

        Raises MissingKey when the number was taken and then deleted: somebody else has dealt with this log.
        """

    async def close(self) -> None:
        """Wait for what is running and free everything. The store cannot be used afterwards."""


UNBOUNDED = 1 << 62
"""Octets of room in a store that does not know how much it has."""


def room_of(store: Store) -> int:
    """Octets that new mail may take in a store. Those that can be full have a `room`: what is less than 0
    there is still free, and left to what makes room (mailqueue.store.disk)."""
    room: int = getattr(store, "room", UNBOUNDED)
    return room


def is_seal(data: bytes) -> bool:
    """True when an object under "log/" is a seal."""
    return data.startswith(SEAL_MARK)


async def seal_alone(store: Store, key: str, seal: bytes) -> SealResult:
    """`seal_new` of a store that is one place: `put_new` decides, then whoever lost reads what won."""
    if not is_seal(seal):
        raise ValueError("a seal begins with SEAL_MARK")
    if await store.put_new(key, seal):
        return SealResult(True, seal)
    found = await store.get(key)
    return SealResult(is_seal(found), found)


def check_key(key: str) -> str:
    """Return the key. Raises ValueError unless it is segments of ASCII letters, digits and "_", separated by
    single slashes, at most `KEY_MAX` octets."""
    if len(key) > KEY_MAX or not _KEY.fullmatch(key):
        raise ValueError(f"not a key: {key[:KEY_MAX]!r}")
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix. Raises ValueError unless it is empty or whole segments with a slash at the end."""
    if len(prefix) > KEY_MAX or not _PREFIX.fullmatch(prefix):
        raise ValueError(f"not a prefix of whole segments: {prefix[:KEY_MAX]!r}")
    return prefix


def pieces(data: bytes | Blob) -> Iterator[bytes]:
    """The octets of either kind, in order."""
    if isinstance(data, bytes):
        return iter((data,))
    return data.chunks()


def size_of(data: bytes | Blob) -> int:
    """Octets of either kind."""
    return len(data) if isinstance(data, bytes) else data.size


class Comparison:
    """Compares what a store holds, read in order, with what was to be written; neither is held in memory."""

    __slots__ = ("_left", "_rest", "equal")

    def __init__(self, data: bytes | Blob) -> None:
        """`data` is what was to be written."""
        self._left = pieces(data)
        self._rest = memoryview(b"")
        self.equal = True
        """False as soon as a difference was seen."""

    def feed(self, found: bytes) -> bool:
        """Take the next octets that the store holds; returns whether all is equal so far."""
        view = memoryview(found)
        while view and self.equal:
            if not self._rest:
                piece = next(self._left, None)
                if piece is None:
                    self.equal = False
                    break
                self._rest = memoryview(piece)
                continue
            count = min(len(view), len(self._rest))
            self.equal = view[:count] == self._rest[:count]
            view, self._rest = view[count:], self._rest[count:]
        return self.equal

    def end(self) -> bool:
        """True when the store holds exactly the same octets, after all of them were fed."""
        return self.equal and not self._rest and not any(self._left)
