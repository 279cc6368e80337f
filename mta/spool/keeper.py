"""Takes from a transaction what could not be delivered while the client waits.

The order: the message is durable in the queue, then the reports that are owed are, then the client reads 250.
When the queue cannot take the message nothing is kept, and the client keeps it: the outcomes stay temporary,
with the reason in words for the client and for the log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from msgspec import structs

from mailqueue.model import Fenced, NewMessage, QueuedRecipient, QueueError, Status
from mailqueue.queue import MailQueue
from mailqueue.schedule import Deadlines, RetryPolicy, next_step
from mailqueue.schedule.retry import expires_at
from mta import log
from mta.address import NULL, Address
from mta.content import MEMORY_LIMIT, MessageBuffer, SpillError
from mta.delivery.outcome import NextHop, Outcome
from mta.dsn.decide import Kind, Vouching
from mta.dsn.returned import Original
from mta.envelope import Envelope, Recipient
from mta.handover import Parcel
from mta.net.outbound import LATE_TIME
from mta.policy.verdict import Advice, Orders
from mta.reply import Reply
from mta.session import Session
from mta.spool.advice import About, Advisor, advised, reported
from mta.spool.hops import site_of
from mta.spool.owed import accepted, events_of, tells_of_refusals
from mta.spool.record import Origin, encode_recipient, encode_record, make_record
from mta.spool.replies import kept_outcome, kept_text
from mta.spool.reports import Reports, Route
from mta.spool.stored import Tail
from mta.spool.tries import policy_with, with_lifetime

NOT_YET = Reply(451, "4.3.0", "the message waits for its time", "future release")
NOT_READY = Reply(451, "4.3.0", "the queue is not ready", "no queue at the moment")


@dataclass(slots=True, frozen=True)
class KeepSettings:
    """When the queue takes a message. Numbers are this worker's share; 0 is no limit."""

    retry: RetryPolicy
    vouched_only: bool = False
    max_messages: int = 0
    max_size: int = 0
    """Octets."""
    max_latency: float = 5.0
    """Seconds that the store takes."""


class Keeper:
    """`mta.handover.Spool` of a worker."""

    def __init__(
        self,
        settings: KeepSettings,
        queue: Callable[[], MailQueue | None],
        reports: Reports,
        route: Route,
        is_trusted: Callable[[str], bool],
        is_final: Callable[[str], bool],
        advisor: Advisor,
        *,
        added: Callable[[str], None],
        now: Callable[[], float],
        awaited: Callable[[str], None] = lambda name: None,
        late: Callable[[str, int, Outcome], None] = lambda name, position, outcome: None,
        kept: Callable[[str, float, Sequence[Outcome]], None] = lambda name, at, outcomes: None,
    ) -> None:
        """`queue` gives the queue, None while there is none; `added` is told of each new one, `kept` of it
        and its first try, `awaited` of one about which next hops may answer still, `late` of such answers.

        `is_trusted` tells whether a client address is in a trusted network, `is_final` whether a transport
        leads to a mail store rather than to another relay.
        """
        self._settings = settings
        self._queue = queue
        self._reports = reports
        self._route = route
        self._is_trusted = is_trusted
        self._is_final = is_final
        self._advisor = advisor
        self._added = added
        self._awaited = awaited
        self._late = late
        self._kept = kept
        self._now = now

    def postpones(self, envelope: Envelope) -> Reply | None:
        """FUTURERELEASE: not now."""
        if envelope.hold_for is None and envelope.hold_until is None:
            return None
        return NOT_YET

    def concerns(self, envelope: Envelope, outcomes: Sequence[Outcome], orders: Orders | None = None) -> bool:
        """True when something waits, or a report may be owed, or an archive wants one."""
        recipients = envelope.recipients
        if orders is not None and orders.journal:
            return True
        if len(outcomes) == 1:
            reply = outcomes[0].reply
            if reply.is_positive:
                return recipients[0].notify is not None or envelope.deliver_by is not None
            return reply.is_temporary
        done = any(outcome.reply.is_positive for outcome in outcomes)
        if any(outcome.reply.is_temporary or (done and outcome.reply.is_permanent) for outcome in outcomes):
            return True
        return done and (
            envelope.deliver_by is not None or any(recipient.notify is not None for recipient in recipients)
        )

    def refuses(self, session: Session) -> Reply | None:
        """Why nothing of this session would be kept now."""
        queue = self._queue()
        return NOT_READY if queue is None or queue.fenced else self._full(queue, self.vouching(session))

    async def keep(self, parcel: Parcel) -> tuple[list[Outcome], bool]:
        """See `mta.handover.Spool.keep`."""
        vouching = self.vouching(parcel.session)
        if vouching is Vouching.SPF and not self._leads_to(parcel.envelope.sender):
            vouching = Vouching.NOBODY
        queue = self._queue()
        advice: dict[int, Advice] = {}
        if queue is not None and not (parcel.orders is not None and parcel.orders.held):
            parcel, advice = await self._advised(parcel)
        outcomes = parcel.outcomes
        if any(outcome.reply.is_temporary for outcome in outcomes):
            kept = await self._enqueue(queue, parcel, vouching, advice)
            if isinstance(kept, Reply):
                outcomes = [_not_kept(outcome, kept) for outcome in outcomes]
                # Who reads a reply for each comes again only with those who are not done.
                left = (one for one in outcomes if one.reply.is_temporary and not one.recipient.is_copy)
                if any(left) and not parcel.per_recipient:
                    return outcomes, False
            else:
                self._await_late(kept, outcomes)
                outcomes = [_kept(outcome, kept) for outcome in outcomes]
        added = len(parcel.orders.added) if parcel.orders is not None else 0
        named = outcomes[: len(outcomes) - added] or outcomes
        if queue is None or not any(outcome.reply.is_positive for outcome in named):
            return outcomes, False  # nobody got it whom the client has named: it hears that
        try:
            outcomes, reported = await self._report(queue, parcel, outcomes, vouching)
        except Exception as error:  # noqa: BLE001 - a bug: what is delivered and kept must not come again
            context = {"message": "a report could not be written", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            reported = False
        if parcel.orders is not None and parcel.orders.journal:
            await self._journal(queue, parcel, parcel.orders.journal)
        return outcomes, reported

    def _await_late(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """Hear what next hops say that have the message and had not answered by the deadline."""
        for position, outcome in enumerate(outcomes):
            if outcome.late is not None and outcome.reply.is_temporary:
                self._awaited(name)
                outcome.late.tell(partial(self._heard, name, position, outcome))

    def _heard(self, name: str, position: int, outcome: Outcome, reply: Reply) -> None:
        self._late(name, position, structs.replace(outcome, reply=reply, late=None))

    async def _journal(self, queue: MailQueue, parcel: Parcel, archives: Sequence[Address]) -> None:
        """Queue a report of the message for each archive. What cannot be queued is in the log."""
        offset = parcel.message.body_offset
        header = header_block(parcel.prefix, parcel.content, offset, has_end=parcel.message.has_header_end)
        try:
            for archive in archives:
                self._added(await queue.enqueue(self._reports.journal(parcel, header, archive)))
        except (QueueError, SpillError) as error:
            log.get("queue").error("journal", transaction=parcel.transaction, reason=str(error))

    async def _advised(self, parcel: Parcel) -> tuple[Parcel, dict[int, Advice]]:
        """Ask the policy about what failed for now; what it gives up is refused."""
        outcomes = parcel.outcomes
        failed = [
            (position, outcome, 1)
            for position, outcome in enumerate(outcomes)
            if outcome.reply.is_temporary and outcome.reply is not NOT_YET
        ]
        if not failed:
            return parcel, {}
        found, advice = await advised(self._advisor, self._about(parcel, failed[0][1]), failed)
        if all(one is outcome for (_, one), (_, outcome, _) in zip(found, failed, strict=True)):
            return parcel, advice
        known = dict(found)
        return replace(parcel, outcomes=[known.get(p, one) for p, one in enumerate(outcomes)]), advice

    def _about(self, parcel: Parcel, outcome: Outcome) -> About:
        hop = self._route(parcel.session, parcel.envelope, outcome.recipient)
        offset = parcel.message.body_offset
        return About(
            parcel.session,
            parcel.envelope,
            "" if isinstance(hop, Reply) else hop.transport,
            header_block(b"", parcel.content, offset, has_end=parcel.message.has_header_end),
            0.0,
        )

    def vouching(self, session: Session) -> Vouching:
        """Who says that the sender address is the sender's own."""
        if session.user:
            return Vouching.LOGIN
        if self._is_trusted(session.client_address):
            return Vouching.NETWORK
        of_session = session.authentication
        if of_session is not None and of_session.transaction is not None:
            found = of_session.transaction.known_spf
            # For the null sender it is about the name of the client, and nobody is written to.
            if found is not None and found.passed and not of_session.transaction.sender.is_null:
                return Vouching.SPF
        return Vouching.NOBODY

    def _leads_to(self, sender: Address) -> bool:
        """Whether a report would have a way to its sender: not from a server that only takes mail in."""
        hop = self._route(Origin().session(), Envelope(NULL), Recipient(sender))
        return not (isinstance(hop, Reply) and hop.is_permanent)

    def _full(self, queue: MailQueue, vouching: Vouching, *, ordered: bool = False) -> Reply | None:
        """Why the queue takes no message now, be it `ordered` by the policy to wait there; None: it does."""
        settings = self._settings
        known = ordered or vouching in (Vouching.LOGIN, Vouching.NETWORK)
        if settings.vouched_only and not known:
            return Reply(451, "4.7.1", "mail of unknown senders is not queued here", "queue.accept")
        stats = queue.stats()
        if settings.max_messages and stats.messages >= settings.max_messages:
            return Reply(452, "4.3.1", "too many messages are queued", f"{stats.messages} messages")
        if settings.max_size and stats.size >= settings.max_size:
            return Reply(452, "4.3.1", "too much mail is queued", f"{stats.size} octets")
        if stats.room <= 0:
            return Reply(452, "4.3.1", "there is no room for more mail", "the rest is for what makes room")
        if stats.latency > settings.max_latency:
            return Reply(452, "4.3.1", "the queue is too slow", f"the store takes {stats.latency:.1f} s")
        return None

    async def _enqueue(
        self, queue: MailQueue | None, parcel: Parcel, vouching: Vouching, advice: Mapping[int, Advice]
    ) -> str | Reply:
        """Keep the message; its queue id, or why not."""
        if queue is None or queue.fenced:
            return NOT_READY
        orders = parcel.orders
        # Of a stranger, too: the client would come again with it for days, and meet the same order each time.
        ordered = orders is not None and bool(orders.held or orders.postponed)
        full = self._full(queue, vouching, ordered=ordered)
        if full is not None:
            return full
        try:
            new = self._message(parcel, vouching, advice)
            name = await queue.enqueue(new)
        except Fenced as error:
            return Reply(451, "4.3.0", "the queue is not ready", f"fenced: {error}")
        except (QueueError, SpillError) as error:
            return Reply(451, "4.3.0", "the queue cannot keep the message", str(error))
        self._added(name)
        self._kept(name, new.created or 0.0, [one for one in parcel.outcomes if one.reply is not NOT_YET])
        return name

    def _message(self, parcel: Parcel, vouching: Vouching, advice: Mapping[int, Advice]) -> NewMessage:
        envelope, content, now = parcel.envelope, parcel.content, self._now()
        record = make_record(
            envelope, parcel.session, now,
            vouching=vouching, transaction=parcel.transaction, message_id=parcel.message_id,
            has_8bit=content.has_8bit or not parcel.prefix.isascii(), plain=content.plain,
            lifetime=parcel.orders.lifetime if parcel.orders is not None else 0.0,
        )  # fmt: skip
        deadlines = Deadlines(
            now,
            record.release or None,
            None if record.deliver_by is None else record.deliver_by[0],
            "R" if record.deliver_by is not None and record.deliver_by[1] == "R" else "N",
        )
        offset = parcel.message.body_offset
        retry = with_lifetime(self._settings.retry, record.lifetime)
        chance = random.random()  # one for all recipients, so that they stay together
        small = content.size <= MEMORY_LIMIT
        return NewMessage(
            envelope.sender.text,
            [
                self._recipient(parcel, outcome, deadlines, now, retry, chance, advice.get(position))
                for position, outcome in enumerate(parcel.outcomes)
            ],
            header_block(parcel.prefix, content, offset, has_end=parcel.message.has_header_end),
            content.head[offset:] if small else Tail(content, offset),
            encode_record(record),
            now,
            expires_at(retry, deadlines)[0],
            envelope.priority or 0,
            parcel.orders.tags if parcel.orders is not None else (),
        )

    def _recipient(
        self,
        parcel: Parcel,
        outcome: Outcome,
        deadlines: Deadlines,
        now: float,
        retry: RetryPolicy,
        chance: float,
        said: Advice | None,
    ) -> QueuedRecipient:
        recipient, reply = outcome.recipient, outcome.reply
        address = recipient.address.text
        if not reply.is_temporary:
            status = Status.DELIVERED if reply.is_positive else Status.FAILED
            return QueuedRecipient(address, "", status, 0.0, 1, kept_outcome(outcome), now)
        hop = self._route(parcel.session, parcel.envelope, recipient)
        site = "" if isinstance(hop, Reply) else site_of(hop)
        data = encode_recipient(recipient)
        if parcel.orders is not None and parcel.orders.held:
            held = f"held by the policy: {parcel.orders.held}"
            return QueuedRecipient(address, site, Status.HELD, deadlines.start, reply=held, data=data)
        if said is not None and said.held:
            held = f"held by the policy: {said.held}; {kept_text(reply)}"
            return QueuedRecipient(address, site, Status.HELD, deadlines.start, 1, held, now, data)
        if reply is NOT_YET:
            return QueuedRecipient(address, site, Status.QUEUED, deadlines.start, data=data)
        policy = policy_with(retry, said)
        at = next_step(policy, deadlines, 1, now, lambda: chance).at
        if outcome.late is not None:  # who may still say 250 would have two copies of a try before that
            at = max(at, min(now + LATE_TIME, expires_at(policy, deadlines)[0]))
        return QueuedRecipient(address, site, Status.DEFERRED, at, 1, kept_outcome(outcome), now, data)

    async def _report(
        self, queue: MailQueue, parcel: Parcel, outcomes: list[Outcome], vouching: Vouching
    ) -> tuple[list[Outcome], bool]:
        """Queue what is owed about recipients that are settled; the outcomes after it, and whether the sender
        hears of refusals."""
        now = self._now()
        events = events_of(parcel, outcomes, vouching, self._ends_with, now)
        if not events:
            return outcomes, False
        about = self._about(parcel, outcomes[0])
        events = await reported(self._advisor, about, events, {})
        if not events:
            return outcomes, False
        offset = parcel.message.body_offset
        original = Original(
            parcel.envelope,
            header_block(parcel.prefix, parcel.content, offset, has_end=parcel.message.has_header_end),
            Tail(parcel.content, offset),
            parcel.content.has_8bit,
            now,
            queue_id=parcel.transaction,
        )
        try:
            for report in self._reports.about(original, events, vouching, Kind.MESSAGE):
                self._added(await queue.enqueue(report))
        except (QueueError, SpillError):
            return outcomes, False  # the answer names them instead
        return accepted(outcomes, events), tells_of_refusals(events)

    def _ends_with(self, parcel: Parcel, recipient: Recipient) -> bool:
        hop = self._route(parcel.session, parcel.envelope, recipient)
        return isinstance(hop, NextHop) and self._is_final(hop.transport)


def header_block(prefix: bytes, content: MessageBuffer, offset: int, *, has_end: bool) -> bytes:
    """Our header fields and those of the message, with the empty line."""
    if has_end:
        return prefix + content.head[:offset]
    # No empty line was there to end the header: what follows it, if anything, stays the body.
    header = prefix + content.head[:offset]
    return header + (b"\r\n" if header.endswith(b"\r\n") else b"\r\n\r\n")


def _kept(outcome: Outcome, name: str) -> Outcome:
    reply = outcome.reply
    if not reply.is_temporary:
        return outcome
    if reply.cause.startswith(str(reply)):  # what the next hop is known for, from an earlier try
        cause = reply.cause
    else:
        cause = f"{reply} ({reply.cause})" if reply.cause else str(reply)
    queued = Reply(250, "2.0.0", f"queued as {name}", cause)
    return structs.replace(outcome, reply=queued, queue_id=name)


def _not_kept(outcome: Outcome, problem: Reply) -> Outcome:
    """The client keeps it: it reads what the next hop said and why we do not keep it."""
    reply = outcome.reply
    if not reply.is_temporary:
        return outcome
    said = reply.text.partition("\n")[0]  # a next hop may say nothing but a code
    text = f"{said}; {problem.text}" if said else problem.text
    cause = "; ".join(part for part in (reply.cause, f"not queued: {problem.cause}") if part)
    full = problem.code == 452  # the next hop's own code says less than that
    both = Reply(
        problem.code if full else reply.code, problem.enhanced if full else reply.enhanced, text, cause
    )
    return structs.replace(outcome, reply=both)
