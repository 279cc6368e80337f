"""The messages of a stream, sorted by the parts of the id space that takers share out."""

from __future__ import annotations

import asyncio

from mailqueue.ids import ID_SIZE, PARTS
from mailqueue.index import Index

_TURN = 20000
"""Messages looked at before other tasks get a turn."""
_GROUP = 65536
"""Messages that are adopted in one go, unless a part alone has more."""


async def by_part(index: Index) -> list[list[int]]:
    """The slots of all messages, by part. Others get their turn meanwhile."""
    parts: list[list[int]] = [[] for _ in range(PARTS)]
    ids = index.ids
    for count, slot in enumerate(index.slots()):
        parts[ids[slot * ID_SIZE + 15] & 15].append(slot)
        if count % _TURN == _TURN - 1:
            await asyncio.sleep(0)
    return parts


def groups(parts: list[int], slots: list[list[int]]) -> list[list[int]]:
    """Parts to be adopted in one go: some ten thousand messages, so that the first are soon at work."""
    made: list[list[int]] = []
    size = 0
    for part in parts:
        if not made or size + len(slots[part]) > _GROUP:
            made.append([])
            size = 0
        made[-1].append(part)
        size += len(slots[part])
    return made
