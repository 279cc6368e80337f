"""What is to be reported of a message after its first try: pure decisions.

Members of an alias with an owner are the owner's: a refusal is reported to the owner whoever the sender is,
and for the client they are accepted then. Of the others the client hears in the answer, or its sender by a
report where somebody vouches for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from mta.delivery.outcome import Outcome
from mta.dsn.decide import Vouching
from mta.dsn.values import Event, Result
from mta.envelope import Recipient
from mta.firsttry import HAS_IT_ALREADY
from mta.handover import Parcel
from mta.reply import Reply


def events_of(
    parcel: Parcel,
    outcomes: Sequence[Outcome],
    vouching: Vouching,
    ends_with: Callable[[Parcel, Recipient], bool],
    now: float,
) -> list[Event]:
    """What happened to recipients that are settled, and to aliases. `ends_with` says that a recipient's next
    hop is a mail store; `now` is seconds of the epoch."""
    events = []
    for outcome in outcomes:
        recipient, reply = outcome.recipient, outcome.reply
        if outcome.queue_id or reply is HAS_IT_ALREADY or reply.is_temporary:
            continue  # what is temporary still is a copy that nobody could keep
        if reply.is_positive:
            result = Result.DELIVERED if ends_with(parcel, recipient) else Result.RELAYED
        elif recipient.owners or not (parcel.per_recipient or vouching is Vouching.NOBODY):
            result = Result.FAILED
        else:  # the client's server hears of it in our answer
            continue
        events.append(
            Event(
                recipient,
                result,
                reply,
                outcome.speaker,
                now,
                next_hop_dsn=outcome.took_dsn,
                next_hop_deliver_by=outcome.took_deliver_by,
            )
        )
    for alias in parcel.expanded:
        if _reaches_some(alias, outcomes):
            listed = all(member.owners for member in alias.members)
            events.append(Event(alias, Result.DELIVERED if listed else Result.EXPANDED))
    return events


def tells_of_refusals(events: Sequence[Event]) -> bool:
    """True when the sender hears of those that were refused."""
    return any(event.result is Result.FAILED and not event.recipient.owners for event in events)


def accepted(outcomes: list[Outcome], events: Sequence[Event]) -> list[Outcome]:
    """The outcomes for the client, when the reports about `events` are queued: refusals that owners of
    aliases hear of are none for it."""
    owned = {
        id(event.recipient) for event in events if event.result is Result.FAILED and event.recipient.owners
    }
    if not owned:
        return outcomes
    return [
        replace(one, reply=Reply(250, "2.0.0", "accepted", f"the owner of the alias hears: {one.reply}"))
        if id(one.recipient) in owned
        else one
        for one in outcomes
    ]


def _reaches_some(alias: Recipient, outcomes: Sequence[Outcome]) -> bool:
    """The sender of a message for an alias wants to know, and somebody behind it gets or got the message."""
    if alias.notify is None or "SUCCESS" not in alias.notify:
        return False
    members = {one.address.key for one in alias.members}
    return any(one.reply.is_positive and one.recipient.address.key in members for one in outcomes)
