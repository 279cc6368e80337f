"""From the end of the data to the final reply: the heart of Tamis.

The message is complete and nobody has promised anything yet. In this order:

1. it is indexed once, forged results of sender authentication are taken out, its header is checked;
2. the policy says go on, or answers; it may ask who sent the message;
3. trace fields (and on submission Date and Message-ID) are made, and it is signed (`Stamps`);
4. recipients that are known to have it already (`mta.unacknowledged`) are taken out;
5. the others are grouped by next hop and all groups are tried at once, under one deadline;
6. what could not be delivered now is kept in the queue (`Spool`), if there is one;
7. the outcomes become one answer, or one for each recipient (`mta.delivery.fold`).

Failure: whatever a next hop does becomes an outcome, and what is not delivered by the deadline is a
temporary one; if the queue cannot keep it, the client does (4xx). When the client goes away before a message
is handed over it is not handed over; when it goes away later, or must be told to try again although some
have the message, those are remembered, and its retry brings them no second copy. Nothing is ever answered
250 that is not delivered or durably kept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mta import ordering
from mta.address import Address
from mta.afterwards import keep_running
from mta.content import MessageBuffer, Rendered, SpillError
from mta.delivery.fold import Answer, fold
from mta.delivery.outcome import BACKEND, NextHop, Outcome, Transport
from mta.envelope import BINARY_MIME, EIGHT_BIT_MIME, SEVEN_BIT, Envelope, Recipient
from mta.firsttry import FirstTries, untold
from mta.handover import Completed, Gate, Parcel, Record, Spool, Stamped, Stamps
from mta.latecomers import await_late
from mta.policy.verdict import Orders, Policy, Verdict
from mta.reply import Reply
from mta.session import Session
from mta.textform import in_lines
from mta.trace import (
    QUICKLY_READ,
    HeaderLimits,
    ReceivedTemplate,
    header_problems,
    missing_fields,
    oversized,
)
from mta.unacknowledged import Unacknowledged, identity_of
from sieve_ext.message import Message

OVERTIME = 10.0
"""Seconds beyond the deadline after which a delivery whose client has left is taken for ended by a retry."""
DISK_FULL = Reply(452, "4.3.1", "no space for the message, try again later")
OUR_FAULT = Reply(451, "4.3.0", "internal error, try again later")


@dataclass(slots=True, frozen=True)
class TransactionSettings:
    """What the transactions of all listeners share."""

    hostname: str
    deadline: float = 20.0
    """Seconds from the end of the data to the answer."""
    header: HeaderLimits = field(default_factory=HeaderLimits)
    submission_header: HeaderLimits = field(default_factory=lambda: HeaderLimits(require_from=True))
    """For our users, whose programs we may ask to do it right (RFC 6409)."""
    spill_directory: str | None = None


class Transactions:
    """Completes mail transactions of a worker."""

    def __init__(
        self,
        settings: TransactionSettings,
        policy: Policy,
        transports: Mapping[str, Transport],
        unacknowledged: Unacknowledged,
        record: Record,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
        spool: Spool | None = None,
        gate: Gate | None = None,
        stamps: Stamps | None = None,
        find: Callable[[Sequence[Recipient]], Awaitable[None]] | None = None,
    ) -> None:
        """`now` is seconds of the epoch (trace fields), `clock` the loop's; `entropy` makes Message-IDs.
        `find` learns what has to be known before recipients are routed, None where nothing has."""
        self._tries = FirstTries(policy, transports, unacknowledged, find, gate)
        self._stamps = stamps
        self._clock = clock
        self._spool = spool
        self._gate = gate
        self.settings = settings
        self.policy = policy
        self._unacknowledged = unacknowledged
        self._record = record
        self._now = now
        self._entropy = entropy
        self._running: dict[str, tuple[str, Address, MessageBuffer]] = {}
        """By session: the transaction that is being completed, its sender and what came."""
        self._left: dict[str, str] = {}
        """By transaction: the digest of a message of which the workers know that its client has left."""

    def new_content(self) -> MessageBuffer:
        """A buffer for the message of a new transaction."""
        return MessageBuffer(self.settings.spill_directory)

    def foresee(self, session: Session, envelope: Envelope, recipient: Recipient) -> Reply | None:
        """Why a message for this recipient would be refused for now, before the client sends it in vain.

        That is when its next hop is known not to answer and the queue takes nothing. None otherwise.
        """
        if self._spool is None or self._gate is None or not self._gate.any_dead():
            return None
        for one in recipient.behind:
            hop = self.policy.route(session, envelope, one)
            if isinstance(hop, NextHop) and self._gate.is_dead(hop):
                return self._spool.refuses(session)
        return None

    def refused(
        self, session: Session, envelope: Envelope, transaction: str, size: int, reply: Reply
    ) -> Answer:
        """A message that is refused for its octets, before anything else is known of it."""
        return self._end(session, envelope, transaction, "", size, 0.0, _same(envelope, reply))

    async def complete(
        self,
        session: Session,
        envelope: Envelope,
        content: MessageBuffer,
        trace: ReceivedTemplate,
        transaction: str,
        alive: Callable[[], bool],
    ) -> Answer:
        """Deliver a message, or not, and say what the client is told.

        `trace` is the session's; `transaction` the name of this one in log and Received; `alive` tells
        whether the client is still connected.
        """
        known: list[Outcome] = []
        self._running[session.id] = transaction, envelope.sender, content
        try:
            return await self._complete(session, envelope, content, trace, transaction, alive, known)
        except BaseException as error:  # a bug, which is answered 451, or the end of this process
            done = [outcome.recipient for outcome in known if outcome.reply.is_positive]
            retried, owed = isinstance(error, Exception), untold(known)
            await self.remember(session, envelope, content, transaction, done, owed=owed, retried=retried)
            raise
        finally:
            del self._running[session.id]
            if transaction in self._left:
                self._unacknowledged.abandoned.end(self._left.pop(transaction), transaction)

    def left(self, session: Session) -> None:
        """The client is gone: if its message is under way, a retry waits for how that ends."""
        if session.id in self._running and not self._unacknowledged.is_off:
            keep_running(self._tell_retries(session, *self._running[session.id]))

    async def _tell_retries(
        self, session: Session, transaction: str, sender: Address, content: MessageBuffer
    ) -> None:
        if not _has_name(_message(content)):
            return
        identity = await identity_of(sender, content)
        if session.id in self._running:  # else it ended while that was computed
            self._left[transaction] = identity
            seconds = self.settings.deadline + OVERTIME
            self._unacknowledged.abandoned.begin(identity, transaction, seconds)

    async def _complete(
        self,
        session: Session,
        envelope: Envelope,
        content: MessageBuffer,
        trace: ReceivedTemplate,
        transaction: str,
        alive: Callable[[], bool],
        known: list[Outcome],
    ) -> Answer:
        """As `complete`; `known` gets outcomes as soon as they are known."""
        settings = self.settings
        started = self._clock()
        outcomes: list[Outcome]
        given, received = envelope, content  # what the client knows of, whatever the policy orders
        limits = settings.submission_header if session.protocol == "submission" else settings.header
        refusal = huge = oversized(content.head, limits)
        if envelope.body is BINARY_MIME and refusal is None:
            content, refusal = await self._in_lines(envelope, content)
        message = Message(content.head[:QUICKLY_READ]) if huge else _message(content)
        remember = partial(self.remember, session, given, received, transaction)
        orders: Orders | None = None
        stamped: Stamped | None = None
        added_id = ""
        reported = told = False
        refusal = refusal or header_problems(message, limits)
        authentication = session.authentication.transaction if session.authentication is not None else None
        if authentication is not None:
            authentication.message = message
        if refusal is None and self._stamps is not None:
            cleaned = self._stamps.cleaned(session, message)
            if cleaned is not None:
                content, refusal = await self._edited(content, cleaned)
                message = _message(content)
        if refusal is None:
            verdict = self.policy.data(session, envelope, message)
            if not isinstance(verdict, Verdict):
                verdict = await verdict
            if verdict.delay:
                await asyncio.sleep(verdict.delay)
            refusal, orders = verdict.reply, verdict.orders
            if orders is None and envelope.everyone is not envelope.recipients:
                orders = ordering.ALIASES_ONLY
            if orders is not None and refusal is None:
                envelope = ordering.ordered_envelope(given, orders)
                if orders.message is not None:
                    content, refusal = await self._edited(content, orders.message, orders.new_body)
                    message = _message(content)
        signing: Sequence[object] = ()
        if refusal is None and envelope.recipients:
            verdict = self.policy.depart(session, envelope, message)
            if not isinstance(verdict, Verdict):
                verdict = await verdict
            refusal = verdict.reply
            signing = verdict.orders.signing if verdict.orders is not None else ()
        prefix = b""
        if refusal is None and envelope.recipients:
            recipients, now = envelope.recipients, self._now()
            only = recipients[0].address if len(recipients) == 1 else None
            utf8, priority = envelope.smtputf8, envelope.priority
            prefix = trace.render(transaction, now, only, smtputf8=utf8, priority=priority)
            fields, above = b"", b"" if orders is None else orders.above
            if session.protocol == "submission":
                fields, added_id = missing_fields(message, now, settings.hostname, self._entropy)
            if self._stamps is not None:
                leaves = partial(self._leaves, session, envelope)
                stamped = await self._stamps.stamp(
                    session, envelope, message, above + fields, signing, leaves
                )
                refusal = stamped.refusal
                prefix = stamped.fields + prefix
            prefix = above + prefix + fields
        name = added_id or message.text("message-id") or ""
        if refusal is not None:
            orders = None
            outcomes = _same(given, refusal)
        elif not envelope.recipients:
            outcomes = []
        else:
            spool, abandoned = self._spool, self._unacknowledged.abandoned
            if abandoned:
                identity = await identity_of(given.sender, received)
                await abandoned.ended(identity, started + settings.deadline - self._clock())
            waits = ordering.held(orders) if orders is not None and orders.held else None
            if waits is None and spool is not None:
                waits = spool.postpones(envelope)
            if waits is not None:
                already = await self._tries.already((given, received), envelope.recipients)
                route = partial(self.policy.route, session, envelope)
                outcomes = ordering.untried(envelope, waits, route, already)
            else:
                outcomes = await self._tries.make(
                    session, envelope, Rendered(prefix, content, alive), started + settings.deadline,
                    (given, received), known,
                )  # fmt: skip
                known += outcomes
            if spool is not None and spool.concerns(envelope, outcomes, orders) and alive():
                each = _reads_each(session, envelope)
                parcel = Parcel(
                    session, envelope, transaction, outcomes, prefix, content, message, name, each, orders,
                    ordering.aliases_of(given, orders),
                )  # fmt: skip
                outcomes, reported = await spool.keep(parcel)
                told = not any(outcome.reply.is_temporary for outcome in outcomes)
                known += outcomes
        gone = not alive()
        await_late(outcomes, remember, retried=not gone)
        seconds = self._clock() - started
        if orders is not None:
            outcomes = ordering.all_outcomes(given, orders, outcomes, reported=reported)
        if stamped is None and authentication is not None:
            stamped = Stamped(results=authentication.known())
        answer = self._end(
            session, given, transaction, name, received.size, seconds, outcomes, reported, orders, stamped
        )
        if self._stamps is not None:
            self._stamps.answered(session, answer.final)
        if gone or answer.remember:
            delivered = range(len(outcomes)) if gone else answer.remember
            positive = [outcomes[index] for index in delivered if outcomes[index].reply.is_positive]
            owed = [] if told else untold(positive)
            await remember([outcome.recipient for outcome in positive], owed=owed, retried=not gone)
        return answer

    async def remember(
        self,
        session: Session,
        envelope: Envelope,
        content: MessageBuffer,
        transaction: str,
        recipients: Sequence[Recipient],
        *,
        owed: Sequence[Recipient] = (),
        retried: bool = False,
    ) -> None:
        """These recipients have the message and the client does not know. Of those that are `owed` its sender
        wanted to hear, and has not heard.

        `retried` says that the client was told to try again, so that its next message with these octets is
        this one. Of a client that has gone the next one may be another: a script says the same every hour.
        Without Message-ID and Date, which make a message one of its kind, a second copy is the lesser evil.
        """
        if not recipients:
            return
        self._record.unacknowledged(session, transaction, len(recipients))
        if retried or _has_name(_message(content)):
            identity = await identity_of(envelope.sender, content)
            waiting = {recipient.address for recipient in owed}
            told = [one.address for one in recipients if one.address not in waiting]
            self._unacknowledged.remember(identity, told)
            self._unacknowledged.remember(identity, waiting, owed=True)

    def _end(
        self,
        session: Session,
        envelope: Envelope,
        transaction: str,
        message_id: str,
        size: int,
        seconds: float,
        outcomes: list[Outcome],
        reported: bool = False,
        orders: Orders | None = None,
        stamped: Stamped | None = None,
    ) -> Answer:
        each = _reads_each(session, envelope)
        if orders is None:
            answer = fold(outcomes, per_recipient=each, reported=reported)
        else:
            count = len(envelope.recipients)
            answer = ordering.fold_ordered(outcomes, count, orders, per_recipient=each, reported=reported)
        results, signed = (stamped.results, stamped.signed) if stamped is not None else ((), ())
        completed = Completed(answer, outcomes, message_id, size, seconds, results, signed)
        self._record.completed(session, envelope, transaction, completed)
        return answer

    async def _in_lines(
        self, envelope: Envelope, content: MessageBuffer
    ) -> tuple[MessageBuffer, Reply | None]:
        """Binary content as text, or as it was and a refusal."""
        try:
            content, refusal = await in_lines(content, self.settings.spill_directory)
        except SpillError as error:
            return content, replace(DISK_FULL, cause=str(error))
        envelope.body = EIGHT_BIT_MIME if content.has_8bit else SEVEN_BIT
        return content, refusal

    async def _edited(
        self, content: MessageBuffer, message: Message, new_body: bool = False
    ) -> tuple[MessageBuffer, Reply | None]:
        """The octets of an edited message, or those as they were and a refusal when there is no room."""
        try:
            spill = self.settings.spill_directory
            return await ordering.ordered_content(content, message, spill, new_body=new_body), None
        except SpillError as error:
            return content, replace(DISK_FULL, cause=str(error))

    def _leaves(self, session: Session, envelope: Envelope) -> bool:
        """Whether somebody gets it who is not behind one of our back ends."""
        for recipient in envelope.recipients:
            hop = self.policy.route(session, envelope, recipient)
            if isinstance(hop, NextHop) and not hop.transport.startswith(BACKEND):
                return True
        return False


def _reads_each(session: Session, envelope: Envelope) -> bool:
    return envelope.prdr or session.protocol == "lmtp"


def _message(content: MessageBuffer) -> Message:
    return Message(content.head, content.size, content.chunks, has_8bit=content.has_8bit, read=content.read)


def _has_name(message: Message) -> bool:
    """True when it has what makes it one of its kind, so that the same octets are a retry."""
    return "message-id" in message or "date" in message


def _same(envelope: Envelope, reply: Reply) -> list[Outcome]:
    return [Outcome(recipient, reply, "") for recipient in envelope.recipients]
