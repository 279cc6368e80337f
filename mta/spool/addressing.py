"""Mail that the server writes itself, on its way to who gets it: aliases are looked up at its first try.

Reports, journals and notices are queued for the address that they are about, when nobody may be waited for.
At the first try it is asked who gets them (`Find`); those behind an alias get a message of their own, in the
same write that ends the one for the alias, and are not looked for again. Failure:

* the tables cannot be asked: as after any temporary failure, the message waits for its next try;
* nobody is found (all are refused, or the tables are away until the message's time is over): a report is
  undelivered, and the postmaster gets a notice;
* a notice to the postmaster has nobody to go to after that: it is put on hold, and the log has an error.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import msgspec
from msgspec import structs

from mailqueue.model import Change, NewMessage, QueuedRecipient, Status
from mailqueue.queue import MailQueue
from mailqueue.schedule import RetryPolicy, next_step
from mta.delivery.outcome import Outcome
from mta.dsn.decide import Kind
from mta.envelope import Envelope, Recipient
from mta.reply import Reply
from mta.spool.conclude import Journal, Loaded
from mta.spool.hops import Naming, site_of
from mta.spool.record import encode_recipient, encode_record
from mta.spool.replies import kept_text
from mta.spool.reports import Route
from mta.spool.tries import deadlines_of

Find = Callable[[str, Envelope, Recipient], Awaitable[Sequence[Recipient] | Reply | None]]
"""Who gets a message (its queue id is for the log) in a recipient's place; why nobody does, or not now; None
when it goes as it is (`mta.policy.sieve.ownmail`)."""


class Addressing:
    """Addresses our own mail in the queue of one process."""

    def __init__(
        self,
        find: Find,
        queue: MailQueue,
        route: Route,
        journal: Journal,
        retry: RetryPolicy,
        *,
        added: Callable[[str], None],
        now: Callable[[], float],
        naming: Naming,
    ) -> None:
        """`retry` is the schedule of reports; `added` is told of new messages; `now` is seconds of the
        epoch."""
        self._find = find
        self._queue = queue
        self._route = route
        self._journal = journal
        self._retry = retry
        self._added = added
        self._now = now
        self._naming = naming

    @staticmethod
    def is_for(loaded: Loaded) -> bool:
        """It is our own mail, and nobody has looked yet who gets it."""
        return loaded.record.kind != Kind.MESSAGE.value and not loaded.record.addressed

    async def address(
        self, loaded: Loaded, envelope: Envelope, recipients: dict[int, Recipient]
    ) -> list[tuple[int, Outcome]]:
        """Look for those at some positions; `recipients` keeps who gets the message as it is.

        Returns those who do not get it now, or not at all, and about whom the usual follows. Raises
        QueueErrors.
        """
        decided: list[tuple[int, Outcome]] = []
        changes: list[Change] = []
        members: dict[tuple[str, str], Recipient] = {}
        for position, recipient in list(recipients.items()):
            found = await self._find(loaded.message.id, envelope, recipient)
            if found is None:
                continue
            del recipients[position]
            if isinstance(found, Reply):
                outcome = Outcome(recipient, replace(found, cause=found.cause or "policy"), "")
                if loaded.record.kind == Kind.NOTICE.value:
                    changes.append(self._waiting(loaded, position, outcome))
                else:
                    decided.append((position, outcome))
                continue
            changes.append(
                Change(position, Status.EXPANDED, reply=f"250 2.1.5 goes to {len(found)} behind the alias")
            )
            for one in found:
                named = recipient.original or one.original
                key = (one.address.local, one.address.domain)
                members.setdefault(key, structs.replace(one, original=named))
        if changes:
            follow = [await self._message(loaded, envelope, list(members.values()))] if members else []
            for name in await self._queue.settle(loaded.message.id, changes, urgent=True, follow=follow):
                self._journal.addressed(loaded.message.id, name, list(members.values()))
                self._added(name)
        return decided

    def _waiting(self, loaded: Loaded, position: int, outcome: Outcome) -> Change:
        """What becomes of a notice that has nobody to go to now: nobody else would hear of it."""
        message, now = loaded.message, self._now()
        text = kept_text(outcome.reply)
        self._journal.tried(message, loaded.record, [outcome], 0.0)
        if outcome.reply.is_temporary:
            tries = message.recipients[position].attempts + 1
            step = next_step(self._retry, deadlines_of(message, loaded.record), tries, now, random.random)
            if step.action == "retry":
                return Change(position, Status.DEFERRED, step.at, text, now)
        self._journal.unaddressed(message.id, outcome.recipient, outcome.reply)
        return Change(position, Status.HELD, reply=text, attempted=now)

    async def _message(self, loaded: Loaded, envelope: Envelope, members: Sequence[Recipient]) -> NewMessage:
        """The message for those behind aliases."""
        message, record, now = loaded.message, loaded.record, self._now()
        session = record.origin.session()
        if self._naming.find is not None:
            await self._naming.find(members)
        queued = []
        for member in members:
            hop = self._route(session, envelope, member)
            site = "" if isinstance(hop, Reply) else site_of(hop)
            data = encode_recipient(member)
            queued.append(QueuedRecipient(member.address.text, site, Status.QUEUED, now, data=data))
        return NewMessage(
            message.sender,
            queued,
            message.header,
            await message.body.fetch(),
            encode_record(msgspec.structs.replace(record, addressed=True)),
            message.created,
            message.expires,
            message.priority,
            message.tags,
        )
