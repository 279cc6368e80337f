"""Orders of two policies about one message as one: of the scripts in front, and of what is behind them."""

from __future__ import annotations

from mta.envelope import Recipient
from mta.policy.verdict import Orders

NO_ORDERS = Orders()


def merged(front: Orders, behind: Orders) -> Orders:
    """Both; where only one can count it is the one behind, which has spoken last and seen the edits."""
    return Orders(
        message=front.message if behind.message is None else behind.message,
        discarded=front.discarded or behind.discarded,
        held=front.held or behind.held,
        sender=front.sender if behind.sender is None else behind.sender,
        added=(*front.added, *_new(front, behind)),
        removed={**(behind.removed or {}), **(front.removed or {})} or None,
        repeated=front.repeated or behind.repeated,
        priority=front.priority if behind.priority is None else behind.priority,
        lifetime=behind.lifetime or front.lifetime,
        tags=tuple(dict.fromkeys((*front.tags, *behind.tags))),
        signing=(*front.signing, *behind.signing),
    )


def _new(front: Orders, behind: Orders) -> list[Recipient]:
    """The added recipients that are not added yet."""
    known = {recipient.address.key for recipient in front.added}
    return [recipient for recipient in behind.added if recipient.address.key not in known]
