"""Reads a message whole: its payload from the log, the state of its recipients from the index."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable

from mailqueue.bodies import fetch_body
from mailqueue.cache import PayloadCache
from mailqueue.ids import id_text
from mailqueue.index import Index, Location
from mailqueue.keys import log_key
from mailqueue.model import (
    BytesBlob,
    CorruptMessage,
    QueuedMessage,
    QueuedRecipient,
    QueueUnavailable,
    Status,
    StoredBody,
    UnknownMessage,
)
from mailqueue.payload import Payload, unpack
from mailqueue.records import BodyRef
from mailqueue.store.base import Blob, MissingKey, Store, StoreError


class Loader:
    """Loads messages of one index."""

    __slots__ = ("_cache", "_index", "_spill_dir", "_store")

    def __init__(self, store: Store, index: Index, cache: PayloadCache, spill_dir: str | None) -> None:
        """`spill_dir`: where temporary files of large bodies go."""
        self._store, self._index, self._cache, self._spill_dir = store, index, cache, spill_dir

    async def load(self, id: bytes) -> QueuedMessage:
        """Everything about a message but a large body. Raises UnknownMessage, CorruptMessage,
        QueueUnavailable."""
        payload = await self._payload(id)
        index = self._index
        slot = index.find(id)
        if slot < 0:
            raise UnknownMessage(id_text(id))
        meta, states = payload.meta, index.states(slot)
        if len(states) != len(meta.recipients):
            raise CorruptMessage(f"{id_text(id)}: {len(meta.recipients)} addresses, {len(states)} recipients")
        recipients = [
            QueuedRecipient(
                who.address, s.site, Status(s.status), s.due, s.attempts, s.reply, s.last, who.data
            )
            for who, s in zip(meta.recipients, states, strict=True)
        ]
        return QueuedMessage(
            id_text(id),
            slot,
            meta.sender,
            recipients,
            payload.header,
            self._body(payload.body, index.bodies.get(slot)),
            meta.envelope,
            meta.created,
            meta.expires,
            meta.priority,
            tuple(meta.tags),
        )

    async def _payload(self, id: bytes) -> Payload:
        index = self._index
        while True:
            slot = index.find(id)
            if slot < 0:
                raise UnknownMessage(id_text(id))
            place = index.location(slot)
            try:
                frame = self._cache.get(id)
                if frame is None:
                    end = place.offset + place.length
                    frame = await self._store.get(_key(place), place.offset, end)
                return unpack(frame, id)
            except MissingKey:
                problem = "the entry is missing"
            except StoreError as error:
                raise QueueUnavailable(str(error)) from error
            except ValueError as error:
                problem = str(error)
            slot = index.find(id)
            if slot < 0 or index.location(slot) == place:
                raise CorruptMessage(f"{_key(place)}: {id_text(id)}: {problem}")
            # It was moved into another entry while we read.

    def _body(self, inline: bytes, ref: BodyRef | None) -> StoredBody:
        return StoredBody(len(inline) if ref is None else ref.size, self._fetcher(inline, ref))

    def _fetcher(self, inline: bytes, ref: BodyRef | None) -> Callable[[], Awaitable[Blob]]:
        async def fetch() -> Blob:
            if ref is None:
                return BytesBlob(inline)
            try:
                return await fetch_body(self._store, ref, self._spill_dir)
            except StoreError as error:
                raise QueueUnavailable(str(error)) from error
            except OSError as error:  # its path has a random name, and the reason is to be told once
                folder = self._spill_dir or tempfile.gettempdir()
                problem = f"temporary file in {folder}: {error.strerror or error}"
                raise QueueUnavailable(problem) from error

        return fetch


def _key(place: Location) -> str:
    return log_key(id_text(place.stream), place.number)
