"""What became of recipients of a queued message, written down together with the reports that it calls for.

Who has the message is written down before anybody is waited for who has a say in the rest: if this process
ended meanwhile, they would get it once more.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailqueue.model import Change, QueuedMessage, Status
from mailqueue.queue import MailQueue
from mailqueue.schedule import RetryPolicy
from mailqueue.schedule.retry import expires_at
from mta.delivery.outcome import Outcome
from mta.dsn.decide import Kind, Vouching
from mta.dsn.returned import Original
from mta.envelope import Recipient
from mta.policy.verdict import Advice
from mta.reply import Reply
from mta.spool.advice import About, Advisor, advised, reported
from mta.spool.record import Record
from mta.spool.reports import Reports
from mta.spool.stored import Stored
from mta.spool.tries import Consequences, consequences, deadlines_of, delivered, given_up, policy_for

Decided = Sequence[tuple[int, Outcome]]
"""Recipients by their position in the message, and what became of them."""
NOTHING_SAID: Mapping[int, Advice] = {}


class Journal(Protocol):
    """Told what becomes of queued messages, for log and metrics."""

    def tried(
        self,
        message: QueuedMessage,
        record: Record,
        outcomes: Sequence[Outcome],
        seconds: float,
        transport: str = "",
    ) -> None:
        """A queued message was tried for some of its recipients, by `transport`, "" for none."""

    def expired(self, message: QueuedMessage, record: Record, recipients: Sequence[Recipient]) -> None:
        """The time of recipients is over; their last reply is in the message."""

    def reported(self, about: str, report: str) -> None:
        """A report about a message was queued."""

    def addressed(self, about: str, name: str, recipients: Sequence[Recipient]) -> None:
        """Our own mail for an alias was queued for those behind it."""

    def unaddressed(self, name: str, recipient: Recipient, reply: Reply) -> None:
        """A notice to the postmaster has nobody to go to, and is on hold."""

    def untold(self, name: str, recipient: Recipient, reply: str) -> None:
        """A notice to the postmaster was refused or its time is over: nobody hears of what it says."""

    def recalled(self, site: str, messages: int) -> None:
        """A next hop answers again, and messages that waited for it are tried."""

    def unreadable(self, name: str, problem: Exception) -> None:
        """A message cannot be read and is on hold."""

    def not_tried(self, name: str, problem: Exception) -> None:
        """A message cannot be had at the moment: its try is made later."""

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


class Noted:
    """What of one try is logged and written down already."""

    __slots__ = ("_name", "_queue", "_written", "done", "logged")

    def __init__(self, queue: MailQueue, name: str) -> None:
        """Of a try of the message with this queue id: nothing yet."""
        self._queue = queue
        self._name = name
        self._written: set[int] = set()
        self.logged: set[int] = set()
        """Positions of recipients whose outcome is in the log."""
        self.done: set[int] = set()
        """Those about whom nothing is left to do."""

    async def write(self, decided: Decided, now: float) -> None:
        """Write down who has the message since `now`, each once."""
        changes = [
            delivered(position, outcome, now)
            for position, outcome in decided
            if outcome.reply.is_positive and position not in self._written
        ]
        if changes:
            await self._queue.settle(self._name, changes, urgent=True)
            self._written.update(change.recipient for change in changes)

    def left(self, changes: Sequence[Change]) -> list[Change]:
        """What is to be written still."""
        return [change for change in changes if change.recipient not in self._written]


class Conclusions:
    """Writes down what tries come to, for the queue of one process."""

    def __init__(
        self,
        settings: AttemptSettings,
        queue: MailQueue,
        is_final: Callable[[str], bool],
        reports: Reports,
        journal: Journal,
        advisor: Advisor,
        *,
        added: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        """See `mta.spool.attempt.Attempts`."""
        self._settings = settings
        self._queue = queue
        self._is_final = is_final
        self._reports = reports
        self._journal = journal
        self._advisor = advisor
        self._added = added
        self._now = now

    async def write(
        self, loaded: Loaded, transport: str, decided: Decided, began: float, noted: Noted | None = None
    ) -> None:
        """Log and write down outcomes of a try that began at `began` by a transport ("": by none). What is
        `noted` of it already is left out."""
        message, record, now = loaded.message, loaded.record, self._now()
        if noted is None:
            noted = Noted(self._queue, message.id)
        elif noted.done:
            decided = [one for one in decided if one[0] not in noted.done]
        self._log(loaded, decided, now - began, noted, transport)
        if not decided:
            return

        async def before() -> None:
            await noted.write(decided, now)

        try:
            found, advice = decided, NOTHING_SAID
            if any(outcome.reply.is_temporary for _, outcome in decided):
                found, advice = await advised(
                    self._advisor,
                    _about(loaded, transport, now),
                    [(p, outcome, message.recipients[p].attempts + 1) for p, outcome in decided],
                    before,
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
            over = _given_up(found, after)
            if over:  # the last chance was used
                self._journal.expired(message, record, over)
            await self._settle(loaded, after, noted, transport, before)
        except BaseException:  # a report that cannot be kept, a bug, the end: no second copy for that
            await before()
            raise
        noted.done.update(position for position, _ in decided)

    async def write_part(
        self, loaded: Loaded, transport: str, decided: Decided, began: float, noted: Noted
    ) -> None:
        """Log and write down who has the message while the try goes on with others. `write` does the rest
        about them later, but for those of whom the sender wants to hear: their report is in the same write.
        """
        now = self._now()
        self._log(loaded, decided, now - began, noted, transport)
        parts: tuple[list[tuple[int, Outcome]], list[tuple[int, Outcome]]] = [], []
        for one in decided:
            parts["SUCCESS" in (one[1].recipient.notify or ())].append(one)
        await noted.write(parts[False], now)
        if parts[True]:
            await self.write(loaded, transport, parts[True], began, noted)

    def _log(self, loaded: Loaded, decided: Decided, seconds: float, noted: Noted, transport: str) -> None:
        fresh = [one for one in decided if one[0] not in noted.logged]
        if fresh:
            noted.logged.update(position for position, _ in fresh)
            outcomes = [outcome for _, outcome in fresh]
            self._journal.tried(loaded.message, loaded.record, outcomes, seconds, transport)

    async def expire(self, loaded: Loaded, positions: Sequence[int]) -> None:
        """The time of recipients is over before another try could be made."""
        message, record = loaded.message, loaded.record
        policy = policy_for(record, self._settings.retry, self._settings.report_retry)
        late = expires_at(policy, deadlines_of(message, record))[1] == "deliver_by"
        states = [(p, message.recipients[p], loaded.recipients[p]) for p in positions]
        self._journal.expired(message, record, [recipient for _, _, recipient in states])
        after = given_up(states, self._now(), late=late)
        await self._settle(loaded, after, Noted(self._queue, message.id))

    async def _settle(
        self,
        loaded: Loaded,
        after: Consequences,
        noted: Noted,
        transport: str = "",
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Write down what became of recipients, together with the reports that it calls for."""
        message, record = loaded.message, loaded.record
        if record.kind == Kind.NOTICE.value:
            for change in after.changes:
                if change.status is Status.FAILED:
                    self._journal.untold(message.id, loaded.recipients[change.recipient], change.reply or "")
        reports = []
        if after.events:
            tries = {state.address: state.attempts + 1 for state in message.recipients}
            about = _about(loaded, transport, self._now())
            events = await reported(self._advisor, about, after.events, tries, before)
            original = Original(
                record.envelope(message.sender, message.created),
                message.header,
                loaded.content.body,
                record.has_8bit,
                message.created,
                queue_id=message.id,
            )
            reports = self._reports.about(original, events, Vouching(record.vouching), Kind(record.kind))
        changes = noted.left(after.changes)
        if changes:
            names = await self._queue.settle(
                message.id, changes, urgent=after.is_final or bool(reports), follow=reports
            )
        else:
            names = [await self._queue.enqueue(report) for report in reports]
        for name in names:
            self._journal.reported(message.id, name)
            self._added(name)


def _given_up(decided: Decided, after: Consequences) -> list[Recipient]:
    """Whose last refusal might have passed, and who are tried no more."""
    failed = {change.recipient for change in after.changes if change.status is Status.FAILED}
    return [
        outcome.recipient
        for position, outcome in decided
        if outcome.reply.is_temporary and position in failed
    ]


def _about(loaded: Loaded, transport: str, now: float) -> About:
    message, record = loaded.message, loaded.record
    return About(
        record.origin.session(),
        record.envelope(message.sender, message.created),
        transport,
        message.header,
        max(0.0, now - message.created),
        message.id,
    )
