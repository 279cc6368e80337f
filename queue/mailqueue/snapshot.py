"""Snapshots: all live messages of a stream as of one entry of its log, so that a start need not read it all.

A snapshot is a head and blocks of rows (`mailqueue.rows`). It holds what is true *at least* as of its entry:
an outcome that is known in memory but not committed yet may be in it already, for it has happened; a message
that is not committed never is. So it is stored only when these outcomes are committed as well
(`mailqueue.housekeeping`): what follows from one, a report, comes with it in the log. The two newest are
kept, and of the log everything behind the older one, so that a damaged snapshot costs nothing.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from zlib import crc32

from mailqueue.entry import FormatError
from mailqueue.index import Index
from mailqueue.rows import BLOCK_ROWS, encode_rows, enter_rows, split_blocks

MAGIC = b"MQSN"
VERSION = 1
_HEAD = struct.Struct("<4sHH16sQQId")
"""Magic, version, reserved, stream, number of the entry, messages, blocks, wall-clock time."""
_CRC = struct.Struct("<I")
HEAD_SIZE = _HEAD.size + _CRC.size


class CorruptSnapshot(ValueError):
    """The head of a snapshot is damaged."""


@dataclass(slots=True, frozen=True)
class SnapshotHead:
    """What a snapshot says of itself."""

    stream: bytes
    number: int
    messages: int
    blocks: int
    at: float


async def encode_snapshot(index: Index, number: int, at: float) -> bytes:
    """The snapshot of an index as it is now; gives other tasks their turn while it works."""
    frozen = index.frozen()
    slots = frozen.slots()
    parts: list[bytes] = []
    while block := list(islice(slots, BLOCK_ROWS)):
        parts.append(encode_rows(frozen, block))
        await asyncio.sleep(0)
    head = _HEAD.pack(MAGIC, VERSION, 0, frozen.own, number, frozen.messages, len(parts), at)
    return b"".join((head, _CRC.pack(crc32(head)), *parts))


def decode_head(data: bytes) -> SnapshotHead:
    """The head. Raises CorruptSnapshot, and FormatError for a newer version."""
    if len(data) < HEAD_SIZE or _CRC.unpack_from(data, _HEAD.size)[0] != crc32(data[: _HEAD.size]):
        raise CorruptSnapshot("its head is damaged")
    magic, version, _, stream, number, messages, blocks, at = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise CorruptSnapshot("it is no snapshot")
    if version > VERSION:
        raise FormatError(f"a snapshot of version {version}")
    return SnapshotHead(stream, number, messages, blocks, at)


async def read_snapshot(data: bytes, index: Index, problem: Callable[[str], None]) -> SnapshotHead:
    """Enter all messages of a snapshot into an empty index. `problem` is told of damaged blocks, whose
    messages are missing. Raises CorruptSnapshot and FormatError before anything is entered."""
    head = decode_head(data)
    if head.stream != index.own:
        raise CorruptSnapshot("it is another stream's")
    count = 0
    for block in split_blocks(data, HEAD_SIZE):
        try:
            enter_rows(index, block)
            count += 1
        except ValueError as error:
            problem(str(error))
        await asyncio.sleep(0)
    if count < head.blocks:
        problem(f"{head.blocks - count} of {head.blocks} blocks are missing or damaged")
    return head
