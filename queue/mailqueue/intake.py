"""The way of one message into the log: from what the caller hands over to its slot in the index.

A ticket is given up when its caller does not wait any more. What nobody waits for must not be in the queue,
for its client heard 4xx and keeps the message: a ticket that is given up never enters the index, and a CANCEL
follows its ENQ into the log unless that could be withdrawn in time.
"""

from __future__ import annotations

import asyncio
from collections import deque

from mailqueue.batch import Batch, Haste
from mailqueue.cache import PayloadCache
from mailqueue.index import Index, Location
from mailqueue.log import Log
from mailqueue.model import Fenced, NewMessage, QueueUnavailable
from mailqueue.payload import PAYLOAD_VERSION, Addressee, Meta, pack
from mailqueue.records import BodyRef, Cancel, Enq, State, encode_record


class Prepared:
    """A message ready to be appended: what does not depend on where it goes."""

    __slots__ = ("body", "created", "expires", "id", "payload", "priority", "size", "states")

    def __init__(self, new: NewMessage, id: bytes, body: BodyRef | None, now: float, lifetime: float) -> None:
        """`body` says where a large body is stored already; None: it goes into the payload."""
        self.id, self.body = id, body
        self.created = new.created or now
        self.expires = new.expires or self.created + lifetime
        self.priority = new.priority
        inline = b""
        if body is not None:
            size = body.size
        else:
            inline = new.body if isinstance(new.body, bytes) else b"".join(new.body.chunks())
            size = len(inline)
        self.size = len(new.header) + size
        self.states = [
            State(r.site, int(r.status), r.due or self.created, r.attempts, r.reply, r.last)
            for r in new.recipients
        ]
        meta = Meta(
            PAYLOAD_VERSION,
            id,
            self.created,
            self.expires,
            new.priority,
            new.sender,
            [Addressee(r.address, r.data) for r in new.recipients],
            new.envelope,
            list(new.tags),
            len(new.header),
        )
        self.payload = pack(meta, new.header, inline)

    def record(self, offset: int) -> bytes:
        """The ENQ record for a payload at this offset."""
        return encode_record(
            Enq(
                self.id,
                self.created,
                self.expires,
                self.priority,
                self.size,
                offset,
                len(self.payload),
                self.body,
                self.states,
            )
        )


class Ticket:
    """A message on its way; `future` ends when it is committed and in the index."""

    __slots__ = ("_batch", "_given_up", "_id", "_intake", "_offset", "_prepared", "deadline", "future")

    def __init__(self, intake: Intake, prepared: Prepared, deadline: float) -> None:
        """Append the message to the log. Raises Fenced."""
        self._intake, self._id, self.deadline = intake, prepared.id, deadline
        self._prepared: Prepared | None = prepared
        self.future: asyncio.Future[None] = intake.loop.create_future()
        self._given_up = False
        payload, log = prepared.payload, intake.log
        self._offset = log.room(len(payload))
        self._batch = log.append(
            prepared.record(self._offset), haste=Haste.NOW, on_commit=self._committed, payload=payload
        )

    def give_up(self) -> None:
        """Whoever wanted it kept hears that nothing is: see to it."""
        if self._given_up:
            return
        self._given_up = True
        intake, id = self._intake, self._id
        if intake.log.fenced or intake.log.withdraw(self._batch, self._committed):
            return
        slot = intake.index.find(id)
        if slot >= 0:
            intake.index.remove(slot)
            intake.cache.drop(id)
        intake.log.append(encode_record(Cancel(id)), haste=Haste.NOW)

    def _committed(self, batch: Batch | None) -> None:
        future, prepared = self.future, self._prepared
        self._prepared = None  # the ticket is kept until its deadline
        if self._given_up or future.done() or prepared is None:
            return
        if batch is None:
            future.set_exception(Fenced("the stream was taken over"))
            return
        self._intake.enter(prepared, batch, self._offset)
        future.set_result(None)


class Intake:
    """Takes messages in; one timer for all of their deadlines, which come in order."""

    def __init__(self, log: Log, index: Index, cache: PayloadCache, timeout: float) -> None:
        """`timeout`: seconds until a caller is told that the store did not take it."""
        self.log, self.index, self.cache = log, index, cache
        self.loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._tickets: deque[Ticket] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, prepared: Prepared) -> Ticket:
        """Append a message that somebody waits for. Raises Fenced."""
        ticket = Ticket(self, prepared, self.loop.time() + self._timeout)
        self._tickets.append(ticket)
        if self._timer is None:
            self._timer = self.loop.call_at(ticket.deadline, self._expire)
        return ticket

    def add(self, prepared: Prepared) -> None:
        """Append a message of our own, which is kept however long the store takes. Raises Fenced."""
        offset = self.log.room(len(prepared.payload))

        def committed(batch: Batch | None) -> None:
            if batch is not None:
                self.enter(prepared, batch, offset)

        self.log.append(
            prepared.record(offset), haste=Haste.NOW, on_commit=committed, payload=prepared.payload
        )

    def enter(self, prepared: Prepared, batch: Batch, offset: int) -> None:
        """Enter a message into the index whose ENQ is committed."""
        index = self.index
        known = index.find(prepared.id)
        if known >= 0:
            # The caller used an id twice; the later one counts, as for whoever reads the log.
            index.remove(known)
        index.add(
            prepared.id,
            prepared.created,
            prepared.expires,
            prepared.priority,
            prepared.size,
            Location(index.own, batch.number, batch.base + offset, len(prepared.payload)),
            prepared.body,
            prepared.states,
        )
        self.cache.put(prepared.id, prepared.payload)

    async def finish(self, ticket: Ticket) -> None:
        """Wait for the commit. Raises QueueUnavailable and Fenced. When the caller is cancelled the message
        is not kept."""
        try:
            await ticket.future
        except asyncio.CancelledError:
            ticket.give_up()
            raise

    def close(self) -> None:
        """Whoever still waits hears that it could not be kept; if it was, that is a window the package
        names."""
        for ticket in self._tickets:
            if not ticket.future.done():
                ticket.future.set_exception(QueueUnavailable("the queue is closed"))
        self._tickets.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        now, tickets = self.loop.time(), self._tickets
        while tickets and (tickets[0].future.done() or tickets[0].deadline <= now):
            ticket = tickets.popleft()
            if not ticket.future.done():
                failing = self.log.failing
                ticket.future.set_exception(
                    QueueUnavailable(str(failing) if failing else "the store does not answer in time")
                )
                ticket.give_up()
        if tickets:
            self._timer = self.loop.call_at(max(tickets[0].deadline, now + 0.1), self._expire)
