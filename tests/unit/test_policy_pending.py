"""What policy servers want of messages: how long it is kept, and what it comes to."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mailmilter.policy import parse_action
from mta.address import parse_address
from mta.envelope import Envelope, Recipient
from mta.policy.external.pending import Pending, PendingPolicy
from mta.policy.external.policyservers import PolicyServers
from mta.policy.sieve.facts import Facts
from mta.policy.verdict import Orders, Verdict
from sieve_ext.message import Message
from tests.unit.policy_tables import MESSAGE, session
from tests.unit.test_policy_sieve_policy import Fake, envelope, settle

SESSION = session()


def ask(pending: dict[str, Pending], stage: str, action: str, *, over: bool = False) -> None:
    """Let a server answer at a stage."""
    servers = PolicyServers({}, pending, lambda place: f"relay:{place}")
    facts = Facts(stage, replace(SESSION, over=over), "mx.test", envelope())
    told = servers._apply("one", parse_action(action), facts)
    assert told.reply is None


def test_nothing_is_kept_for_a_session_that_is_over() -> None:
    pending: dict[str, Pending] = {}
    for action in ("HOLD", "DISCARD", "PREPEND X: 1", "BCC c@x.test", "DEFER_IF_PERMIT later", "FILTER x:y"):
        ask(pending, "rcpt", action, over=True)
    assert not pending
    ask(pending, "rcpt", "HOLD")
    assert pending


@pytest.mark.parametrize(
    ("stage", "held"),
    [("connect", [True, True, True]), ("helo", [True, True, False]), ("rcpt", [True, False, False])],
)
def test_how_long_it_is_kept(stage: str, held: list[bool]) -> None:
    """Two messages, and one after another HELO; at the end of the session all is forgotten."""
    pending: dict[str, Pending] = {}
    policy = PendingPolicy(Fake(), pending)
    ask(pending, stage, "HOLD look")
    found = []
    for number in range(3):
        if number == 2:
            settle(policy.helo(SESSION))
        verdict = settle(policy.data(SESSION, envelope(), Message(MESSAGE)))
        found.append(verdict.orders is not None and bool(verdict.orders.held))
        policy.aborted(SESSION)
    assert found == held
    policy.ended(SESSION)
    assert not pending


def test_the_last_redirect_and_filter_count_and_every_copy() -> None:
    pending: dict[str, Pending] = {}
    for stage, action in (
        ("connect", "REDIRECT first@x.test"), ("mail", "REDIRECT last@x.test"),
        ("connect", "FILTER a:1"), ("helo", "FILTER b:1"),
        ("connect", "BCC one@x.test"), ("rcpt", "BCC two@x.test"), ("rcpt", "BCC one@x.test"),
        ("connect", "PREPEND X: 1"), ("rcpt", "PREPEND X: 1"), ("rcpt", "PREPEND Y: 1"),
    ):  # fmt: skip
        ask(pending, stage, action)
    for _ in range(2):  # the second message has recipients of its own
        message = Envelope(parse_address("a@x.test"), [Recipient(parse_address("b@x.test"))])
        orders = pending[SESSION.id].ordered(Orders(), message)
        assert [one.address.text for one in orders.added] == ["last@x.test", "one@x.test", "two@x.test"]
        assert {one.route for one in orders.added} == {"relay:b:1"}
        assert orders.above == b"X: 1\r\nY: 1\r\n"
        assert list(orders.removed or ()) == [0]
        orders.added[0].route = "changed by delivery"


@pytest.mark.parametrize(
    ("each", "notify"),
    [
        ([None], None),
        ([{"NEVER"}], {"NEVER"}),
        ([{"NEVER"}, {"NEVER"}], {"NEVER"}),
        ([{"NEVER"}, None], {"FAILURE", "DELAY"}),
        ([{"SUCCESS"}, {"NEVER"}], {"SUCCESS"}),
    ],
)
def test_a_redirect_is_reported_as_the_sender_has_asked(
    each: list[set[str] | None], notify: set[str] | None
) -> None:
    pending: dict[str, Pending] = {}
    ask(pending, "rcpt", "REDIRECT last@x.test")
    people = [
        Recipient(parse_address(f"b{number}@x.test"), None if one is None else frozenset(one))
        for number, one in enumerate(each)
    ]
    orders = pending[SESSION.id].ordered(Orders(), Envelope(parse_address("a@x.test"), people))
    assert [one.notify for one in orders.added] == [notify]


def test_the_first_defer_if_permit_counts_and_a_refusal_stands() -> None:
    pending: dict[str, Pending] = {}
    ask(pending, "connect", "DEFER_IF_PERMIT first")
    ask(pending, "rcpt", "DEFER_IF_PERMIT second")
    kept = pending[SESSION.id]
    first = kept.settle(Verdict(), "rcpt").reply
    assert first is not None
    assert first.text == "first"
    assert kept.settle(Verdict(first.__class__(550, "5.7.1", "no")), "rcpt").reply is not first
    assert kept.settle(Verdict(), "data").reply is None
