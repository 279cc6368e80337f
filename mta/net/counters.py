"""Counters of clients in memory shared by all workers of a node.

The supervisor makes one anonymous file (`create`), every worker maps it (`Counters`). There is no lock and no
atomic instruction: each cell of each table is an array of one 32-bit number per worker *slot*, a worker
writes only its own slot's numbers and a reader adds all of them. An aligned 32-bit store is never seen
half-done, so a reader is at most one event behind. Two workers that check and count at the same moment can
pass a limit by one each; limits of clients do not need more.

Tables are of fixed size: a key is hashed to one cell in each of `DEPTH` rows and its count is the least of
them (a count-min sketch). A count may be too high when others share all cells of a key, never too low. The
hash is keyed with a secret made anew with the memory, so nobody can aim a collision at somebody else's
address. With 1,000 addresses at their limit, an innocent one shares both cells with them with a probability
of (1,000 / 16,384)^2, one in 270; with 100, one in 27,000. Addresses and networks have rows of their own,
so that a network's larger counts do not add to those of addresses.

A `Gauge` counts what goes up and down (open sessions). A `Window` counts events: three such tables are used
in turn, for the current interval, the one before it and the next; whoever first sees a new interval empties
the table that will be next, so nobody ever writes into one that is being emptied. The value is the current
count plus the share of the previous one that the window still covers, with an error far below what a
limit needs.

Crash: a worker that dies leaves its numbers. Events stay counted, they did happen. Open sessions are set to
zero by the supervisor when it hears of its end (`clear_after`), and else by the next worker that takes the
slot (`Counters` does it when it is made): after a reload another slot may be the lowest that is free. The
supervisor must give a slot to one living worker at a time, old generations included, and the lowest that is
free: only slots up to the highest that was ever taken are read.

Memory: only pages that were ever written take any; a busy node with 32 slots and no limits of messages uses
about 24 MB in all.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from hashlib import blake2b

WIDTH = 16384
"""Cells of a row. See the module text for what it means for collisions."""
DEPTH = 2
"""Rows of a table. A third would make collisions rarer still, but a count costs a read for each."""
GROUPS = 2
"""Kinds of keys that have rows of their own: 0 for addresses, 1 for networks."""
MAX_SLOTS = 256
"""Slots: workers of all generations alive at once. A machine of 64 cores needs 128 during a reload."""
WINDOWS = ("sessions", "auth_failures", "messages", "recipients")
"""The windows that the memory has room for, in the order in which they lie there."""

Cells = tuple[int, ...]
"""Where the counts of a key are: the first number of its cell in each row, from the start of a table."""

# The first page: magic, slots, highest slot taken + 1, key; then 32-bit numbers from these octet offsets.
_HEADER = 4096
_MAGIC = b"tamislm1"
_PREFIX = struct.Struct("=8sII16s")
_HIGH_AT = 12
_EPOCHS_AT = 64
_SESSIONS_AT = 256
_TAKEN_AT = 2048
_STEP = 4  # slots are read in steps of so many, for there is one reader for each number of them
_HASH = struct.Struct("=QQ")


def table_size(slots: int) -> int:
    """Octets of one table."""
    return GROUPS * DEPTH * WIDTH * slots * 4


def size(slots: int) -> int:
    """Octets of the whole memory for `slots` workers."""
    return _HEADER + table_size(slots) * (1 + 3 * len(WINDOWS))


def create(slots: int) -> int:
    """Make the memory for `slots` workers and return its descriptor, to be passed to them. Raises OSError.

    Give several times the number of workers: at a reload two or more generations live side by side.
    """
    if not 1 <= slots <= MAX_SLOTS:
        raise ValueError(f"slots must be 1 to {MAX_SLOTS}, not {slots}")
    fd = os.memfd_create("tamis-counters", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size(slots))
        os.pwrite(fd, _PREFIX.pack(_MAGIC, slots, 0, os.urandom(16)), 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def clear_after(fd: int, slot: int) -> None:
    """Count no session any more of the worker that had `slot` and has ended without giving it back.

    `fd` is that of the memory. Raises as `Counters` does.
    """
    if any(os.pread(fd, 4, _TAKEN_AT + 4 * slot)):
        Counters(fd, slot, clock=time.monotonic, seconds=dict.fromkeys(WINDOWS, 1.0)).close()


class Counters:
    """One worker's view of the memory."""

    __slots__ = (
        "_high",
        "_key",
        "_map",
        "_sessions_at",
        "_unpack",
        "numbers",
        "open_sessions",
        "slot",
        "slots",
        "windows",
    )

    def __init__(self, fd: int, slot: int, *, clock: Callable[[], float], seconds: dict[str, float]) -> None:
        """Map the memory behind `fd` (which may be closed afterwards) and take `slot`.

        `clock` must run alike in all processes (`time.monotonic` does on Linux); `seconds` has the length
        of each of `WINDOWS`. Raises ValueError when `fd` is no such memory or the slot does not exist.
        """
        magic, slots, _, key = _PREFIX.unpack(os.pread(fd, _PREFIX.size, 0).ljust(_PREFIX.size, b"\0"))
        if magic != _MAGIC or os.fstat(fd).st_size != size(slots):
            raise ValueError("the descriptor is not the shared memory of this version")
        if not 0 <= slot < slots:
            raise ValueError(f"slot {slot} of {slots}")
        self.slot = slot
        self.slots = slots
        self._key = key
        self._map = mmap.mmap(fd, size(slots))
        self.numbers = memoryview(self._map).cast("I")
        self._high = 0
        self._unpack = struct.Struct("=I").unpack_from
        self._sessions_at = _SESSIONS_AT // 4 + slot
        self.open_sessions = Gauge(self, _HEADER)
        first = _HEADER + table_size(slots)
        self.windows = {
            name: Window(self, first + 3 * i * table_size(slots), _EPOCHS_AT // 4 + i, seconds[name], clock)
            for i, name in enumerate(WINDOWS)
        }
        self._take_slot()

    def locate(self, key: bytes, group: int = 0) -> Cells:
        """The cells of a key of a group; about two microseconds, so remember them for a client."""
        first, second = _HASH.unpack(blake2b(key, digest_size=16, key=self._key).digest())
        row = group * DEPTH * WIDTH
        return (row + first % WIDTH) * self.slots, (row + WIDTH + second % WIDTH) * self.slots

    def add_session(self) -> None:
        """Count one more open session of this worker."""
        self.numbers[self._sessions_at] += 1

    def remove_session(self) -> None:
        """Count one less. It never goes below zero."""
        if self.numbers[self._sessions_at]:
            self.numbers[self._sessions_at] -= 1

    def total_sessions(self) -> int:
        """Open sessions of all workers."""
        if self.numbers[_HIGH_AT // 4] != self._high:  # somebody has taken a higher slot
            self._read_all_taken()
        return sum(self._unpack(self._map, _SESSIONS_AT))

    def close(self) -> None:
        """Set this worker's sessions to zero and give the slot back; for an orderly end.

        The memory stays mapped: sessions that are cut off at the very end still say that they leave.
        """
        self._clear_slot()
        self.numbers[_TAKEN_AT // 4 + self.slot] = 0

    def read(self, index: int) -> int:
        """The sum over all slots of the cell whose first number is at `index`."""
        return sum(self._unpack(self._map, index * 4))

    def empty(self, index: int, count: int) -> None:
        """Zero whole pages of numbers by giving them back to the system: cheaper than writing zeros."""
        self._map.madvise(mmap.MADV_REMOVE, index * 4, count * 4)

    def _take_slot(self) -> None:
        taken = _TAKEN_AT // 4 + self.slot
        if self.numbers[taken]:  # whoever had it has not closed it
            self._clear_slot()
        self.numbers[taken] = 1
        self._read_all_taken()

    def _read_all_taken(self) -> None:
        # Two workers that start at once may overwrite each other's number here. The loser finds its own
        # slot missing at its next connect and comes back to put it right.
        high = max(self.numbers[_HIGH_AT // 4], self.slot + 1)
        self.numbers[_HIGH_AT // 4] = self._high = high
        count = min(-(-high // _STEP) * _STEP, self.slots)
        self._unpack = struct.Struct(f"={count}I").unpack_from

    def _clear_slot(self) -> None:
        self.numbers[self._sessions_at] = 0
        self.open_sessions.clear_slot()


class Gauge:
    """What goes up and down, per key."""

    __slots__ = ("_at", "_counters", "_numbers", "_own")

    def __init__(self, counters: Counters, at: int) -> None:
        """`at` is the octet offset of the table."""
        self._counters = counters
        self._numbers = counters.numbers
        self._at = at // 4
        self._own = at // 4 + counters.slot

    def add(self, cells: Cells) -> None:
        """Count one more for each of `cells`, which may be those of several keys."""
        numbers, own = self._numbers, self._own
        for cell in cells:
            numbers[own + cell] += 1

    def remove(self, cells: Cells) -> None:
        """Count one less. This worker's share never goes below zero."""
        numbers, own = self._numbers, self._own
        for cell in cells:
            if numbers[own + cell]:
                numbers[own + cell] -= 1

    def bound(self, cells: Cells) -> int:
        """At least the count, by a single read."""
        return self._counters.read(self._at + cells[0])

    def count(self, cells: Cells) -> int:
        """The count of all workers."""
        return min(self._counters.read(self._at + cell) for cell in cells)

    def clear_slot(self) -> None:
        """Set this worker's share of every key to zero."""
        zeros = memoryview(bytes(GROUPS * DEPTH * WIDTH * 4)).cast("I")
        end = self._at + GROUPS * DEPTH * WIDTH * self._counters.slots
        self._numbers[self._own : end : self._counters.slots] = zeros


class Window:
    """Events per key in the last `seconds` (sliding, see the module text)."""

    __slots__ = ("_at", "_clock", "_counters", "_epoch", "_epoch_at", "_numbers", "_table", "seconds")

    def __init__(
        self, counters: Counters, at: int, epoch_at: int, seconds: float, clock: Callable[[], float]
    ) -> None:
        """`at` is the octet offset of three tables, `epoch_at` the number that says how far they are."""
        if seconds <= 0:
            raise ValueError("a window has a positive length")
        self._counters = counters
        self._numbers = counters.numbers
        self._at = at // 4
        self._epoch_at = epoch_at
        self._table = table_size(counters.slots) // 4
        self._clock = clock
        self._epoch = -1
        self.seconds = seconds

    def add(self, cells: Cells) -> None:
        """Count an event now for each of `cells`, which may be those of several keys."""
        epoch = int(self._clock() / self.seconds)
        if epoch != self._epoch:
            self._turn(epoch)
        numbers = self._numbers
        own = self._at + epoch % 3 * self._table + self._counters.slot
        for cell in cells:
            numbers[own + cell] += 1

    def bound(self, cells: Cells) -> int:
        """At least the count, by two reads."""
        epoch = int(self._clock() / self.seconds)
        if epoch != self._epoch:
            self._turn(epoch)
        read, at = self._counters.read, self._at + cells[0]
        return read(at + epoch % 3 * self._table) + read(at + (epoch - 1) % 3 * self._table)

    def count(self, cells: Cells) -> float:
        """Events of all workers in the window."""
        now = self._clock() / self.seconds
        epoch = int(now)
        if epoch != self._epoch:
            self._turn(epoch)
        read = self._counters.read
        current = self._at + epoch % 3 * self._table
        previous = self._at + (epoch - 1) % 3 * self._table
        return min(read(current + cell) + read(previous + cell) * (1.0 - (now - epoch)) for cell in cells)

    def _turn(self, epoch: int) -> None:
        """Make ready for `epoch`; the number in the memory tells whether somebody has done so."""
        self._epoch = epoch
        seen = self._numbers[self._epoch_at]
        mark = epoch & 0xFFFFFFFF
        if seen == mark:
            return
        if seen == (epoch - 1) & 0xFFFFFFFF:
            self._counters.empty(self._at + (epoch + 1) % 3 * self._table, self._table)
        else:  # nothing happened for a whole interval or more: all three are out of date
            self._counters.empty(self._at, 3 * self._table)
        self._numbers[self._epoch_at] = mark
