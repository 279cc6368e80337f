"""One log entry, the object that a group commit writes: head, records, payloads.

    head      64 octets: magic, version, stream, number, nonce, lengths, CRC
    records   each: length, CRC-32, octets; a record of length 0 ends them
    payloads  one zstd frame a message, see `mailqueue.payload`

The records come first and are small, so a reader that replays the log fetches the beginning of each entry and
not the mail in it; a payload is fetched alone, by the range that its ENQ record gives. Nothing but a payload
is compressed: a damaged octet costs one record or one message, never its neighbours. When the head itself is
damaged the records are still found behind it.

A seal is an object of its own kind in the place of an entry (`mailqueue.seal`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from zlib import crc32

from mailqueue.model import QueueError
from mailqueue.records import Record, decode_record

MAGIC = b"MQLG"
VERSION = 1
"""Format version that is written. Readers know all up to it, see `_READERS`."""
HEAD = struct.Struct("<4sHH16sQ8sIIQ4x")
HEAD_SIZE = 64
"""Octets of the head with its CRC."""
RECORD = struct.Struct("<II")
END = RECORD.pack(0, 0)
FIRST_READ = 64 * 1024
"""Octets of an entry that a reader fetches at first: head and records of most."""
_CRC = struct.Struct("<I")


class FormatError(QueueError):
    """The store, or an object in it, was written by a newer version: it is left alone."""


class CorruptEntry(ValueError):
    """An entry of which nothing can be read."""


class NeedMore(Exception):
    """The records go on behind the octets at hand; `size` octets of the entry are needed."""

    def __init__(self, size: int) -> None:
        """`size` counts from the beginning of the entry."""
        super().__init__(size)
        self.size = size


@dataclass(slots=True)
class Entry:
    """The records of an entry as they were read."""

    stream: bytes
    number: int
    nonce: bytes
    base: int
    """Octet of the object at which the payloads begin."""
    size: int
    """Octets of the whole object."""
    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What is damaged, in words."""


def frame_record(data: bytes) -> bytes:
    """A record's octets with length and CRC in front."""
    return RECORD.pack(len(data), crc32(data)) + data


def build(stream: bytes, number: int, nonce: bytes, framed: list[bytes], payloads: list[bytes]) -> bytes:
    """The octets of an entry; `framed` come from `frame_record`."""
    records_size = sum(map(len, framed)) + len(END)
    payloads_size = sum(map(len, payloads))
    head = HEAD.pack(MAGIC, VERSION, 0, stream, number, nonce, len(framed), records_size, payloads_size)
    return b"".join((head, _CRC.pack(crc32(head)), *framed, END, *payloads))


def payload_base(framed_size: int) -> int:
    """Where payloads begin in an entry whose framed records have `framed_size` octets."""
    return HEAD_SIZE + framed_size + len(END)


def parse(data: bytes, stream: bytes, number: int, *, whole: bool) -> Entry:
    """Read an entry of which the beginning (`whole`: everything there is) is at hand.

    Raises NeedMore, CorruptEntry when nothing is usable, FormatError for a newer version. Damage to some of
    the records is told in `Entry.problems`, and the others are there.
    """
    problems: list[str] = []
    version, size = VERSION, 0
    sound = len(data) >= HEAD_SIZE and _CRC.unpack_from(data, HEAD.size)[0] == crc32(data[: HEAD.size])
    nonce, count, expected = b"", -1, -1
    if sound:
        magic, version, _, of_stream, of_number, nonce, count, length, rest = HEAD.unpack_from(data)
        if magic != MAGIC:
            raise CorruptEntry("not a log entry")
        if version > VERSION:
            raise FormatError(f"a log entry of version {version}; this program knows up to {VERSION}")
        if (of_stream, of_number) != (stream, number):
            raise CorruptEntry("an entry of another place")
        expected, size = HEAD_SIZE + length, HEAD_SIZE + length + rest
        if len(data) < expected and not whole:
            raise NeedMore(expected)
        if whole and len(data) < size:
            problems.append(f"{size - len(data)} octets are missing at its end")
    elif not whole:
        raise NeedMore(1 << 62)
    else:
        problems.append("its head is damaged")
    records, base, damaged = _READERS[version](data, expected)
    problems.extend(damaged)
    if not sound and not records:
        raise CorruptEntry("nothing of it can be read")
    if count >= 0 and len(records) + len(damaged) < count and not damaged:
        problems.append(f"{count - len(records)} records are missing")
    base = expected if sound else base
    return Entry(stream, number, nonce, base, max(size, len(data)), records, problems)


def _records_1(data: bytes, expected: int) -> tuple[list[Record], int, list[str]]:
    """Records of version 1, the offset behind them, and what is wrong."""
    records: list[Record] = []
    problems: list[str] = []
    at, end = HEAD_SIZE, expected if expected >= 0 else len(data)
    while at + RECORD.size <= min(end, len(data)):
        length, crc = RECORD.unpack_from(data, at)
        at += RECORD.size
        if length == 0:
            return records, at, problems
        body = data[at : at + length]
        if at + length > end or crc32(body) != crc:
            problems.append(f"record {len(records) + len(problems)} is damaged")
            at = _next_sound(data, at - RECORD.size + 1, end)
            continue
        at += length
        try:
            records.append(decode_record(body))
        except ValueError as error:
            problems.append(f"record {len(records) + len(problems)}: {error}")
    problems.append("the records have no end")
    return records, at, problems


def _next_sound(data: bytes, start: int, end: int) -> int:
    # Where the next record with a fitting CRC begins: the length of the damaged one cannot be trusted.
    for at in range(start, min(end, len(data)) - RECORD.size + 1):
        length, crc = RECORD.unpack_from(data, at)
        first = at + RECORD.size
        if length == 0:
            if crc == 0 and first == end:
                return at
        elif length <= end - first and crc32(data[first : first + length]) == crc:
            return at
    return end


_READERS = {1: _records_1}
"""How to read the records of each version. A reader of an old version returns records of today."""
