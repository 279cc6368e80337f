"""Orders of two policies about one message as one: of the scripts in front, and of what is behind them."""

from __future__ import annotations

from msgspec.structs import replace

from mta.envelope import Recipient
from mta.policy.verdict import Orders, Verdict

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
        journal=tuple(dict.fromkeys((*front.journal, *behind.journal))),
        signing=(*front.signing, *behind.signing),
        above=behind.above + front.above,
        new_body=front.new_body or behind.new_body,
        postponed=max(front.postponed, behind.postponed),
        ret=front.ret if behind.ret is None else behind.ret,
        envid=front.envid if behind.envid is None else behind.envid,
    )


def with_orders(front: Orders | None, behind: Verdict) -> Verdict:
    """What is behind has the word; if it does not refuse, what was ordered in front of it is done, too."""
    if front is None or behind.reply is not None:
        return behind
    return replace(behind, orders=front if behind.orders is None else merged(front, behind.orders))


def _new(front: Orders, behind: Orders) -> list[Recipient]:
    """The added recipients that are not added yet."""
    known = {recipient.address.key for recipient in front.added}
    return [recipient for recipient in behind.added if recipient.address.key not in known]
