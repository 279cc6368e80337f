"""What one try of a queued message comes to: pure decisions.

A try has an outcome for each recipient; from it follow the new state of the recipient in the queue (`Change`)
and what the sender may want to hear (`Event`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mailqueue.model import Change, QueuedMessage, QueuedRecipient, Status
from mailqueue.schedule import Deadlines, RetryPolicy, next_step
from mailqueue.schedule.retry import expires_at, warns_at
from mta.delivery.outcome import Outcome
from mta.dsn.decide import Kind
from mta.dsn.values import Event, Result
from mta.envelope import Recipient
from mta.policy.verdict import Advice
from mta.reply import Reply
from mta.spool.record import Record
from mta.spool.replies import kept_outcome, kept_reply, kept_text

EXPIRED = Reply(554, "5.4.7", "The message could not be delivered in time")
"""For a recipient that was never answered."""


@dataclass(slots=True)
class Consequences:
    """What follows from a try."""

    changes: list[Change] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def is_final(self) -> bool:
        """True when some recipient is settled: to be written at once."""
        return any(not change.status.is_live for change in self.changes)


def deadlines_of(message: QueuedMessage, record: Record) -> Deadlines:
    """What was fixed when the message was accepted."""
    by = record.deliver_by
    return Deadlines(
        message.created,
        record.release or None,
        by[0] if by is not None else None,
        "R" if by is not None and by[1] == "R" else "N",
    )


def policy_for(record: Record, usual: RetryPolicy, reports: RetryPolicy) -> RetryPolicy:
    """The schedule of a message: reports are not tried as long, and nobody is warned about them."""
    return with_lifetime(usual, record.lifetime) if record.kind == Kind.MESSAGE.value else reports


def with_lifetime(policy: RetryPolicy, seconds: float) -> RetryPolicy:
    """The schedule with another end, which is never later; 0 leaves it."""
    return replace(policy, expire=min(policy.expire, seconds)) if seconds else policy


def policy_with(policy: RetryPolicy, advice: Advice | None) -> RetryPolicy:
    """The schedule of a recipient about which there is advice."""
    if advice is None:
        return policy
    if advice.after:
        policy = replace(policy, delays=(advice.after,), growth=1.0)
    return with_lifetime(policy, advice.lifetime)


def consequences(
    policy: RetryPolicy,
    deadlines: Deadlines,
    states: Sequence[tuple[int, QueuedRecipient, Outcome]],
    now: float,
    random: Callable[[], float],
    *,
    is_final: bool,
    advice: Mapping[int, Advice] | None = None,
) -> Consequences:
    """What follows from the outcomes of a try that ended at `now`.

    `states` are position, recipient and outcome. `is_final` says that the next hop is a mail store. `advice`
    is the policy's about temporary outcomes, by position.
    """
    result = Consequences()
    warn = warns_at(policy, deadlines)
    if warn is not None:
        warn = math.ceil(warn)  # the queue keeps times of tries in whole seconds, rounded down
    chance = random()  # one for all: what failed in one transaction is tried again in one
    for position, state, outcome in states:
        reply = outcome.reply
        text = kept_outcome(outcome)
        recipient = outcome.recipient
        if reply.is_positive:
            what = Result.DELIVERED if is_final else Result.RELAYED
            result.changes.append(delivered(position, outcome, now))
            if recipient.notify is None and deadlines.deliver_by is None:
                continue  # nobody has asked to hear of it
            result.events.append(
                Event(
                    recipient,
                    what,
                    reply,
                    outcome.speaker,
                    now,
                    next_hop_dsn=outcome.took_dsn,
                    next_hop_deliver_by=outcome.took_deliver_by,
                )
            )
            continue
        if reply.is_permanent:
            result.changes.append(Change(position, Status.FAILED, reply=text, attempted=now))
            result.events.append(Event(recipient, Result.FAILED, reply, outcome.speaker, now))
            continue
        said = (advice or {}).get(position)
        if said is not None and said.held:
            result.changes.append(Change(position, Status.HELD, reply=text, attempted=now))
            continue
        step = next_step(policy_with(policy, said), deadlines, state.attempts + 1, now, lambda: chance)
        if step.action != "retry":
            result.changes.append(Change(position, Status.FAILED, reply=text, attempted=now))
            result.events.append(
                _given_up(recipient, reply, outcome.speaker, now, late=step.action != "expire")
            )
            continue
        result.changes.append(Change(position, Status.DEFERRED, step.at, text, now))
        if warn is not None and state.last < warn <= now:  # the first try after that time, so once
            late = deadlines.deliver_by is not None and deadlines.deliver_by <= now
            result.events.append(
                Event(
                    recipient,
                    Result.LATE if late else Result.DELAYED,
                    reply,
                    outcome.speaker,
                    now,
                    expires_at(policy_with(policy, said), deadlines)[0],
                )
            )
    return result


def delivered(position: int, outcome: Outcome, now: float) -> Change:
    """The state of a recipient that has the message since `now`."""
    return Change(position, Status.DELIVERED, reply=kept_outcome(outcome), attempted=now)


def given_up(
    states: Sequence[tuple[int, QueuedRecipient, Recipient]],
    now: float,
    *,
    late: bool,
) -> Consequences:
    """Recipients whose time is over before another try could be made."""
    result = Consequences()
    for position, state, recipient in states:
        reply = kept_reply(state.reply) if state.reply else EXPIRED
        result.changes.append(Change(position, Status.FAILED, reply=state.reply or kept_text(EXPIRED)))
        result.events.append(_given_up(recipient, reply, "", state.last or None, late=late))
    return result


def _given_up(recipient: Recipient, reply: Reply, peer: str, when: float | None, *, late: bool) -> Event:
    return Event(recipient, Result.LATE if late else Result.EXPIRED, reply, peer, when)
