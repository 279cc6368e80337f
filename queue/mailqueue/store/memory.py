"""A store in memory, for tests and simulation: deterministic, without waiting, nothing survives the process.

Several "nodes" of a simulation share one instance. Every call is atomic: it has its whole effect before it
gives up control for the first time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

from mailqueue.store.base import (
    Blob,
    MissingKey,
    SealResult,
    check_key,
    check_prefix,
    pieces,
    seal_alone,
)


class MemoryStore:
    """Keys and octets in a dictionary."""

    __slots__ = ("_keys", "_objects", "name")

    def __init__(self, name: str = "memory:") -> None:
        """`name` tells stores apart in errors."""
        self.name = name
        self._objects: dict[str, bytes] = {}
        self._keys: list[str] = []

    async def put_new(self, key: str, data: bytes | Blob) -> bool:
        """Create an object; True when it has these octets now."""
        check_key(key)
        octets = data if isinstance(data, bytes) else b"".join(pieces(data))
        found = self._objects.get(key)
        if found is None:
            self._write(key, octets)
            return True
        return found == octets

    async def put(self, key: str, data: bytes) -> None:
        """Create or overwrite."""
        self._write(check_key(key), data)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Octets of an object. Raises MissingKey."""
        try:
            return self._objects[check_key(key)][start:end]
        except KeyError:
            raise MissingKey(self.name, f"there is no {key}") from None

    async def list_after(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        """Keys under `prefix` greater than `after`, sorted."""
        check_prefix(prefix)
        keys = self._keys
        first = bisect_right(keys, after) if after >= prefix else bisect_left(keys, prefix)
        # "0" follows "/": the first key that cannot be under the prefix any more.
        last = bisect_left(keys, prefix[:-1] + "0") if prefix else len(keys)
        if limit is not None:
            last = min(last, first + limit)
        return keys[first:last]

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        for key in keys:
            if self._objects.pop(check_key(key), None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    async def seal_new(self, key: str, seal: bytes) -> SealResult:
        """Try to end a log at this number."""
        return await seal_alone(self, key, seal)

    async def close(self) -> None:
        """Nothing to free; what is stored stays, for the next node that uses this instance."""

    def _write(self, key: str, octets: bytes) -> None:
        if key not in self._objects:
            insort(self._keys, key)
        self._objects[key] = octets
