"""Orders of two policies as one: what adds up, and who has the last word."""

from __future__ import annotations

from mta.address import parse_address
from mta.envelope import Recipient
from mta.policy.sieve.orders import NO_ORDERS, merged
from mta.policy.verdict import Orders
from sieve_ext.message import Message

ANN, BEN, CAT = (Recipient(parse_address(f"{name}@x.test")) for name in ("ann", "ben", "cat"))
FIRST, SECOND = Message(b"A: 1\r\n\r\n"), Message(b"A: 2\r\n\r\n")
FRONT = Orders(FIRST, "f:1", "f:2", ANN.address, (ANN, BEN), {0: "f:3"}, None, 3, 60.0, ("a", "b"), ("one",))
BEHIND = Orders(
    SECOND,
    "b:1",
    "b:2",
    BEN.address,
    (BEN, CAT),
    {0: "b:3", 2: "b:4"},
    {3: 1},
    -3,
    90.0,
    ("b", "c"),
    ("two",),
)


def test_nothing_changes_nothing() -> None:
    assert merged(NO_ORDERS, NO_ORDERS) == NO_ORDERS
    for orders in (FRONT, BEHIND):
        assert merged(orders, NO_ORDERS) == orders
        assert merged(NO_ORDERS, orders) == orders


def test_both() -> None:
    both = merged(FRONT, BEHIND)
    assert both == Orders(
        SECOND, "f:1", "f:2", BEN.address, (ANN, BEN, CAT), {0: "f:3", 2: "b:4"}, {3: 1}, -3, 90.0,
        ("a", "b", "c"), ("one", "two"),
    )  # fmt: skip
