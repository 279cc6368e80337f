"""When each message is due: a timing wheel over three numbers a handle.

A million handles must cost little, no call may walk over them, and due times change all the time. So time is
cut into ticks, and the wheel has four levels of 256 slots: a slot of the first level is one tick, of each
further one 256 times as much. A handle lies in the level of the highest octet in which its tick differs from
the present one, and comes down a level when the present reaches its slot: at most three times in its life. A
slot is a doubly linked ring through three arrays of 32-bit numbers (previous, next, tick): 12 octets a
handle, whatever the spread of times. One integer a level tells which slots are in use, so empty time is
skipped in one step.

Coming down is done in portions of `PORTION`: half a million messages due in the same four hours do not
stop the world. Until a slot is worked up `next_due` says "now" and `take_due` goes on with it.
"""

from __future__ import annotations

import math
from array import array

TICK = 0.25
"""Seconds. 32 bits of them are 34 years from the origin."""
LEVELS = 4
SLOTS = 256
PORTION = 10_000
"""Handles that one call of `take_due` moves down at most: some milliseconds."""
_OVERDUE = LEVELS * SLOTS + 1
_NODES = _OVERDUE + 1
"""Node 0 stands for nothing, then come the heads of the slots and of what is overdue, then the handles."""
_LAST = 2**32 - 1


class Timetable:
    """Due times of handles. `origin` is a time that is not after any that matters, for instance the start.

    Handles are whole numbers from 0, best dense: the arrays reach up to the largest. A time is kept to the
    tick and never early; one before the origin counts as overdue, one beyond the end of the wheel as that
    end.
    """

    def __init__(self, origin: float) -> None:
        self._origin = origin
        self._now = 0
        self._prev = array("I", range(_NODES))
        self._next = array("I", range(_NODES))
        self._tick = array("I", bytes(4 * _NODES))
        self._used = [0] * LEVELS
        """Bit s: slot s of the level is in use."""
        self._count = 0

    def __len__(self) -> int:
        """Handles in the table."""
        return self._count

    def __contains__(self, handle: int) -> bool:
        """Whether a handle is in the table."""
        node = handle + _NODES
        return _NODES <= node < len(self._next) and self._next[node] != 0

    def due(self, handle: int) -> float:
        """When a handle is due, rounded up to a tick. Raises KeyError."""
        if handle not in self:
            raise KeyError(handle)
        return self._origin + self._tick[handle + _NODES] * TICK

    def add(self, handle: int, due: float) -> None:
        """Put a handle in, or move it if it is in. Raises ValueError for a negative handle."""
        if handle < 0:
            raise ValueError(f"handle {handle} is negative")
        node = handle + _NODES
        if node >= len(self._next):
            self._grow(node)
        if self._next[node]:
            self._unlink(node)
        else:
            self._count += 1
        self._place(node, self._to_tick(due))

    def remove(self, handle: int) -> bool:
        """Take a handle out; False if it was not in."""
        if handle not in self:
            return False
        self._unlink(handle + _NODES)
        self._count -= 1
        return True

    def take_due(self, now: float, limit: int) -> list[int]:
        """Take out up to `limit` handles that are due, the earliest tick first.

        There may be more, and there may be some although none came: ask `next_due`. Time must not go back; if
        it does, nothing new falls due until it is where it was.
        """
        self._advance(int((now - self._origin) / TICK))
        taken: list[int] = []
        head_next = self._next
        while len(taken) < limit and (node := head_next[_OVERDUE]) != _OVERDUE:
            self._unlink(node)
            taken.append(node - _NODES)
        self._count -= len(taken)
        return taken

    def next_due(self) -> float | None:
        """When to call `take_due` again, None if the table is empty.

        Never later than the first due time. It may be earlier, when slots must come down a level first: at
        most three times for each handle.
        """
        if self._next[_OVERDUE] != _OVERDUE:
            return self._origin + self._now * TICK
        event = self._event()
        return None if event is None else self._origin + event[0] * TICK

    # Time

    def _to_tick(self, due: float) -> int:
        """The tick that begins at a time or first after it."""
        ticks = (due - self._origin) / TICK
        return min(max(math.ceil(ticks), 0), _LAST) if ticks < _LAST else _LAST

    def _event(self) -> tuple[int, int, int] | None:
        """The first slot in use: its start, its level, its number.

        One that is being worked up starts now and so comes before all; other starts are never equal.
        """
        now = self._now
        first: tuple[int, int, int] | None = None
        for level, used in enumerate(self._used):
            if not used:
                continue
            here = (now >> (8 * level)) & 0xFF
            ahead = used >> here
            if not ahead:
                continue
            slot = here + (ahead & -ahead).bit_length() - 1
            start = now if slot == here else ((now >> (8 * level + 8) << 8) | slot) << (8 * level)
            if first is None or start < first[0]:
                first = start, level, slot
        return first

    def _advance(self, target: int) -> None:
        """Go on to a tick: slots of the first level fall due, others come down."""
        left = PORTION
        while (event := self._event()) is not None and event[0] <= target:
            start, level, slot = event
            self._now = start
            head = 1 + level * SLOTS + slot
            if level == 0:
                self._splice(head)
                self._used[0] &= ~(1 << slot)
                continue
            while left and (node := self._next[head]) != head:
                self._unlink(node)
                self._place(node, self._tick[node])
                left -= 1
            if not left:
                return
        self._now = max(self._now, target)

    # Rings

    def _place(self, node: int, tick: int) -> None:
        """Put a node at the end of the ring where its tick belongs."""
        self._tick[node] = tick
        now = self._now
        if tick <= now:
            head = _OVERDUE
        else:
            level = ((tick ^ now).bit_length() - 1) >> 3
            slot = (tick >> (8 * level)) & 0xFF
            head = 1 + level * SLOTS + slot
            self._used[level] |= 1 << slot
        last = self._prev[head]
        self._next[last] = node
        self._prev[node] = last
        self._next[node] = head
        self._prev[head] = node

    def _unlink(self, node: int) -> None:
        """Take a node out of its ring."""
        before, after = self._prev[node], self._next[node]
        self._next[before] = after
        self._prev[after] = before
        self._next[node] = 0
        if before == after and before < _OVERDUE:
            level, slot = divmod(before - 1, SLOTS)
            self._used[level] &= ~(1 << slot)

    def _splice(self, head: int) -> None:
        """Hang a whole ring to the end of what is overdue."""
        first, last, end = self._next[head], self._prev[head], self._prev[_OVERDUE]
        self._next[end] = first
        self._prev[first] = end
        self._next[last] = _OVERDUE
        self._prev[_OVERDUE] = last
        self._next[head] = self._prev[head] = head

    def _grow(self, node: int) -> None:
        """Make place for a node, by an eighth at least."""
        more = max(node + 1 - len(self._next), len(self._next) // 8)
        for numbers in (self._prev, self._next, self._tick):
            numbers.frombytes(bytes(numbers.itemsize * more))
