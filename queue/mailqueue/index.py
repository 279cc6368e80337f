"""The live messages of a stream in memory: columns of numbers, about 90 octets a message.

A message has a slot, its handle. What only few have (several recipients, a large body) is in side tables.
Addresses, envelope and header are not here: they are read from the log when the message is due. The index
also counts, for every log entry, the messages whose payload is in it, which tells what can be deleted.

The index knows nothing of commit: who changes it decides when (see `mailqueue.queue`).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mailqueue.ids import ID_SIZE
from mailqueue.idtable import IdTable
from mailqueue.intern import Interner
from mailqueue.recipients import HELD, LIVE_MAX, Recipients
from mailqueue.records import BodyRef, State

FREE = 255
"""Status of a slot without a message."""
_U32, _U16 = 0xFFFFFFFF, 0xFFFF
_GROWTH = 1024
_REST = 1024
"""Slots that rest before they are used again, so that a stale handle is seen as such for a while."""
INFINITY = float("inf")
_COLUMNS = (
    "attempts",
    "count",
    "created",
    "due",
    "expires",
    "last",
    "length",
    "number",
    "offset",
    "priority",
    "reply",
    "site",
    "size",
    "stream",
)


class Location(NamedTuple):
    """Where a payload is."""

    stream: bytes
    number: int
    offset: int
    """From the beginning of the entry's object."""
    length: int


class Index:
    """The columns, by slot."""

    __slots__ = (
        "_free",
        "_rest",
        "attempts",
        "bodies",
        "count",
        "created",
        "due",
        "expires",
        "ids",
        "last",
        "length",
        "live_recipients",
        "many",
        "messages",
        "number",
        "offset",
        "own",
        "priority",
        "replies",
        "reply",
        "site",
        "sites",
        "size",
        "status",
        "stream",
        "streams",
        "table",
        "total_size",
        "uses",
    )

    def __init__(self, own: bytes) -> None:
        """`own` is the stream whose log the payloads of new messages are in."""
        self.own = own
        self.ids = bytearray()
        self.table = IdTable(self.ids)
        self.due = array("d")
        self.created, self.expires = array("I"), array("I")
        self.number = array("Q")
        self.offset, self.length, self.size = array("I"), array("I"), array("I")
        self.site, self.reply, self.last = array("I"), array("I"), array("I")
        self.stream, self.attempts = array("H"), array("H")
        self.status, self.priority = bytearray(), array("b")
        self.count = array("I")
        self.many: dict[int, Recipients] = {}
        self.bodies: dict[int, BodyRef] = {}
        self.sites, self.replies = Interner(), Interner()
        self.streams: list[bytes] = [own]
        self.uses: list[dict[int, int]] = [{}]
        """By number of the stream: entry number -> live payloads in it."""
        self.messages = 0
        self.live_recipients = 0
        self.total_size = 0
        self._free = array("I")
        self._rest: deque[int] = deque()

    # --- looking -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.messages

    def find(self, id: bytes) -> int:
        """Slot of an id, -1 when it is not here."""
        return self.table.find(id)

    def is_live(self, slot: int) -> bool:
        """True when there is a message in this slot."""
        return 0 <= slot < len(self.status) and self.status[slot] != FREE

    def slots(self) -> Iterator[int]:
        """All slots with a message."""
        return (slot for slot, status in enumerate(self.status) if status != FREE)

    def id_of(self, slot: int) -> bytes:
        """The id in a slot."""
        return bytes(self.ids[slot * ID_SIZE : slot * ID_SIZE + ID_SIZE])

    def location(self, slot: int) -> Location:
        """Where the payload is."""
        return Location(
            self.streams[self.stream[slot]], self.number[slot], self.offset[slot], self.length[slot]
        )

    def summary(self, slot: int) -> tuple[int, float, str]:
        """Status, due time and site of a message as a whole, as `mailqueue.model.Row` has them. Of one with
        many recipients all are looked at."""
        many = self.many.get(slot)
        if many is None:
            return self.status[slot], self.due[slot], self.sites.text(self.site[slot])
        site = many.common_site()
        return many.status_of_all(), many.due_of_all(), self.sites.text(site) if site >= 0 else ""

    def live_in(self, slot: int) -> int:
        """Recipients that are live."""
        many = self.many.get(slot)
        return many.live() if many is not None else int(self.status[slot] <= LIVE_MAX)

    def states(self, slot: int) -> list[State]:
        """All recipients of a message, in order."""
        return [self.state(slot, recipient) for recipient in range(self.count[slot])]

    def state(self, slot: int, recipient: int) -> State:
        """One recipient of a message. Raises IndexError for one that does not exist."""
        if not 0 <= recipient < self.count[slot]:
            raise IndexError(f"recipient {recipient} of {self.count[slot]}")
        many = self.many.get(slot)
        if many is None:
            due = self.due[slot]
            return State(
                self.sites.text(self.site[slot]),
                self.status[slot],
                due if due != INFINITY else 0.0,
                self.attempts[slot],
                self.replies.text(self.reply[slot]),
                float(self.last[slot]),
            )
        return State(
            self.sites.text(many.site[recipient]),
            many.status[recipient],
            many.due[recipient],
            many.attempts[recipient],
            self.replies.text(many.reply[recipient]),
            float(many.last[recipient]),
        )

    def frozen(self) -> Index:
        """The messages as they are now, to be written while this index changes. It finds no ids."""
        copy = Index(self.own)
        for name in (*_COLUMNS, "ids", "status", "streams"):
            setattr(copy, name, getattr(self, name)[:])
        copy.sites, copy.replies = self.sites.copy(), self.replies.copy()
        copy.many = {slot: many.copy() for slot, many in self.many.items()}
        copy.bodies = dict(self.bodies)
        copy.messages = self.messages
        return copy

    # --- changing ----------------------------------------------------------------------------------

    def add(
        self,
        id: bytes,
        created: float,
        expires: float,
        priority: int,
        size: int,
        location: Location,
        body: BodyRef | None,
        states: Sequence[State],
    ) -> int:
        """Enter a message that is not here; returns its slot."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self.ids[slot * ID_SIZE : slot * ID_SIZE + ID_SIZE] = id
        self.table.add(id, slot)
        self.created[slot], self.expires[slot] = _seconds(created), _seconds(expires)
        self.priority[slot] = priority
        self.size[slot] = min(size, _U32)
        self._locate(slot, location)
        if body is not None:
            self.bodies[slot] = body
        self.count[slot] = len(states)
        take_site, take_reply = self.sites.take, self.replies.take
        if len(states) == 1:
            state = states[0]
            status = state.status
            self.status[slot] = status
            self.site[slot] = take_site(state.site)
            self.due[slot] = state.due if status != HELD else INFINITY
            self.attempts[slot] = min(state.attempts, _U16)
            self.reply[slot] = take_reply(state.reply)
            self.last[slot] = _seconds(state.last)
            self.live_recipients += status <= LIVE_MAX
        else:
            many = self.many[slot] = Recipients()
            for state in states:
                many.append(
                    take_site(state.site),
                    state.status,
                    state.due,
                    min(state.attempts, _U16),
                    take_reply(state.reply),
                    _seconds(state.last),
                )
            # The columns of one recipient say nothing of this message.
            self.status[slot] = self.site[slot] = self.reply[slot] = 0
            self.live_recipients += many.live()
        self.messages += 1
        self.total_size += self.size[slot]
        return slot

    def add_single(
        self,
        id: bytes,
        created: int,
        expires: int,
        priority: int,
        size: int,
        location: Location,
        status: int,
        site: str,
        due: float,
        attempts: int,
        reply: str,
        last: int,
    ) -> int:
        """`add` for one recipient and no large body, with numbers that come from columns: twice as fast,
        which counts when there are a million."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self.ids[slot * ID_SIZE : slot * ID_SIZE + ID_SIZE] = id
        self.table.add(id, slot)
        self.created[slot] = created
        self.expires[slot] = expires
        self.priority[slot] = priority
        self.size[slot] = size
        self._locate(slot, location)
        self.count[slot] = 1
        self.status[slot] = status
        self.site[slot] = self.sites.take(site)
        self.due[slot] = due
        self.attempts[slot] = attempts
        self.reply[slot] = self.replies.take(reply)
        self.last[slot] = last
        self.live_recipients += status <= LIVE_MAX
        self.messages += 1
        self.total_size += size
        return slot

    def set_states(self, slot: int, changes: Sequence[tuple[int, State]]) -> None:
        """Recipients have new states. Raises IndexError for one that does not exist."""
        many = self.many.get(slot)
        if any(not 0 <= recipient < self.count[slot] for recipient, _ in changes):
            raise IndexError("no such recipient")
        sites, replies = self.sites, self.replies
        for recipient, state in changes:
            # What is new is taken before what is old is dropped: mostly they are the same.
            site, reply = sites.take(state.site), replies.take(state.reply)
            attempts, last = min(state.attempts, _U16), _seconds(state.last)
            if many is None:
                before = self.status[slot]
                sites.drop(self.site[slot])
                replies.drop(self.reply[slot])
                self.site[slot], self.reply[slot] = site, reply
                self.status[slot] = state.status
                self.due[slot] = state.due if state.status != HELD else INFINITY
                self.attempts[slot], self.last[slot] = attempts, last
            else:
                before = many.status[recipient]
                sites.drop(many.site[recipient])
                replies.drop(many.reply[recipient])
                many.site[recipient], many.reply[recipient] = site, reply
                many.status[recipient], many.due[recipient] = state.status, state.due
                many.attempts[recipient], many.last[recipient] = attempts, last
            self.live_recipients += (state.status <= LIVE_MAX) - (before <= LIVE_MAX)

    def move(self, slot: int, location: Location, body: BodyRef | None) -> None:
        """The payload of a message is somewhere else now."""
        self._leave(slot)
        self._locate(slot, location)
        if body is not None:
            self.bodies[slot] = body
        else:
            self.bodies.pop(slot, None)

    def remove(self, slot: int) -> None:
        """The message is gone."""
        self.table.remove(self.id_of(slot))
        many = self.many.pop(slot, None)
        if many is None:
            self.sites.drop(self.site[slot])
            self.replies.drop(self.reply[slot])
            self.live_recipients -= self.status[slot] <= LIVE_MAX
        else:
            for site, reply in zip(many.site, many.reply, strict=True):
                self.sites.drop(site)
                self.replies.drop(reply)
            self.live_recipients -= many.live()
        self.bodies.pop(slot, None)
        self._leave(slot)
        self.status[slot] = FREE
        self.messages -= 1
        self.total_size -= self.size[slot]
        self._rest.append(slot)
        if len(self._rest) > _REST:
            self._free.append(self._rest.popleft())

    def foreign_streams(self) -> list[bytes]:
        """Streams other than our own whose logs hold live payloads."""
        return [stream for stream, uses in zip(self.streams[1:], self.uses[1:], strict=True) if uses]

    # --- inside ------------------------------------------------------------------------------------

    def _locate(self, slot: int, location: Location) -> None:
        number = 0 if location.stream == self.own else self._stream_number(location.stream)
        self.stream[slot] = number
        self.number[slot], self.offset[slot], self.length[slot] = location[1:]
        uses = self.uses[number]
        uses[location.number] = uses.get(location.number, 0) + 1

    def _leave(self, slot: int) -> None:
        uses, entry = self.uses[self.stream[slot]], self.number[slot]
        left = uses[entry] - 1
        if left:
            uses[entry] = left
        else:
            del uses[entry]

    def _stream_number(self, stream: bytes) -> int:
        # Few, and each for half an hour after an adoption.
        for number, known in enumerate(self.streams):
            if known == stream:
                return number
        for number in range(1, len(self.streams)):
            if not self.uses[number]:
                self.streams[number] = stream
                return number
        self.streams.append(stream)
        self.uses.append({})
        return len(self.streams) - 1

    def _grow(self) -> None:
        first = len(self.status)
        self.ids.extend(bytes(ID_SIZE * _GROWTH))
        self.status.extend(bytes((FREE,)) * _GROWTH)
        for name in _COLUMNS:
            column = getattr(self, name)
            column.frombytes(bytes(column.itemsize * _GROWTH))
        self._free.extend(range(first + _GROWTH - 1, first - 1, -1))


def _seconds(time: float) -> int:
    # Whole seconds from 1970 to 2106, which is enough for what is shown and for expiry.
    return 0 if time <= 0 else _U32 if time >= _U32 else int(time)
