"""What the policy has ordered about a message, carried out on what is delivered.

The client's envelope and octets stay as they are: the answer has a reply for each recipient that the client
named, and a retry is known by what the client sent. Delivery and queue get an envelope and a buffer of their
own, so that size, 8-bit facts, reports and the queue all speak of the same message.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from msgspec import structs

from mta.content import MEMORY_LIMIT, MessageBuffer
from mta.delivery.fold import Answer, fold
from mta.delivery.outcome import NextHop, Outcome
from mta.envelope import Envelope, Recipient
from mta.policy.verdict import Orders
from mta.reply import Reply
from sieve_ext.message import Message

DISCARDED = Reply(250, "2.0.0", "accepted")
REMOVED = Reply(250, "2.1.5", "accepted")
HELD = Reply(451, "4.3.0", "the message is held by the policy")
"""For recipients of a message that is queued without a try; the queue's 250 takes its place."""
ALIASES_ONLY = Orders()
"""Of a message for an alias about which nobody has ordered anything."""
NOT_TO_ALL = Reply(451, "4.3.0", "the message is not delivered to everybody yet, try again later")


def aliases_of(envelope: Envelope, orders: Orders | None) -> list[Recipient]:
    """The aliases for several that the client named, and that were not removed."""
    removed = () if orders is None or orders.removed is None else orders.removed
    return [one for at, one in enumerate(envelope.recipients) if one.members and at not in removed]


def places(envelope: Envelope, orders: Orders) -> tuple[list[Recipient], list[tuple[int, ...]]]:
    """Who gets the message of those that the client named, and where among them each of these is: an alias
    for several at several places, who is left out at none. Nobody is there twice, and who was named twice is
    reported on as one of both asked for."""
    left_out = {*(orders.removed or ()), *(orders.repeated or ())}
    recipients: list[Recipient] = []
    found: list[tuple[int, ...]] = []
    known: dict[tuple[str, str], int] = {}
    for position, recipient in enumerate(envelope.recipients):
        mine: list[int] = []
        if position not in left_out:
            for one in recipient.behind:
                place = known.setdefault((one.address.local, one.address.domain), len(recipients))
                if place == len(recipients):
                    recipients.append(one)
                else:
                    recipients[place] = _also_for(recipients[place], one)
                mine.append(place)
        found.append(tuple(mine))
    for position in orders.repeated or ():
        for one in envelope.recipients[position].behind:
            at = known.get((one.address.local, one.address.domain))
            if at is not None:
                recipients[at] = _also_for(recipients[at], one)
    return recipients, found


def _also_for(recipient: Recipient, again: Recipient) -> Recipient:
    """The recipient, reported on as it or `again` asks for (NOTIFY): NEVER of one silences no other."""
    if recipient.notify == again.notify:
        return recipient
    usual = frozenset({"FAILURE", "DELAY"})  # without NOTIFY (RFC 3461 section 4.1)
    first, second = (usual if one.notify is None else one.notify for one in (recipient, again))
    return structs.replace(recipient, notify=(first | second) - {"NEVER"})


def _hold_for(envelope: Envelope, orders: Orders) -> int | None:
    """HOLDFOR as ordered, for the longer of both; a date that the client has given stays."""
    if not orders.postponed or envelope.hold_until is not None:
        return envelope.hold_for
    return max(envelope.hold_for or 0, math.ceil(orders.postponed))


def ordered_envelope(envelope: Envelope, orders: Orders) -> Envelope:
    """The envelope that is delivered, as ordered; without recipients when nobody is to get it."""
    recipients, _ = places(envelope, orders)
    return structs.replace(
        envelope,
        sender=envelope.sender if orders.sender is None else orders.sender,
        recipients=[] if orders.discarded else [*recipients, *orders.added],
        hold_for=_hold_for(envelope, orders),
        ret=envelope.ret if orders.ret is None else orders.ret,
        envid=envelope.envid if orders.envid is None else orders.envid,
        priority=envelope.priority if orders.priority is None else orders.priority,
    )


async def ordered_content(
    content: MessageBuffer, message: Message, spill: str | None, *, new_body: bool = False
) -> MessageBuffer:
    """The octets of an edited message in a buffer of their own. Raises SpillError."""
    if max(content.size, message.size) <= MEMORY_LIMIT:
        return _copy(content, message, spill, new_body)
    return await asyncio.to_thread(_copy, content, message, spill, new_body)


def _copy(content: MessageBuffer, message: Message, spill: str | None, new_body: bool) -> MessageBuffer:
    edited = MessageBuffer(spill)
    for chunk in message.chunks():
        edited.append(chunk)
    header = message.render_header()
    edited.plain = content.plain and not new_body and not header.startswith(b".") and b"\n." not in header
    return edited


def all_outcomes(
    envelope: Envelope, orders: Orders, outcomes: Sequence[Outcome], *, reported: bool = False
) -> list[Outcome]:
    """The client's recipients in order, those that were removed too; then members of aliases; then the added
    ones. `reported` says that the sender is told of those that were refused for good.

    If all of the client's were removed and those in their place all refuse, that is the answer: mail that
    nobody got is not accepted.
    """
    if orders.discarded:
        reply = replace(DISCARDED, cause=f"discarded: {orders.discarded}")
        return [Outcome(recipient, reply, "") for recipient in envelope.recipients]
    added = outcomes[len(outcomes) - len(orders.added) :] if orders.added else ()
    refused = None
    if added and len(orders.removed or {}) == len(envelope.recipients):
        refused = added[0].reply if all(one.reply.is_permanent for one in added) else None
    _, where = places(envelope, orders)
    found: list[Outcome] = []
    members: list[int] = []
    for position, recipient in enumerate(envelope.recipients):
        cause = (orders.removed or {}).get(position)
        first = (orders.repeated or {}).get(position)
        if cause is not None:
            reply = refused or replace(REMOVED, cause=f"removed: {cause}")
            found.append(Outcome(recipient, reply, ""))
        elif first is not None:
            found.append(structs.replace(found[first], recipient=recipient))
        elif recipient.members:
            members += where[position]
            found.append(_folded(recipient, [outcomes[place] for place in where[position]], reported))
        else:
            (place,) = where[position]
            found.append(structs.replace(outcomes[place], recipient=recipient))
    return [*found, *[outcomes[place] for place in dict.fromkeys(members)], *added]


def _folded(recipient: Recipient, outcomes: Sequence[Outcome], reported: bool) -> Outcome:
    """The outcome of an alias, of those of its members."""
    if len(outcomes) == 1:
        return structs.replace(outcomes[0], recipient=recipient)
    reply = fold(outcomes, per_recipient=False, reported=reported).final
    queued = next((one.queue_id for one in outcomes if one.queue_id), "")
    return Outcome(recipient, reply, "", queue_id=queued if reply.is_positive else "")


def fold_ordered(
    outcomes: Sequence[Outcome], count: int, orders: Orders, *, per_recipient: bool, reported: bool
) -> Answer:
    """As `fold`, for the first `count` recipients, which are the client's.

    Added recipients that refuse are in the log only: the client does not know of them. One that can neither
    be reached nor be kept has the client try again, and those who have the message are remembered.
    """
    answer = fold(outcomes[:count], per_recipient=per_recipient, reported=reported)
    if _reaches_nobody(orders, count):
        return structs.replace(answer, result="discarded")
    end = len(outcomes) - len(orders.added)
    if len(outcomes) > count and any(reply.is_temporary for reply in (answer.final, *answer.each)):
        # Members of aliases and those who were added, copies too: the client's next try would reach them.
        others = (at for at in range(count, len(outcomes)) if outcomes[at].reply.is_positive)
        answer = structs.replace(answer, remember=(*answer.remember, *others))
    if len(outcomes) > count:
        also = tuple(outcome.recipient for outcome in outcomes[count:] if outcome.reply.is_positive)
        answer = structs.replace(answer, also=also)
    waiting = [
        outcome for outcome in outcomes[end:] if outcome.reply.is_temporary and not outcome.recipient.is_copy
    ]
    if not waiting or all(outcome.reply.is_permanent for outcome in outcomes[:end]):
        return answer
    reply = replace(NOT_TO_ALL, cause=f"{waiting[0].recipient.address}: {waiting[0].reply}")
    each = [one if one.is_permanent else reply for one in answer.each]
    done = tuple(index for index, outcome in enumerate(outcomes) if outcome.reply.is_positive)
    return Answer(reply, each, "mixed" if done else "temporary", done)


def _reaches_nobody(orders: Orders, count: int) -> bool:
    """True when the orders leave no recipient."""
    return bool(orders.discarded) or (len(orders.removed or {}) == count and not orders.added)


def held(orders: Orders) -> Reply:
    """What becomes of a recipient of a message that is not tried because it is on hold."""
    return replace(HELD, cause=f"held: {orders.held}")


def untried(
    envelope: Envelope,
    reply: Reply,
    route: Callable[[Recipient], NextHop | Reply],
    already: Sequence[Outcome | None],
) -> list[Outcome]:
    """Outcomes of a message that waits without a try: `reply`, but what is settled already is settled, above
    all for those who have it (`already`, an outcome or None for each recipient)."""
    found: list[Outcome] = []
    for recipient, has_it in zip(envelope.recipients, already, strict=True):
        if has_it is not None:
            found.append(has_it)
            continue
        way = route(recipient)
        said = way if isinstance(way, Reply) and not way.is_temporary else reply
        found.append(Outcome(recipient, said, ""))
    return found
