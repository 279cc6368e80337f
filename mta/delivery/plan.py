"""Who gets what from where: recipients grouped by next hop.

Pure. The order of recipients is kept within a group, and groups stand in the order in which their first
recipient was named, so that the same envelope always gives the same plan (logs and tests can be compared).
Each group is one call of `Transport.deliver`, which makes as many transactions of it as the next hop wants
(`mta.delivery.transact`); groups may run in parallel.
"""

from __future__ import annotations

from collections.abc import Iterable
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


def plan(routes: Iterable[tuple[Recipient, NextHop]]) -> list[Group]:
    """Group recipients by next hop, and by the sender that it is told.

    A recipient named twice stays named twice: whether to fold it is the policy's decision.
    """
    groups: dict[tuple[NextHop, Address | None], Group] = {}
    for position, (recipient, next_hop) in enumerate(routes):
        key = (next_hop, recipient.sender)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(next_hop)
        group.recipients.append(recipient)
        group.positions.append(position)
    return list(groups.values())
