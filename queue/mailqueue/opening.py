"""The first objects of a process life: the store's format, and the announcement of the stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from mailqueue.clock import Clock
from mailqueue.entry import FormatError
from mailqueue.keys import FORMAT, stream_key
from mailqueue.process import ProcessIdentity
from mailqueue.settings import QueueSettings
from mailqueue.store.base import MissingKey, Store, StoreRefused

STORE_VERSION = 1


class StoreFormat(msgspec.Struct, array_like=True, frozen=True):
    """The object `format`."""

    magic: str
    version: int
    cluster: bytes
    """Random octets that tell this store from any other."""


class Announcement(msgspec.Struct, array_like=True, frozen=True):
    """The object `stream/<stream>`."""

    version: int
    node: str
    machine: str
    boot: str
    namespace: str
    pid: int
    ticks: int
    at: float
    """Wall-clock time of the start."""

    @property
    def identity(self) -> ProcessIdentity:
        """The process."""
        return ProcessIdentity(self.machine, self.boot, self.namespace, self.pid, self.ticks)


async def check_format(store: Store, random: Callable[[int], bytes]) -> bytes:
    """Make the store ours when it is new; returns what tells it from others. Raises StoreError,
    FormatError."""
    for _ in range(2):
        try:
            data = await store.get(FORMAT)
        except MissingKey:
            new = msgspec.msgpack.encode(StoreFormat("mailqueue", STORE_VERSION, random(16)))
            if not await store.put_new(FORMAT, new):
                continue
            data = new
        return _known(store, data).cluster
    raise StoreRefused(store.name, f"the object {FORMAT} exists and cannot be read")


async def require_known_format(store: Store) -> None:
    """For those who only look: raises FormatError for a store that a newer version made, and StoreError."""
    with contextlib.suppress(MissingKey):
        _known(store, await store.get(FORMAT))


def _known(store: Store, data: bytes) -> StoreFormat:
    try:
        found = msgspec.msgpack.decode(data, type=StoreFormat)
    except msgspec.DecodeError as error:
        raise StoreRefused(store.name, f"the object {FORMAT} is not a mail queue's: {error}") from error
    if found.version > STORE_VERSION:
        raise FormatError(f"{store.name} has format {found.version}; this program knows {STORE_VERSION}")
    return found


async def announce(store: Store, stream: str, settings: QueueSettings, clock: Clock) -> None:
    """Write the announcement of a new stream. Raises StoreError."""
    found = Announcement(1, settings.node, *settings.identity, clock.wall())
    if not await store.put_new(stream_key(stream), msgspec.msgpack.encode(found)):
        raise StoreRefused(store.name, f"{stream_key(stream)} exists already")


async def read_announcement(store: Store, stream: str) -> Announcement | None:
    """Who writes a stream, None when it does not say so in a way that we understand. Raises StoreError."""
    try:
        return msgspec.msgpack.decode(await store.get(stream_key(stream)), type=Announcement)
    except (MissingKey, msgspec.DecodeError):
        return None
