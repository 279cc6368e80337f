"""A large text table as a file that is mapped and not read: a million keys cost a process nothing.

    python -m mta.tables.index SOURCE TARGET     make the index of a text table

The index is the table's records and behind them a hash table of 64-bit slots: 40 bits of place, 24 bits of
hash. All workers map the same file, so the system keeps it in memory once. A look-up is a hash, on average
1.5 slots, and one comparison of the key. The file is made beside its place and renamed, by one process at a
time (a lock file); its header has time, size and inode of the source, so it is known when it is out of
date, and a server that starts again makes nothing anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Iterator
from hashlib import blake2b

from mta.policy.tablefile import ENCODING, Mistakes, no_utf8
from mta.policy.watched import Stamp, TableError, stamp_of
from mta.tables.lines import entries

EX_MISTAKES = 65
"""Exit status where the table has mistakes (EX_DATAERR of sysexits.h); anything else may pass."""

_HEADER = struct.Struct("=8s5Q")  # magic, stamp, octets of the records, slots
_MAGIC = b"tamistb2"
_RECORD = struct.Struct("=HI")
_PLACE = (1 << 40) - 1
_TAG_SHIFT = 40


def _hash(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def build(source: str, target: str) -> None:
    """Make the index of `source`, unless somebody has just done so. Raises TableError, OSError."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with _locked(f"{target}.lock"):
        if is_current(source, target):
            return
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            _write(source, temporary)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def is_current(source: str, target: str) -> bool:
    """True when the index is that of the source as it is now."""
    try:
        with open(target, "rb") as file:
            head = file.read(_HEADER.size)
    except OSError:
        return False
    return len(head) == _HEADER.size and _HEADER.unpack(head)[:4] == (_MAGIC, *stamp_of(source))


def _write(source: str, temporary: str) -> None:
    stamp = stamp_of(source)
    hashes, places, mistakes = array("Q"), array("Q"), Mistakes(source)
    with open(temporary, "wb", buffering=1 << 20) as file:
        file.write(bytes(_HEADER.size))
        at = _HEADER.size
        try:
            with open(source, encoding=ENCODING) as lines:
                for number, key, value in entries(lines, mistakes.add):
                    octets, kept = key.encode(), value.encode()
                    if len(octets) > 0xFFFF:
                        mistakes.add(number, "the key is longer than 65,535 octets")
                        continue
                    file.write(_RECORD.pack(len(octets), len(kept)) + octets + kept)
                    hashes.append(_hash(octets))
                    places.append(at)
                    at += _RECORD.size + len(octets) + len(kept)
        except UnicodeDecodeError:
            with open(source, "rb") as raw:
                raise no_utf8(source, raw) from None
        mistakes.check()
        file.write(bytes(-at % 8))
        slots = _slots(hashes, places)
        slots.tofile(file)
        file.seek(0)
        file.write(_HEADER.pack(_MAGIC, *stamp, at + -at % 8, len(slots)))
        file.flush()
        os.fsync(file.fileno())


def _slots(hashes: array[int], places: array[int]) -> array[int]:
    size = 8
    while size < len(hashes) * 3 // 2:
        size *= 2
    slots = array("Q", bytes(8 * size))
    mask = size - 1
    for digest, place in zip(hashes, places, strict=True):
        at = digest & mask
        while slots[at]:
            at = (at + 1) & mask
        slots[at] = digest >> _TAG_SHIFT << _TAG_SHIFT | place
    return slots


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Index:
    """A mapped index; what it was made of may change, it does not."""

    __slots__ = ("_map", "_mask", "_slots", "stamp")

    def __init__(self, path: str) -> None:
        """Map the file. Raises TableError for one that is damaged, OSError."""
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        if len(self._map) < _HEADER.size:
            raise TableError(f"{path}: the index is cut off")
        magic, *stamp, at, slots = _HEADER.unpack_from(self._map)
        if magic != _MAGIC or at + 8 * slots != len(self._map) or not slots or slots & (slots - 1):
            raise TableError(f"{path}: this is no index of a table")
        self.stamp: Stamp = (stamp[0], stamp[1], stamp[2])
        self._slots = memoryview(self._map)[at:].cast("Q")
        self._mask = slots - 1

    def get(self, key: str) -> str | None:
        """The value of a folded key."""
        octets = key.encode("utf-8", "surrogateescape")
        digest = _hash(octets)
        tag = digest >> _TAG_SHIFT
        slots, at = self._slots, digest & self._mask
        while slot := slots[at]:
            if slot >> _TAG_SHIFT == tag:
                place = slot & _PLACE
                keys, values = _RECORD.unpack_from(self._map, place)
                place += _RECORD.size
                if keys == len(octets) and self._map[place : place + keys] == octets:
                    return self._map[place + keys : place + keys + values].decode()
            at = (at + 1) & self._mask
        return None


def main(arguments: list[str]) -> int:
    """Make an index in a process of its own, so that building takes nothing from the sessions."""
    source, target = arguments
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.nice(5)
    try:
        build(source, target)
    except TableError as error:
        print(error, file=sys.stderr)
        return EX_MISTAKES
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
