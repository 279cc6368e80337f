"""What policy servers want, as orders for a message."""

from __future__ import annotations

from mta.address import parse_address
from mta.envelope import Envelope, Recipient
from mta.policy.external.pending import Pending, Wishes
from mta.policy.verdict import Orders

ANN, BEN, CAT, LIST = (parse_address(f"{name}@x.test") for name in ("ann", "ben", "cat", "list"))


def envelope() -> Envelope:
    """To an alias for two, and to somebody else."""
    alias = Recipient(LIST, members=[Recipient(ANN), Recipient(BEN)])
    return Envelope(parse_address("a@x.test"), [alias, Recipient(CAT)])


def test_a_filter_is_for_all_who_are_behind_an_alias() -> None:
    given = envelope()
    Pending(of_message=Wishes(route="filter:scan")).ordered(Orders(), given)
    assert [one.route for one in given.everyone] == ["filter:scan"] * 3


def test_a_filter_of_one_behind_an_alias_is_for_all() -> None:
    given = envelope()
    given.recipients[0].members[1].route = "filter:scan"
    Pending().ordered(Orders(), given)
    assert [one.route for one in given.everyone] == ["filter:scan"] * 3


def test_who_is_behind_an_alias_gets_no_second_copy() -> None:
    copies = Wishes(copies=[BEN, LIST, CAT])
    orders = Pending(at_helo=copies).ordered(Orders(), envelope())
    assert [one.address for one in orders.added] == [LIST]
