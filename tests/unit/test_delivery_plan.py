"""Grouping of recipients by next hop."""

from __future__ import annotations

import pytest

from mta.address import parse_address
from mta.delivery.outcome import NextHop
from mta.delivery.plan import plan
from mta.envelope import Recipient


@pytest.mark.parametrize(
    ("routes", "groups"),
    [
        ("", []),
        ("aA", ["A:a"]),
        ("aA bA cA", ["A:abc"]),
        ("aA bB cA dB", ["A:ac", "B:bd"]),
        ("bB aA", ["B:b", "A:a"]),
        ("aA aA", ["A:aa"]),
    ],
)
def test_plan(routes: str, groups: list[str]) -> None:
    given = [(Recipient(parse_address(f"{r[0]}@x.test")), NextHop(r[1])) for r in routes.split()]
    result = plan(given)
    named = [g.next_hop.transport + ":" + "".join(r.address.local for r in g.recipients) for g in result]
    assert named == groups
    placed = {
        position: recipient
        for g in result
        for position, recipient in zip(g.positions, g.recipients, strict=True)
    }
    assert [placed[i] for i in range(len(given))] == [recipient for recipient, _ in given]


def test_groups_have_no_limit() -> None:
    many = [(Recipient(parse_address(f"u{n}@x.test")), NextHop(f"hop{n % 7}")) for n in range(7000)]
    groups = plan(many)
    assert [len(group.recipients) for group in groups] == [1000] * 7
