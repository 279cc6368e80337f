"""Payloads that were written a short time ago, in memory: an early retry reads nothing from the store."""

from __future__ import annotations

from collections import OrderedDict


class PayloadCache:
    """The newest payloads up to a number of octets, by id."""

    __slots__ = ("_frames", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        """`limit` in octets; 0 keeps nothing."""
        self._frames: OrderedDict[bytes, bytes] = OrderedDict()
        self._limit = limit
        self._size = 0

    def put(self, id: bytes, frame: bytes) -> None:
        """Keep a payload; the oldest make room."""
        if len(frame) > self._limit:
            return
        self.drop(id)
        self._frames[id] = frame
        self._size += len(frame)
        while self._size > self._limit:
            _, old = self._frames.popitem(last=False)
            self._size -= len(old)

    def get(self, id: bytes) -> bytes | None:
        """A payload, if it is still here."""
        return self._frames.get(id)

    def drop(self, id: bytes) -> None:
        """The message is gone."""
        frame = self._frames.pop(id, None)
        if frame is not None:
            self._size -= len(frame)
