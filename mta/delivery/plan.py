"""Who gets what from where: recipients grouped by next hop, no group larger than its transport takes.

Pure. The order of recipients is kept within a group, and groups stand in the order in which their first
recipient was named, so that the same envelope always gives the same plan (logs and tests can be compared).
Each group is one call of `Transport.deliver`; groups may run in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mta.address import Address
from mta.delivery.outcome import NextHop
from mta.envelope import Recipient


@dataclass(slots=True)
class Group:
    """Recipients that share one try at one next hop."""

    next_hop: NextHop
    recipients: list[Recipient] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Where each recipient stood in the input: outcomes are put back in that order."""


def _unlimited(_next_hop: NextHop) -> int:
    return 0


def plan(
    routes: Iterable[tuple[Recipient, NextHop]], recipient_limit: Callable[[NextHop], int] = _unlimited
) -> list[Group]:
    """Group recipients by next hop, and by the sender that it is told.

    `recipient_limit` gives the greatest number of recipients that one call of a next hop's transport may
    have, 0 for no limit. A group that is full is followed by another one for the same next hop. A
    recipient named twice stays named twice: whether to fold it is the policy's decision.
    """
    groups: list[Group] = []
    filling: dict[tuple[NextHop, Address | None], Group] = {}
    limits: dict[NextHop, int] = {}
    for position, (recipient, next_hop) in enumerate(routes):
        key = (next_hop, recipient.sender)
        group = filling.get(key)
        if group is None:
            if next_hop not in limits:
                limits[next_hop] = recipient_limit(next_hop)
            group = filling[key] = Group(next_hop)
            groups.append(group)
        group.recipients.append(recipient)
        group.positions.append(position)
        if len(group.recipients) == limits[next_hop]:
            del filling[key]
    return groups
