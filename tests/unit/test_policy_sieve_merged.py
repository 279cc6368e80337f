"""Orders of two policies as one: what adds up, and who has the last word."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from mta.address import parse_address
from mta.envelope import Recipient
from mta.policy.sieve.orders import NO_ORDERS, merged, with_orders
from mta.policy.verdict import CONTINUE, Orders, Verdict
from mta.reply import Reply
from sieve_ext.message import Message

ANN, BEN, CAT = (Recipient(parse_address(f"{name}@x.test")) for name in ("ann", "ben", "cat"))
FIRST, SECOND = Message(b"A: 1\r\n\r\n"), Message(b"A: 2\r\n\r\n")
FRONT = Orders(
    FIRST, "f:1", "f:2", ANN.address, (ANN, BEN), {0: "f:3"}, None, 3, 60.0, ("a", "b"), ("one",),
    b"F: 1\r\n", True, "HDRS", "f", (ANN.address, BEN.address), 60.0,
)  # fmt: skip
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
    b"B: 1\r\n",
    False,
    "FULL",
    "b",
    (BEN.address, CAT.address),
    90.0,
)


def test_nothing_changes_nothing() -> None:
    assert merged(NO_ORDERS, NO_ORDERS) == NO_ORDERS
    for orders in (FRONT, BEHIND):
        assert merged(orders, NO_ORDERS) == orders
        assert merged(NO_ORDERS, orders) == orders


@pytest.mark.parametrize("name", [one.name for one in fields(Orders)])
def test_nothing_is_forgotten(name: str) -> None:
    value = getattr(BEHIND, name) or getattr(FRONT, name)
    orders = replace(NO_ORDERS, **{name: value})
    assert orders != NO_ORDERS
    assert merged(orders, NO_ORDERS) == orders
    assert merged(NO_ORDERS, orders) == orders


def test_a_refusal_behind_is_the_last_word() -> None:
    no = Verdict(Reply(550, "5.7.1", "no"))
    assert with_orders(FRONT, no) is no
    assert with_orders(None, CONTINUE) is CONTINUE
    assert with_orders(FRONT, CONTINUE).orders == FRONT
    assert with_orders(FRONT, Verdict(orders=BEHIND)).orders == merged(FRONT, BEHIND)


def test_both() -> None:
    both = merged(FRONT, BEHIND)
    assert both == Orders(
        SECOND, "f:1", "f:2", BEN.address, (ANN, BEN, CAT), {0: "f:3", 2: "b:4"}, {3: 1}, -3, 90.0,
        ("a", "b", "c"), ("one", "two"), b"B: 1\r\nF: 1\r\n", True, "FULL", "b",
        (ANN.address, BEN.address, CAT.address), 90.0,
    )  # fmt: skip
