"""From an outcome per recipient to the answer of the client: pure.

250 means that every recipient is delivered. There is no queue here: what is not delivered now is the
client's again, so a temporary outcome for one recipient makes the whole answer temporary, and the
recipients that did get the message are remembered (`Answer.remember`) so that the client's next try brings
them no second copy. When some are delivered and the others refused for good, the answer is the refusal and
names those it is about, for neither a 250 (mail lost) nor a 4xx (the client tries for days) would be true.
A client that asked for PRDR or speaks LMTP gets each recipient's own reply and none of this matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mta.delivery.outcome import Outcome
from mta.reply import Reply

NAMED = 5
"""Recipients that a summary names; more would not fit the client's bounce."""


@dataclass(slots=True, frozen=True)
class Answer:
    """What the client is told, and which outcomes must be remembered because it is not told all."""

    final: Reply
    """The one reply of SMTP; with PRDR, the last one."""
    each: list[Reply]
    """A reply per recipient, in order."""
    result: str
    """ "delivered", "temporary", "permanent" or "mixed": for log and metrics."""
    remember: tuple[int, ...] = ()
    """Indexes of delivered recipients that a client without per-recipient replies will try again."""


def fold(outcomes: Sequence[Outcome], *, per_recipient: bool) -> Answer:
    """Fold outcomes, one per recipient of the envelope in order.

    `per_recipient` is True when the client gets `each` (LMTP, PRDR).
    """
    each = [outcome.reply for outcome in outcomes]
    first = each[0]
    if len(each) == 1:
        kind = "delivered" if first.is_positive else "temporary" if first.is_temporary else "permanent"
        return Answer(first, each, kind)
    delivered = [index for index, reply in enumerate(each) if reply.is_positive]
    temporary = [index for index, reply in enumerate(each) if reply.is_temporary]
    permanent = [index for index, reply in enumerate(each) if reply.is_permanent]
    if len(delivered) == len(each):
        if len(set(each)) == 1:
            return Answer(first, each, "delivered")
        return Answer(Reply(250, "2.0.0", f"delivered to {len(each)} recipients"), each, "delivered")
    if per_recipient and delivered:
        text = f"delivered to {len(delivered)} of {len(each)} recipients"
        return Answer(Reply(250, "2.0.0", text), each, "mixed")
    if temporary:
        reply = _summary(outcomes, temporary, "not delivered yet to")
        return Answer(reply, each, "mixed" if delivered else "temporary", tuple(delivered))
    if delivered:
        return Answer(_summary(outcomes, permanent, "not delivered to"), each, "mixed")
    return Answer(first if len(set(each)) == 1 else _summary(outcomes, permanent, "not delivered to"), each,
                  "permanent")  # fmt: skip


def _summary(outcomes: Sequence[Outcome], indexes: Sequence[int], what: str) -> Reply:
    """One reply for the recipients at `indexes`, with code and enhanced code of the first of them."""
    if len(indexes) == 1 and len(outcomes) == 1:
        return outcomes[indexes[0]].reply
    lead = outcomes[indexes[0]].reply
    names = ", ".join(f"<{outcomes[index].recipient.address}>" for index in indexes[:NAMED])
    more = f" and {len(indexes) - NAMED} more" if len(indexes) > NAMED else ""
    rest = len(outcomes) - len(indexes)
    others = f" ({rest} other recipients are done)" if rest else ""
    text = lead.text.split("\n", 1)[0]
    return Reply(lead.code, lead.enhanced, f"{what} {names}{more}: {text}{others}")
