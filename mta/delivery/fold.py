"""From an outcome per recipient to the answer of the client: pure.

250 means that every recipient is delivered, or kept in the queue, or that the sender gets a report about it
(which is in the queue by then). What the queue has kept comes here with our 250 as its reply. Where the
queue is off, full or not for this client, a temporary outcome for one recipient makes the whole answer
temporary, and the recipients that did get the message are remembered (`Answer.remember`) so that the
client's next try brings them no second copy. When some are done and the others refused for good, and nobody
may be written to about it, the answer is the refusal and names those it is about, for neither a 250 (mail
lost) nor a 4xx (the client tries for days) would be true. A client that asked for PRDR or speaks LMTP gets
each recipient's own reply and none of this matters.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from mta.delivery.outcome import Outcome
from mta.envelope import Recipient
from mta.reply import Reply

NAMED = 5
"""Recipients that a summary names; more would not fit the client's bounce."""


class Answer(Struct, frozen=True):
    """What the client is told, and which outcomes must be remembered because it is not told all."""

    final: Reply
    """The one reply of SMTP; with PRDR, the last one."""
    each: list[Reply]
    """A reply per recipient, in order."""
    result: str
    """ "delivered", "queued" (all of them), "temporary", "permanent", "mixed" or, by the policy's order,
    "discarded": for log and metrics."""
    remember: tuple[int, ...] = ()
    """Indexes of delivered recipients that a client without per-recipient replies will try again."""
    also: tuple[Recipient, ...] = ()
    """Who has the message beside those whom the client has named: members of aliases, and whom the policy or
    a milter has added."""


def fold(outcomes: Sequence[Outcome], *, per_recipient: bool, reported: bool = False) -> Answer:
    """Fold outcomes, one per recipient of the envelope in order.

    `per_recipient` is True when the client gets `each` (LMTP, PRDR); `reported` when the sender will be told
    of those that were refused for good.
    """
    each = [outcome.reply for outcome in outcomes]
    first = each[0]
    if len(each) == 1:
        return Answer(first, each, _kind(outcomes[0]))
    done = [index for index, reply in enumerate(each) if reply.is_positive]
    temporary = [index for index, reply in enumerate(each) if reply.is_temporary]
    permanent = [index for index, reply in enumerate(each) if reply.is_permanent]
    if len(done) == len(each):
        kinds = {_kind(outcome) for outcome in outcomes}
        if len(set(each)) == 1:
            return Answer(first, each, kinds.pop())
        return Answer(_success(outcomes), each, kinds.pop() if len(kinds) == 1 else "mixed")
    if done and (per_recipient or (reported and not temporary)):
        return Answer(_success(outcomes), each, "mixed")
    if temporary:
        reply = _summary(outcomes, temporary, "not delivered yet to")
        return Answer(reply, each, "mixed" if done else "temporary", tuple(done))
    if done:
        return Answer(_summary(outcomes, permanent, "not delivered to"), each, "mixed")
    return Answer(first if len(set(each)) == 1 else _summary(outcomes, permanent, "not delivered to"), each,
                  "permanent")  # fmt: skip


def _kind(outcome: Outcome) -> str:
    if outcome.queue_id:
        return "queued"
    reply = outcome.reply
    return "delivered" if reply.is_positive else "temporary" if reply.is_temporary else "permanent"


def _success(outcomes: Sequence[Outcome]) -> Reply:
    """One 250 that says how many were delivered, and how many wait under which name."""
    queued = [outcome for outcome in outcomes if outcome.queue_id]
    delivered = sum(outcome.reply.is_positive for outcome in outcomes) - len(queued)
    parts = []
    if delivered or not queued:
        of_all = "" if delivered == len(outcomes) else f" of {len(outcomes)}"
        parts.append(f"delivered to {delivered}{of_all} recipients")
    if queued:
        parts.append(f"queued for {len(queued)} as {queued[0].queue_id}")
    return Reply(250, "2.0.0", ", ".join(parts))


def _summary(outcomes: Sequence[Outcome], indexes: Sequence[int], what: str) -> Reply:
    """One reply for the recipients at `indexes`, with code and enhanced code of the first of them."""
    if len(indexes) == 1 and len(outcomes) == 1:
        return outcomes[indexes[0]].reply
    lead = outcomes[indexes[0]].reply
    names = ", ".join(f"<{outcomes[index].recipient.address}>" for index in indexes[:NAMED])
    more = f" and {len(indexes) - NAMED} more" if len(indexes) > NAMED else ""
    done = sum(outcome.reply.is_positive for outcome in outcomes)
    refused = len(outcomes) - len(indexes) - done
    others = ", ".join(f"{count} {state}" for count, state in ((done, "done"), (refused, "refused")) if count)
    text = lead.text.split("\n", 1)[0]
    if any(outcomes[index].reply != lead for index in indexes):
        text += " (one of several reasons)"
    if others:
        text += f" (other recipients: {others})"
    return Reply(lead.code, lead.enhanced, f"{what} {names}{more}: {text}")
