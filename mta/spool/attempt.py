"""One try of a queued message, and all that follows from it.

The message is loaded, routed anew (the configuration may have changed since it came in) and sent; what became
of its recipients is written down (`mta.spool.conclude`), while the try goes on with others
(`mta.spool.parts`) and at its end. A message whose octets cannot be read is put on hold and reported to the
log.

Raises what the caller has to know: UnknownMessage when an administrator was faster, other QueueErrors and
SpillError when the try could not be made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from mailqueue.model import (
    Change,
    CorruptMessage,
    QueueError,
    QueueUnavailable,
    Status,
    UnknownMessage,
)
from mailqueue.queue import MailQueue
from mailqueue.schedule import Result
from mailqueue.schedule.retry import expires_at
from mta.content import Rendered, SpillError
from mta.delivery.outcome import NextHop, Outcome, Told, Transport, placed
from mta.delivery.plan import plan
from mta.envelope import Envelope, Recipient
from mta.reply import Reply
from mta.spool.addressing import Addressing
from mta.spool.advice import Advisor
from mta.spool.conclude import AttemptSettings, Conclusions, Journal, Loaded, Noted
from mta.spool.hops import PLAIN, Naming, hop_of, learned, site_of
from mta.spool.parts import Parts
from mta.spool.record import RecordError, decode_recipient, decode_record
from mta.spool.reports import Reports, Route
from mta.spool.stored import Stored
from mta.spool.tries import deadlines_of, policy_for

ATTEMPT = 600.0
"""Seconds for one try: nobody waits for it, so a slow next hop may take as long as RFC 5321 4.5.3.2 says."""

OUR_BUG = Reply(451, "4.3.0", "internal error, the message is tried again", "internal error")
NO_TRANSPORT = Reply(451, "4.3.5", "the next hop is not configured", "no such transport")


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
        addressing: Addressing | None = None,
    ) -> None:
        """`now` is seconds of the epoch; `is_final` tells whether a transport leads to a mail store; `added`
        is told of reports; `addressing` looks up who gets our own mail, None: it goes as it is."""
        self._addressing = addressing
        self._settings = settings
        self._queue = queue
        self._transports = transports
        self._route = route
        self._journal = journal
        self._now = now
        self._naming = naming
        self._conclusions = Conclusions(
            settings, queue, is_final, reports, journal, advisor, added=added, now=now
        )

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
        except QueueUnavailable as problem:
            self._journal.not_tried(name, problem)
            raise
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
            await self._conclusions.expire(loaded, positions)
            return
        refused: list[tuple[int, Outcome]] = []
        if self._addressing is not None and self._addressing.is_for(loaded):
            refused = await self._addressing.address(loaded, envelope, recipients)
            envelope.recipients = list(recipients.values())
        here, decided = await self._routes(loaded, envelope, site, recipients)
        decided += refused
        given_up = False
        transport = hop_of(site).transport
        noted = Noted(self._queue, message.id)
        if here:
            routes = [(recipients[p], hop) for p, hop in here]
            if len(here) == 1:
                outcomes = await self._send(transport, envelope, routes, loaded, None)
                learnt(*learned(outcomes, site))
            else:
                found = self._conclusions
                parts = Parts(
                    lambda some: found.write_part(loaded, transport, some, now, noted),
                    lambda some: found.write(loaded, transport, some, now, noted),
                )
                told = placed(parts.told, [p for p, _ in here])
                try:
                    outcomes = await self._send(transport, envelope, routes, loaded, told)
                    learnt(*learned(outcomes, site))
                    await parts.rest()
                except BaseException:  # we stop, or have a bug: what was delivered before is delivered
                    await parts.cut()
                    raise
            tried = [(p, outcome) for (p, _), outcome in zip(here, outcomes, strict=True)]
            if not loaded.content.is_wanted():  # what our own doubt has ended is no try
                tried = [(p, outcome) for p, outcome in tried if not _is_ours(outcome.reply)]
                given_up = len(tried) < len(here)
            decided += tried
        if decided:
            await self._conclusions.write(loaded, transport, decided, now, noted)
        if given_up:
            raise QueueUnavailable("another node may have taken the message over")

    async def suspend(self, name: str, positions: Sequence[int], reason: str) -> None:
        """Count a try that a dead next hop did not get: the sender is to be told."""
        # What it is known for may name servers inside: that is for the log, not for the sender.
        reply = Reply(451, "4.4.1", "The next server does not answer", f"not tried: {reason}"[:300])
        await self.decide(name, positions, reply)

    async def decide(self, name: str, positions: Sequence[int], reply: Reply) -> None:
        """Take our own reply for the next hop's, as an administrator wants who returns a message."""
        loaded = await self.load(name)
        if loaded is not None:
            decided = [(p, Outcome(loaded.recipients[p], reply, "")) for p in positions]
            await self.conclude(loaded, "", decided)

    async def conclude(self, loaded: Loaded, transport: str, decided: Sequence[tuple[int, Outcome]]) -> None:
        """Write down what became of recipients, and tell the journal."""
        await self._conclusions.write(loaded, transport, decided, self._now())

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
        told: Told | None,
    ) -> list[Outcome]:
        """Deliver next hop by next hop; `told` hears of recipients by their place here."""
        found = self._transports.get(transport)
        if found is None:
            return [Outcome(one, NO_TRANSPORT, "") for one, _ in recipients]
        attributes = loaded.record.origin.attributes if found.introduces else None
        deadline = asyncio.get_running_loop().time() + ATTEMPT
        outcomes: dict[int, Outcome] = {}
        for group in plan(recipients):
            made = await found.deliver(
                envelope.sent_to(group.recipients),
                group.recipients,
                Rendered(b"", loaded.content, loaded.content.is_wanted),
                deadline,
                attributes,
                placed(told, group.positions),
            )
            outcomes |= zip(group.positions, made, strict=True)
            if told is not None and len(outcomes) < len(recipients):
                told(list(zip(group.positions, made, strict=True)))
        return [outcomes[place] for place in range(len(recipients))]

    async def _hold(self, name: str, problem: Exception) -> None:
        """Nothing can be done with it until an administrator has looked at it."""
        self._journal.unreadable(name, problem)
        reply = f"451 4.3.0 unreadable in the queue: {problem}"[:500]
        states = self._queue.live.recipients(self._queue.live.handle_of(name))
        changes = [
            Change(state.position, Status.HELD, reply=reply) for state in states if state.status.is_live
        ]
        await self._queue.settle(name, changes, urgent=True)


def _is_ours(reply: Reply) -> bool:
    """A failure that no next hop has spoken of."""
    return reply.is_temporary and bool(reply.cause)


GIVEN_BACK = (QueueError, SpillError)
"""What a try raises that could not be made."""
__all__ = ["ATTEMPT", "GIVEN_BACK", "AttemptSettings", "Attempts", "Journal", "Loaded", "UnknownMessage"]
