"""Grouping of recipients by next hop."""

from __future__ import annotations

import pytest

from mta.address import parse_address
from mta.delivery.outcome import NextHop
from mta.delivery.plan import plan
from mta.envelope import Recipient


@pytest.mark.parametrize(
    ("routes", "limits", "groups"),
    [
        ("", {}, []),
        ("aA", {}, ["A:a"]),
        ("aA bA cA", {}, ["A:abc"]),
        ("aA bB cA dB", {}, ["A:ac", "B:bd"]),
        ("bB aA", {}, ["B:b", "A:a"]),
        ("aA bA cA", {"A": 1}, ["A:a", "A:b", "A:c"]),
        ("aA bA cA dA eA", {"A": 2}, ["A:ab", "A:cd", "A:e"]),
        ("aA bB cA dB eA", {"A": 2}, ["A:ac", "B:bd", "A:e"]),
        ("aA aA", {}, ["A:aa"]),
    ],
)
def test_plan(routes: str, limits: dict[str, int], groups: list[str]) -> None:
    given = [(Recipient(parse_address(f"{r[0]}@x.test")), NextHop(r[1])) for r in routes.split()]
    result = plan(given, lambda hop: limits.get(hop.transport, 0))
    named = [g.next_hop.transport + ":" + "".join(r.address.local for r in g.recipients) for g in result]
    assert named == groups
    placed = {
        position: recipient
        for g in result
        for position, recipient in zip(g.positions, g.recipients, strict=True)
    }
    assert [placed[i] for i in range(len(given))] == [recipient for recipient, _ in given]


def test_no_limit_by_default_and_large_lists_are_linear() -> None:
    many = [(Recipient(parse_address(f"u{n}@x.test")), NextHop(f"hop{n % 7}")) for n in range(7000)]
    groups = plan(many)
    assert [len(group.recipients) for group in groups] == [1000] * 7
