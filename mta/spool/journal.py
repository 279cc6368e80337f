"""What happens in the queue, for log and metrics: one line for each try of a message."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mailqueue.model import QueuedMessage
from mailqueue.queue import MailQueue
from mta.delivery.outcome import Outcome
from mta.dsn.decide import Why
from mta.envelope import Recipient
from mta.log import Logger
from mta.metrics import Stats
from mta.reply import Reply
from mta.spool.history import History, Tried
from mta.spool.record import Record

SILENCE = 600.0
"""Seconds for which the same trouble of a store is not told again: the queue meets it every two seconds."""
REMEMBERED = 1000
"""Troubles of which is known when they were told last."""
_CLASSES = {2: "delivered", 4: "temporary", 5: "permanent"}


class QueueJournal:
    """`mta.spool.attempt.Journal` of a worker."""

    def __init__(self, log: Logger, stats: Stats) -> None:
        """Write to `log` and count in `stats`."""
        self._log = log
        self._stats = stats
        self._told: dict[str, float] = {}
        """When what the queue itself reports was told last."""
        self.history = History()
        """The tries of messages that wait still."""

    def kept(self, name: str, at: float, outcomes: Sequence[Outcome]) -> None:
        """A message was queued when its first try had ended like this."""
        self.history.note(name, [Tried(at, o.recipient.address.text, o.reply, o.peer) for o in outcomes])

    def tried(
        self,
        message: QueuedMessage,
        record: Record,
        outcomes: Sequence[Outcome],
        seconds: float,
        transport: str = "",
    ) -> None:
        """A queued message was tried for some of its recipients, by `transport`, "" for none."""
        recipients = []
        for outcome in outcomes:
            reply = outcome.reply
            self._stats.queue_tries[_CLASSES[reply.code // 100], outcome.label or transport] += 1
            line = {"to": outcome.recipient.address.text, "reply": str(reply), "peer": outcome.peer}
            if outcome.passage is not None:
                line["site"], line["tls"] = outcome.passage.site, outcome.passage.tls
            if reply.cause:
                line["cause"] = reply.cause
            recipients.append(line)
        if any(outcome.reply.is_temporary for outcome in outcomes):
            self.kept(message.id, time.time(), outcomes)
        self._log.info(
            "tried",
            queue=message.id,
            id=record.origin.transaction,
            sender=message.sender,
            message_id=record.message_id,
            size=message.size,
            recipients=recipients,
            seconds=round(seconds, 4),
        )

    def expired(self, message: QueuedMessage, record: Record, recipients: Sequence[Recipient]) -> None:
        """The time of recipients is over."""
        self._stats.queue_tries["expired", ""] += len(recipients)
        self._log.info(
            "expired",
            queue=message.id,
            id=record.origin.transaction,
            sender=message.sender,
            recipients=[recipient.address.text for recipient in recipients],
        )

    def reported(self, about: str, report: str) -> None:
        """A report about a message was queued."""
        self._log.info("report", about=about, queue=report)

    def addressed(self, about: str, name: str, recipients: Sequence[Recipient]) -> None:
        """Our own mail for an alias was queued for those behind it."""
        to = [recipient.address.text for recipient in recipients]
        self._log.info("addressed", about=about, queue=name, recipients=to)

    def unaddressed(self, name: str, recipient: Recipient, reply: Reply) -> None:
        """A notice to the postmaster has nobody to go to, and is on hold."""
        self._log.error("nobody to go to, on hold", queue=name, to=recipient.address.text, reason=str(reply))

    def untold(self, name: str, recipient: Recipient, reply: str) -> None:
        """A notice to the postmaster was refused or its time is over: nobody hears of what it says."""
        self._log.error("the postmaster cannot be told", queue=name, to=recipient.address.text, reason=reply)

    def recalled(self, site: str, messages: int) -> None:
        """A next hop answers again, and messages that waited for it are tried."""
        self._log.info("the next hop is back", site=site, messages=messages)

    def decided(self, why: Why) -> None:
        """A report is owed, or why not."""
        self._stats.queue_reports[why.value] += 1

    def unreadable(self, name: str, problem: Exception) -> None:
        """A message cannot be read and is on hold."""
        self._stats.queue_unreadable += 1
        self._log.error("unreadable, on hold", queue=name, reason=str(problem))

    def not_tried(self, name: str, problem: Exception) -> None:
        """A message cannot be had at the moment; of several with the same reason one is named."""
        if self._is_news(str(problem)):
            self._log.warning("cannot be tried now", queue=name, reason=str(problem))

    def failed(self, name: str, error: Exception) -> None:
        """We have a bug."""
        self._stats.internal_errors += 1
        self._log.error("internal error", queue=name, exc_info=error)

    def store(self, event: str, fields: dict[str, object]) -> None:
        """Something that the queue itself reports, such as a stream that was adopted."""
        # At each reload and restart the processes before leave nothing: that is no news.
        harmless = event == "stream adopted" and not fields["messages"]
        if "error" in fields and not self._is_news(f"{event} {fields}"):
            return
        (self._log.info if harmless else self._log.warning)(event, **fields)

    def _is_news(self, trouble: str) -> bool:
        now = time.monotonic()
        if now < self._told.get(trouble, -SILENCE) + SILENCE:
            return False
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told[trouble] = now
        return True

    def measure(self, queue: MailQueue | None) -> None:
        """Set the gauges."""
        stats = self._stats
        stats.queue_open = int(queue is not None and not queue.trouble)
        if queue is not None:
            now = queue.stats()
            stats.queue_messages = now.messages
            stats.queue_recipients = now.recipients
            stats.queue_bytes = now.size
            stats.queue_commit_seconds = round(now.latency, 4)
            stats.queue_room_bytes = max(now.room, 0)
