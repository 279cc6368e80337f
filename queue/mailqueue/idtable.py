"""Finds the slot of an id: a hash table of slot numbers in arrays, 6 to 12 octets a message.

A dictionary with ids as keys would cost more than all the rest of the index. The table is cut into shards, so
that growing one is a matter of a millisecond and not of half a second when there are a million messages. The
ids themselves are in the index's column, where they are compared.
"""

from __future__ import annotations

from array import array

_SHARDS = 512
_EMPTY, _GONE = 0, 1
_FIRST = 2
"""Entries are slot numbers plus this."""


class IdTable:
    """Slots by id. The random last ten octets of an id are its hash."""

    __slots__ = ("_filled", "_ids", "_live", "_shards")

    def __init__(self, ids: bytearray) -> None:
        """`ids` is the column of ids, 16 octets a slot."""
        self._ids = ids
        self._shards = [array("I", bytes(16)) for _ in range(_SHARDS)]
        self._filled = [0] * _SHARDS
        """Places of each shard that are not empty."""
        self._live = [0] * _SHARDS

    def find(self, id: bytes) -> int:
        """The slot, -1 when there is none."""
        ids = self._ids
        shard = self._shards[(id[14] << 8 | id[15]) % _SHARDS]
        mask = len(shard) - 1
        at = int.from_bytes(id[8:12], "big") & mask
        while entry := shard[at]:
            if entry >= _FIRST:
                start = (entry - _FIRST) << 4
                if ids[start : start + 16] == id:
                    return entry - _FIRST
            at = at + 1 & mask
        return -1

    def add(self, id: bytes, slot: int) -> None:
        """Enter an id that is not there."""
        number = (id[14] << 8 | id[15]) % _SHARDS
        shard = self._shards[number]
        if (self._filled[number] + 1) * 3 > len(shard) * 2:
            shard = self._rebuild(number)
        mask = len(shard) - 1
        at = int.from_bytes(id[8:12], "big") & mask
        while shard[at]:
            at = at + 1 & mask
        shard[at] = slot + _FIRST
        self._filled[number] += 1
        self._live[number] += 1

    def remove(self, id: bytes) -> None:
        """Take an id out that is there; its column still holds it."""
        number = (id[14] << 8 | id[15]) % _SHARDS
        shard = self._shards[number]
        mask = len(shard) - 1
        at = int.from_bytes(id[8:12], "big") & mask
        while entry := shard[at]:
            if entry >= _FIRST:
                start = (entry - _FIRST) << 4
                if self._ids[start : start + 16] == id:
                    shard[at] = _GONE
                    self._live[number] -= 1
                    return
            at = at + 1 & mask

    def _rebuild(self, number: int) -> array[int]:
        old = self._shards[number]
        size = 4
        while size < (self._live[number] + 1) * 2:
            size *= 2
        new = array("I", bytes(4 * size))
        mask, ids = size - 1, self._ids
        for entry in old:
            if entry >= _FIRST:
                start = ((entry - _FIRST) << 4) + 8
                at = int.from_bytes(ids[start : start + 4], "big") & mask
                while new[at]:
                    at = at + 1 & mask
                new[at] = entry
        self._shards[number] = new
        self._filled[number] = self._live[number]
        return new
