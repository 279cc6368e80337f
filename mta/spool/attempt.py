"""One try of a queued message, and all that follows from it.

The message is loaded, routed anew (the configuration may have changed since it came in) and sent; what became
of its recipients is written down together with the reports that it calls for. A message whose octets cannot
be read is put on hold and reported to the log.

Raises what the caller has to know: UnknownMessage when an administrator was faster, other QueueErrors and
SpillError when the try could not be made.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailqueue.model import (
    Change,
    CorruptMessage,
    QueuedMessage,
    QueueError,
    QueueUnavailable,
    Status,
    UnknownMessage,
)
from mailqueue.queue import MailQueue
from mailqueue.schedule import Result, RetryPolicy
from mailqueue.schedule.retry import expires_at
from mta.content import Rendered, SpillError
from mta.delivery.outcome import NextHop, Outcome, Transport
from mta.delivery.plan import plan
from mta.dsn.decide import Kind, Vouching
from mta.dsn.returned import Original
from mta.envelope import Envelope, Recipient
from mta.policy.verdict import Advice
from mta.reply import Reply
from mta.spool.advice import About, Advisor, advised, reported
from mta.spool.hops import PLAIN, Naming, hop_of, learned, site_of
from mta.spool.record import Record, RecordError, decode_recipient, decode_record
from mta.spool.reports import Reports, Route
from mta.spool.stored import Stored
from mta.spool.tries import Consequences, consequences, deadlines_of, delivered, given_up, policy_for

ATTEMPT = 600.0
"""Seconds for one try: nobody waits for it, so a slow next hop may take as long as RFC 5321 4.5.3.2 says."""

OUR_BUG = Reply(451, "4.3.0", "internal error, the message is tried again", "internal error")
NO_TRANSPORT = Reply(451, "4.3.5", "the next hop is not configured", "no such transport")
NOTHING_SAID: Mapping[int, Advice] = {}


class Journal(Protocol):
    """Told what becomes of queued messages, for log and metrics."""

    def tried(
        self, message: QueuedMessage, record: Record, outcomes: Sequence[Outcome], seconds: float
    ) -> None:
        """A queued message was tried for some of its recipients."""

    def expired(self, message: QueuedMessage, record: Record, recipients: Sequence[Recipient]) -> None:
        """The time of recipients is over; their last reply is in the message."""

    def reported(self, about: str, report: str) -> None:
        """A report about a message was queued."""

    def unreadable(self, name: str, problem: Exception) -> None:
        """A message cannot be read and is on hold."""

    def failed(self, name: str, error: Exception) -> None:
        """We have a bug."""


@dataclass(slots=True, frozen=True)
class AttemptSettings:
    """How long and how often messages are tried."""

    retry: RetryPolicy
    report_retry: RetryPolicy


@dataclass(slots=True, frozen=True)
class Loaded:
    """A queued message that can be sent."""

    message: QueuedMessage
    record: Record
    recipients: list[Recipient]
    """All of them, by position."""
    content: Stored


class Attempts:
    """Makes tries for the queue of one process."""

    def __init__(
        self,
        settings: AttemptSettings,
        queue: MailQueue,
        transports: Mapping[str, Transport],
        route: Route,
        is_final: Callable[[str], bool],
        reports: Reports,
        journal: Journal,
        advisor: Advisor,
        *,
        added: Callable[[str], None],
        now: Callable[[], float],
        naming: Naming = PLAIN,
    ) -> None:
        """`now` is seconds of the epoch; `is_final` tells whether a transport leads to a mail store; `added`
        is told of reports."""
        self._settings = settings
        self._queue = queue
        self._transports = transports
        self._route = route
        self._is_final = is_final
        self._reports = reports
        self._journal = journal
        self._advisor = advisor
        self._added = added
        self._now = now
        self._naming = naming

    async def load(self, name: str) -> Loaded | None:
        """The message of a queue id; None when it cannot be read: it is on hold then."""
        try:
            message = await self._queue.load(name)
            record = decode_record(message.envelope)
            record.envelope(message.sender, message.created)
            recipients = [decode_recipient(state.address, state.data) for state in message.recipients]
            body = await message.body.fetch()
        except (CorruptMessage, RecordError) as problem:
            await self._hold(name, problem)
            return None
        content = Stored(
            message.header,
            body,
            has_8bit=record.has_8bit,
            plain=record.plain,
            may_deliver=self._queue.may_deliver,
        )
        return Loaded(message, record, recipients, content)

    async def make(
        self, loaded: Loaded, site: str, positions: Sequence[int], learnt: Callable[[Result, str], None]
    ) -> None:
        """Try the recipients at `positions` at one next hop, and write down what became of them.

        `learnt` is told what that taught about the next hop as soon as its session is free again: what has to
        be written may take longer.
        """
        message, record = loaded.message, loaded.record
        now = self._now()
        envelope = record.envelope(message.sender, now)
        recipients = {position: loaded.recipients[position] for position in positions}
        envelope.recipients = list(recipients.values())
        policy = policy_for(record, self._settings.retry, self._settings.report_retry)
        end, why = expires_at(policy, deadlines_of(message, record))
        if now >= end and why == "deliver_by":
            await self._expire(loaded, positions)
            return
        here, decided = await self._routes(loaded, envelope, site, recipients)
        given_up = False
        if here:
            transport = hop_of(site).transport
            made: dict[int, Outcome] = {}
            try:
                await self._send(transport, envelope, [(recipients[p], hop) for p, hop in here], loaded, made)
            except BaseException:  # we stop: what was delivered before is delivered
                done = [(here[index][0], outcome) for index, outcome in made.items()]
                await _Delivered(self._queue, message.id, done, self._now()).write()
                raise
            outcomes = [made[index] for index in range(len(here))]
            learnt(*learned(outcomes, site))
            tried = [(p, outcome) for (p, _), outcome in zip(here, outcomes, strict=True)]
            if not loaded.content.is_wanted():  # what our own doubt has ended is no try
                tried = [(p, outcome) for p, outcome in tried if not _is_ours(outcome.reply)]
                given_up = len(tried) < len(here)
            decided += tried
        if decided:
            await self.conclude(loaded, hop_of(site).transport, decided, self._now() - now)
        if given_up:
            raise QueueUnavailable("another node may have taken the message over")

    async def suspend(self, name: str, positions: Sequence[int], reason: str) -> None:
        """Count a try that a dead next hop did not get: the sender is to be told."""
        reply = Reply(451, "4.4.1", f"The next server does not answer: {reason}"[:300], "not tried")
        await self.decide(name, positions, reply)

    async def decide(self, name: str, positions: Sequence[int], reply: Reply) -> None:
        """Take our own reply for the next hop's, as an administrator wants who returns a message."""
        loaded = await self.load(name)
        if loaded is not None:
            decided = [(p, Outcome(loaded.recipients[p], reply, "")) for p in positions]
            await self.conclude(loaded, "", decided)

    async def conclude(
        self, loaded: Loaded, transport: str, decided: Sequence[tuple[int, Outcome]], seconds: float = 0.0
    ) -> None:
        """Write down what became of recipients, and tell the journal."""
        self._journal.tried(loaded.message, loaded.record, [outcome for _, outcome in decided], seconds)
        await self._conclude(loaded, transport, decided, self._now())

    async def put_off(self, name: str, positions: Sequence[int]) -> None:
        """Put off what a bug of ours hit, as after a temporary failure; on hold when its time is over, for
        then a bug must not be the reason that nobody hears of it."""
        now, live = self._now(), self._queue.live
        handle = live.handle_of(name)
        over = now >= live.row(handle).expires
        status = Status.HELD if over else Status.DEFERRED
        states = live.recipients(handle)
        delay = self._settings.retry.delay
        changes = [
            Change(p, status, now + delay(states[p].attempts + 1), str(OUR_BUG), now) for p in positions
        ]
        await self._queue.settle(name, changes, urgent=over)

    async def _routes(
        self, loaded: Loaded, envelope: Envelope, site: str, recipients: Mapping[int, Recipient]
    ) -> tuple[list[tuple[int, NextHop]], list[tuple[int, Outcome]]]:
        """Which recipients are still for this site, and what the route decides about others."""
        session = loaded.record.origin.session()
        here: list[tuple[int, NextHop]] = []
        decided: list[tuple[int, Outcome]] = []
        moved: list[Change] = []
        if self._naming.find is not None:
            await self._naming.find(list(recipients.values()))
        for position, recipient in recipients.items():
            hop = self._route(session, envelope, recipient)
            if isinstance(hop, Reply):
                decided.append((position, Outcome(recipient, hop, "")))
            elif self._naming.site(hop) == site:
                here.append((position, hop))
            else:
                status = loaded.message.recipients[position].status
                moved.append(Change(position, status, self._now(), site=site_of(hop)))
        if moved:
            await self._queue.settle(loaded.message.id, moved, urgent=False)
        return here, decided

    async def _send(
        self,
        transport: str,
        envelope: Envelope,
        recipients: Sequence[tuple[Recipient, NextHop]],
        loaded: Loaded,
        outcomes: dict[int, Outcome],
    ) -> None:
        """Fill `outcomes`, by place in `recipients`, domain by domain."""
        found = self._transports.get(transport)
        if found is None:
            outcomes |= {n: Outcome(one, NO_TRANSPORT, "") for n, (one, _) in enumerate(recipients)}
            return
        attributes = loaded.record.origin.attributes if found.introduces else None
        deadline = asyncio.get_running_loop().time() + ATTEMPT
        for group in plan(recipients):
            made = await found.deliver(
                envelope.sent_to(group.recipients),
                group.recipients,
                Rendered(b"", loaded.content, loaded.content.is_wanted),
                deadline,
                attributes,
            )
            outcomes |= zip(group.positions, made, strict=True)

    async def _conclude(
        self, loaded: Loaded, transport: str, decided: Sequence[tuple[int, Outcome]], now: float
    ) -> None:
        message, record = loaded.message, loaded.record
        has_it = _Delivered(self._queue, message.id, decided, now)
        try:
            found, advice = decided, NOTHING_SAID
            if any(outcome.reply.is_temporary for _, outcome in decided):
                found, advice = await advised(
                    self._advisor,
                    self._about(loaded, transport, now),
                    [(p, outcome, message.recipients[p].attempts + 1) for p, outcome in decided],
                    has_it.write,
                )
            after = consequences(
                policy_for(record, self._settings.retry, self._settings.report_retry),
                deadlines_of(message, record),
                [(position, message.recipients[position], outcome) for position, outcome in found],
                now,
                random.random,
                is_final=self._is_final(transport),
                advice=advice,
            )
            await self._settle(loaded, after, has_it, transport)
        except BaseException:  # a report that cannot be kept, a bug, the end: no second copy for that
            await has_it.write()
            raise

    def _about(self, loaded: Loaded, transport: str, now: float) -> About:
        message, record = loaded.message, loaded.record
        return About(
            record.origin.session(),
            record.envelope(message.sender, message.created),
            transport,
            message.header,
            max(0.0, now - message.created),
            message.id,
        )

    async def _expire(self, loaded: Loaded, positions: Sequence[int]) -> None:
        message, record = loaded.message, loaded.record
        policy = policy_for(record, self._settings.retry, self._settings.report_retry)
        late = expires_at(policy, deadlines_of(message, record))[1] == "deliver_by"
        states = [(p, message.recipients[p], loaded.recipients[p]) for p in positions]
        self._journal.expired(message, record, [recipient for _, _, recipient in states])
        nobody = _Delivered(self._queue, message.id, (), 0.0)
        await self._settle(loaded, given_up(states, self._now(), late=late), nobody)

    async def _settle(
        self, loaded: Loaded, after: Consequences, has_it: _Delivered, transport: str = ""
    ) -> None:
        """Write down what became of recipients, together with the reports that it calls for."""
        message, record = loaded.message, loaded.record
        reports = []
        if after.events:
            tries = {state.address: state.attempts + 1 for state in message.recipients}
            about = self._about(loaded, transport, self._now())
            events = await reported(self._advisor, about, after.events, tries, has_it.write)
            original = Original(
                record.envelope(message.sender, message.created),
                message.header,
                loaded.content.body,
                record.has_8bit,
                message.created,
                queue_id=message.id,
            )
            reports = self._reports.about(original, events, Vouching(record.vouching), Kind(record.kind))
        changes = has_it.left(after.changes)
        if changes:
            names = await self._queue.settle(
                message.id, changes, urgent=after.is_final or bool(reports), follow=reports
            )
        else:
            names = [await self._queue.enqueue(report) for report in reports]
        for name in names:
            self._journal.reported(message.id, name)
            self._added(name)

    async def _hold(self, name: str, problem: Exception) -> None:
        """Nothing can be done with it until an administrator has looked at it."""
        self._journal.unreadable(name, problem)
        reply = f"451 4.3.0 unreadable in the queue: {problem}"[:500]
        states = self._queue.live.recipients(self._queue.live.handle_of(name))
        changes = [
            Change(state.position, Status.HELD, reply=reply) for state in states if state.status.is_live
        ]
        await self._queue.settle(name, changes, urgent=True)


class _Delivered:
    """Who has the message now: written down before anybody is waited for who has a say in the rest.

    If this process ended meanwhile they would get it once more.
    """

    def __init__(
        self, queue: MailQueue, name: str, decided: Sequence[tuple[int, Outcome]], now: float
    ) -> None:
        self._queue = queue
        self._name = name
        self._decided = decided
        self._now = now
        self._written: set[int] = set()

    async def write(self) -> None:
        """Write it down, once."""
        changes = [
            delivered(position, outcome, self._now)
            for position, outcome in self._decided
            if outcome.reply.is_positive and position not in self._written
        ]
        if changes:
            await self._queue.settle(self._name, changes, urgent=True)
            self._written.update(change.recipient for change in changes)

    def left(self, changes: Sequence[Change]) -> list[Change]:
        """What is to be written still."""
        return [change for change in changes if change.recipient not in self._written]


def _is_ours(reply: Reply) -> bool:
    """A failure that no next hop has spoken of."""
    return reply.is_temporary and bool(reply.cause)


GIVEN_BACK = (QueueError, SpillError)
"""What a try raises that could not be made."""
__all__ = ["ATTEMPT", "GIVEN_BACK", "AttemptSettings", "Attempts", "Journal", "Loaded", "UnknownMessage"]
