"""Blocks of rows: live messages in columns, as snapshots and ADOPT records hold them.

A block is magic, version, CRC and a zstd frame with one MessagePack array: tables of streams, sites and
replies, one string of octets a column (little-endian numbers), and the side tables. 40 to 70 octets a
message.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar
from zlib import crc32

import msgspec
import zstandard

from mailqueue.entry import FormatError
from mailqueue.ids import ID_SIZE
from mailqueue.index import INFINITY, Index, Location
from mailqueue.records import BodyRef, State

MAGIC = b"MQRW"
VERSION = 1
_HEAD = struct.Struct("<4sHHII")
"""Magic, version, reserved, CRC of the frame, length of the frame."""
BLOCK_ROWS = 4096
"""Rows of a block: written or read in some tens of milliseconds, between which other tasks run."""
_T = TypeVar("_T")
_SWAP = sys.byteorder == "big"


class _Many(msgspec.Struct, array_like=True, frozen=True):
    """Recipients of the message in `row`, as columns."""

    row: int
    site: bytes
    status: bytes
    due: bytes
    attempts: bytes
    reply: bytes
    last: bytes


class _Body(msgspec.Struct, array_like=True, frozen=True):
    row: int
    body: BodyRef


class _Block(msgspec.Struct, array_like=True, frozen=True):
    """One block; the order of the fields is the format."""

    rows: int
    streams: list[bytes]
    sites: list[str]
    replies: list[str]
    ids: bytes
    created: bytes
    expires: bytes
    size: bytes
    priority: bytes
    stream: bytes
    number: bytes
    offset: bytes
    length: bytes
    status: bytes
    site: bytes
    due: bytes
    attempts: bytes
    reply: bytes
    last: bytes
    many: list[_Many]
    bodies: list[_Body]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Block).decode


def encode_rows(index: Index, slots: Sequence[int]) -> bytes:
    """The messages in these slots as one block."""
    streams, sites, replies = (
        _Table(index.streams),
        _Table(index.sites.texts()),
        _Table(index.replies.texts()),
    )
    many, bodies = [], []
    single = [slot not in index.many for slot in slots]
    for row, slot in enumerate(slots):
        if not single[row]:
            r = index.many[slot]
            many.append(
                _Many(
                    row,
                    _pack("I", [sites.number(n) for n in r.site]),
                    bytes(r.status),
                    _pack("d", r.due),
                    _pack("H", r.attempts),
                    _pack("I", [replies.number(n) for n in r.reply]),
                    _pack("I", r.last),
                )
            )
        body = index.bodies.get(slot)
        if body is not None:
            bodies.append(_Body(row, body))
    ids = index.ids
    block = _Block(
        len(slots),
        streams.used,
        sites.used,
        replies.used,
        b"".join([ids[slot * ID_SIZE : slot * ID_SIZE + ID_SIZE] for slot in slots]),
        _pack("I", [index.created[slot] for slot in slots]),
        _pack("I", [index.expires[slot] for slot in slots]),
        _pack("I", [index.size[slot] for slot in slots]),
        _pack("b", [index.priority[slot] for slot in slots]),
        _pack("H", [streams.number(index.stream[slot]) for slot in slots]),
        _pack("Q", [index.number[slot] for slot in slots]),
        _pack("I", [index.offset[slot] for slot in slots]),
        _pack("I", [index.length[slot] for slot in slots]),
        bytes([index.status[slot] for slot in slots]),
        _pack(
            "I",
            [sites.number(index.site[slot]) if one else 0 for slot, one in zip(slots, single, strict=True)],
        ),
        _pack("d", [index.due[slot] for slot in slots]),
        _pack("H", [index.attempts[slot] for slot in slots]),
        _pack(
            "I",
            [
                replies.number(index.reply[slot]) if one else 0
                for slot, one in zip(slots, single, strict=True)
            ],
        ),
        _pack("I", [index.last[slot] for slot in slots]),
        many,
        bodies,
    )
    frame = zstandard.ZstdCompressor(level=1).compress(_encode(block))
    return _HEAD.pack(MAGIC, VERSION, 0, crc32(frame), len(frame)) + frame


def enter_rows(index: Index, data: bytes) -> list[int]:
    """Enter the messages of a block that the index does not know yet; returns their slots.

    Raises ValueError for damage and FormatError for a newer version, both before the first message.
    """
    return _enter(index, _unpack_block(data))


def count_rows(data: bytes) -> int:
    """Messages in a block. Raises as `enter_rows`."""
    return _unpack_block(data).rows


def _unpack_block(data: bytes) -> _Block:
    if len(data) < _HEAD.size:
        raise ValueError("a block of rows is cut off")
    magic, version, _, crc, length = _HEAD.unpack_from(data)
    frame = data[_HEAD.size : _HEAD.size + length]
    if magic != MAGIC or len(frame) != length or crc32(frame) != crc:
        raise ValueError("a block of rows is damaged")
    if version > VERSION:
        raise FormatError(f"a block of rows of version {version}")
    try:
        return _decode(zstandard.ZstdDecompressor().decompress(frame))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise ValueError(f"a block of rows is damaged: {error}") from error


def split_blocks(data: bytes, at: int) -> Iterator[bytes]:
    """The blocks that follow each other from an offset on. A damaged length ends them early."""
    while at + _HEAD.size <= len(data):
        length = _HEAD.unpack_from(data, at)[4]
        yield data[at : at + _HEAD.size + length]
        at += _HEAD.size + length


def _enter(index: Index, block: _Block) -> list[int]:
    created, expires, size = (
        _unpack("I", block.created),
        _unpack("I", block.expires),
        _unpack("I", block.size),
    )
    priority, stream = _unpack("b", block.priority), _unpack("H", block.stream)
    number, offset = _unpack("Q", block.number), _unpack("I", block.offset)
    length, site, due = _unpack("I", block.length), _unpack("I", block.site), _unpack("d", block.due)
    attempts, reply, last = _unpack("H", block.attempts), _unpack("I", block.reply), _unpack("I", block.last)
    many = {item.row: item for item in block.many}
    bodies = {item.row: item.body for item in block.bodies}
    sites, replies, streams, ids, status = block.sites, block.replies, block.streams, block.ids, block.status
    slots: list[int] = []
    for row in range(block.rows):
        id = ids[row * ID_SIZE : row * ID_SIZE + ID_SIZE]
        if index.find(id) >= 0:
            continue
        place = Location(streams[stream[row]], number[row], offset[row], length[row])
        if row in many or row in bodies:
            states = (
                _states(many[row], sites, replies)
                if row in many
                else [
                    State(
                        sites[site[row]],
                        status[row],
                        due[row] if due[row] != INFINITY else 0.0,
                        attempts[row],
                        replies[reply[row]],
                        last[row],
                    )
                ]
            )
            slots.append(
                index.add(
                    id,
                    created[row],
                    expires[row],
                    priority[row],
                    size[row],
                    place,
                    bodies.get(row),
                    states,
                )
            )
        else:
            slots.append(
                index.add_single(
                    id,
                    created[row],
                    expires[row],
                    priority[row],
                    size[row],
                    place,
                    status[row],
                    sites[site[row]],
                    due[row],
                    attempts[row],
                    replies[reply[row]],
                    last[row],
                )
            )
    return slots


def _states(item: _Many, sites: list[str], replies: list[str]) -> list[State]:
    site, due, attempts = _unpack("I", item.site), _unpack("d", item.due), _unpack("H", item.attempts)
    reply, last = _unpack("I", item.reply), _unpack("I", item.last)
    return [
        State(sites[site[i]], item.status[i], due[i], attempts[i], replies[reply[i]], last[i])
        for i in range(len(item.status))
    ]


class _Table(Generic[_T]):
    """The part of a table of the index that a block needs, with numbers of its own."""

    __slots__ = ("_all", "_numbers", "used")

    def __init__(self, all_: Sequence[_T]) -> None:
        self._all = all_
        self._numbers: dict[int, int] = {}
        self.used: list[_T] = []

    def number(self, of_index: int) -> int:
        """The block's number for the index's."""
        number = self._numbers.get(of_index)
        if number is None:
            number = self._numbers[of_index] = len(self.used)
            self.used.append(self._all[of_index])
        return number


def _pack(code: str, numbers: Iterable[float]) -> bytes:
    column = array(code, numbers)
    if _SWAP:
        column.byteswap()
    return column.tobytes()


def _unpack(code: str, octets: bytes) -> Any:
    column = array(code)
    column.frombytes(octets)
    if _SWAP:
        column.byteswap()
    return column
