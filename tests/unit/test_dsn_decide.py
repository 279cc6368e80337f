"""Which report is owed: the rules of RFC 3461 and RFC 2852 (in our words, with their sections) as tables."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import NULL, parse_address
from mta.dsn.decide import DEFAULT, Decision, Kind, Options, Vouching, Why, decide, sort_out
from mta.dsn.values import Action, Event, Result
from mta.envelope import DeliverBy, Envelope, Recipient
from mta.reply import Reply

SENDER = parse_address("alice@example.org")
BOB = parse_address("bob@example.net")
NO = Reply(550, "5.1.1", "No such user")
LATER = Reply(451, "4.7.1", "Later")
OK = Reply(250, "2.1.5", "Ok")
REPLIES = {
    Result.FAILED: NO,
    Result.EXPIRED: LATER,
    Result.DELAYED: LATER,
    Result.LATE: LATER,
    Result.DELIVERED: OK,
    Result.RELAYED: OK,
    Result.EXPANDED: None,
}


def ask(
    result: Result,
    notify: Collection[str] | None = None,
    *,
    by: DeliverBy | None = None,
    dsn: bool = False,
    deliver_by: bool = False,
    vouching: Vouching = Vouching.LOGIN,
    kind: Kind = Kind.MESSAGE,
    options: Options = DEFAULT,
    null: bool = False,
) -> Decision:
    recipient = Recipient(BOB, None if notify is None else frozenset(notify))
    envelope = Envelope(NULL if null else SENDER, [recipient], deliver_by=by)
    event = Event(
        recipient,
        result,
        REPLIES[result],
        next_hop_dsn=dsn,
        next_hop_deliver_by=deliver_by,
    )
    return decide(envelope, event, vouching, kind, options)


ONLY = {
    "SUCCESS": {"SUCCESS"},
    "FAILURE": {"FAILURE"},
    "DELAY": {"DELAY"},
    "SUCCESS,FAILURE": {"SUCCESS", "FAILURE"},
    "FAILURE,DELAY": {"FAILURE", "DELAY"},
    "all": {"SUCCESS", "FAILURE", "DELAY"},
    "NEVER": {"NEVER"},
    "absent": None,
}


@pytest.mark.parametrize(
    ("rule", "notify", "result", "action"),
    [
        ("4.1: NEVER asks for no report whatever happens", "NEVER", Result.FAILED, None),
        ("4.1: NEVER", "NEVER", Result.EXPIRED, None),
        ("4.1: NEVER", "NEVER", Result.DELAYED, None),
        ("4.1: NEVER", "NEVER", Result.DELIVERED, None),
        ("4.1: NEVER", "NEVER", Result.RELAYED, None),
        ("4.1: NEVER", "NEVER", Result.EXPANDED, None),
        ("4.1: NEVER", "NEVER", Result.LATE, None),
        ("4.1: FAILURE asks for a report of failure", "FAILURE", Result.FAILED, "failed"),
        ("5.2.6: giving up is a failure", "FAILURE", Result.EXPIRED, "failed"),
        ("4.1: without SUCCESS no report of success", "FAILURE", Result.DELIVERED, None),
        ("4.1: NOTIFY without DELAY forbids reports of delay", "FAILURE", Result.DELAYED, None),
        ("4.1: NOTIFY without DELAY, even when late", "FAILURE", Result.LATE, None),
        ("4.1: SUCCESS asks for a report of success", "SUCCESS", Result.DELIVERED, "delivered"),
        ("4.1: without FAILURE no report of failure", "SUCCESS", Result.FAILED, None),
        ("4.1: without FAILURE no report of failure", "SUCCESS", Result.EXPIRED, None),
        ("4.1: without DELAY no report of delay", "SUCCESS,FAILURE", Result.DELAYED, None),
        ("5.2.5: DELAY allows a report of delay", "FAILURE,DELAY", Result.DELAYED, "delayed"),
        ("4.1: DELAY alone asks for no failures", "DELAY", Result.FAILED, None),
        ("4.1: DELAY alone asks for no success", "DELAY", Result.DELIVERED, None),
        ("4.1: several words add up", "all", Result.FAILED, "failed"),
        ("4.1: several words add up", "all", Result.DELAYED, "delayed"),
        ("4.1: several words add up", "all", Result.DELIVERED, "delivered"),
        ("4.1: no NOTIFY means FAILURE, and DELAY if we like", "absent", Result.FAILED, "failed"),
        ("4.1: no NOTIFY", "absent", Result.DELAYED, "delayed"),
        ("4.1: no NOTIFY asks for no success", "absent", Result.DELIVERED, None),
        ("4.1: no NOTIFY asks for no success", "absent", Result.RELAYED, None),
        ("4.1: no NOTIFY asks for no success", "absent", Result.EXPANDED, None),
        ("5.2.2: relayed without DSN, SUCCESS asked", "SUCCESS", Result.RELAYED, "relayed"),
        ("5.2.2: relayed without DSN, SUCCESS not asked", "FAILURE,DELAY", Result.RELAYED, None),
        ("5.2.7.3: alias for several, SUCCESS asked", "SUCCESS", Result.EXPANDED, "expanded"),
        ("5.2.7.3: alias for several, SUCCESS not asked", "FAILURE", Result.EXPANDED, None),
    ],
)
def test_rules_of_rfc_3461(rule: str, notify: str, result: Result, action: str | None) -> None:
    decision = ask(result, ONLY[notify])
    assert decision.action == action, rule
    assert not decision.to_postmaster
    if action is None:
        assert decision.why is (Why.NEVER if notify == "NEVER" else Why.NOT_ASKED)


@pytest.mark.parametrize("notify", ONLY)
def test_next_hop_with_dsn_takes_the_duty_over(notify: str) -> None:
    """RFC 3461 section 5.2.1: the parameters travel on, and the next hop reports."""
    decision = ask(Result.RELAYED, ONLY[notify], dsn=True)
    assert decision.action is None
    assert decision.why is (Why.NEVER if notify == "NEVER" else Why.NEXT_HOP)


@pytest.mark.parametrize(
    ("by", "result", "notify", "deliver_by", "expected"),
    [
        # Mode R: returned when the time is over. Mode N: the sender is told, and trying goes on.
        (DeliverBy(60, "R", False), Result.LATE, "absent", False, ("failed", "5.4.7")),
        (DeliverBy(60, "R", False), Result.LATE, "SUCCESS", False, (None, "")),
        (DeliverBy(60, "N", False), Result.LATE, "absent", False, ("delayed", "4.4.7")),
        (DeliverBy(60, "N", False), Result.LATE, "all", False, ("delayed", "4.4.7")),
        (DeliverBy(60, "N", False), Result.LATE, "NEVER", False, (None, "")),
        # The time ends at a next hop without DELIVERBY, or tracing is on: "relayed", but for NEVER.
        (DeliverBy(60, "N", False), Result.RELAYED, "absent", False, ("relayed", "2.1.5")),
        (DeliverBy(60, "N", False), Result.RELAYED, "NEVER", False, (None, "")),
        (DeliverBy(60, "N", False), Result.RELAYED, "absent", True, (None, "")),
        (DeliverBy(60, "N", True), Result.RELAYED, "absent", True, ("relayed", "2.1.5")),
        (DeliverBy(60, "R", True), Result.RELAYED, "FAILURE", True, ("relayed", "2.1.5")),
        (DeliverBy(60, "R", False), Result.RELAYED, "absent", True, (None, "")),
    ],
)
def test_rules_of_rfc_2852(
    by: DeliverBy, result: Result, notify: str, deliver_by: bool, expected: tuple[str | None, str]
) -> None:
    decision = ask(result, ONLY[notify], by=by, dsn=True, deliver_by=deliver_by)
    assert (decision.action, decision.status) == expected


def test_delays_are_told_to_who_did_not_ask_by_option() -> None:
    quiet = Options(warn_of_delay=False)
    assert ask(Result.DELAYED, options=quiet) == Decision(Why.NOT_ASKED)
    assert ask(Result.DELAYED, {"DELAY"}, options=quiet).action is Action.DELAYED
    assert ask(Result.LATE, options=quiet, by=DeliverBy(1, "N", False)).action is Action.DELAYED


@pytest.mark.parametrize("result", Result)
@pytest.mark.parametrize("vouching", Vouching)
def test_nobody_writes_to_a_sender_whom_nobody_vouches_for(result: Result, vouching: Vouching) -> None:
    decision = ask(result, {"SUCCESS", "FAILURE", "DELAY"}, vouching=vouching)
    if vouching is Vouching.NOBODY:
        assert decision == Decision(Why.UNVOUCHED)
    else:
        assert decision.why is Why.OWED
        assert decision.action is not None


def test_only_what_was_wanted_counts_as_suppressed() -> None:
    assert ask(Result.DELIVERED, vouching=Vouching.NOBODY).why is Why.NOT_ASKED
    assert ask(Result.FAILED, {"NEVER"}, vouching=Vouching.NOBODY).why is Why.NEVER


@pytest.mark.parametrize("result", Result)
@pytest.mark.parametrize("notify", ONLY)
def test_null_sender_gets_nothing(result: Result, notify: str) -> None:
    assert ask(result, ONLY[notify], null=True) == Decision(Why.NULL_SENDER)


def test_report_that_fails_goes_to_the_postmaster() -> None:
    failed = ask(Result.FAILED, {"NEVER"}, null=True, kind=Kind.REPORT, vouching=Vouching.NOBODY)
    assert failed == Decision(Why.DOUBLE_BOUNCE, Action.FAILED, "5.1.1", to_postmaster=True)
    assert ask(Result.EXPIRED, {"NEVER"}, null=True, kind=Kind.REPORT).to_postmaster
    assert ask(Result.DELAYED, {"NEVER"}, null=True, kind=Kind.REPORT) == Decision(Why.NULL_SENDER)
    off = Options(double_bounce_to_postmaster=False)
    dropped = ask(Result.FAILED, {"NEVER"}, null=True, kind=Kind.REPORT, options=off)
    assert dropped == Decision(Why.DROPPED)


def test_notice_that_fails_goes_nowhere() -> None:
    for result in Result:
        assert ask(result, null=True, kind=Kind.NOTICE).action is None


events = st.builds(
    Event,
    st.builds(
        Recipient,
        st.just(BOB),
        st.sampled_from([None if words is None else frozenset(words) for words in ONLY.values()]),
    ),
    st.sampled_from(Result),
    st.sampled_from([NO, LATER, OK, None]),
    next_hop_dsn=st.booleans(),
    next_hop_deliver_by=st.booleans(),
)


@given(st.lists(events, min_size=3, max_size=3), st.sampled_from(Vouching), st.booleans())
def test_no_chain_of_reports_is_longer_than_three(
    chain: list[Event], vouching: Vouching, trace: bool
) -> None:
    """Whatever happens to a message, to the report about it and to the notice about that: it ends."""
    kind, made = Kind.MESSAGE, []
    envelope = Envelope(SENDER, deliver_by=DeliverBy(9, "N", True) if trace else None)
    for event in chain:
        decision = decide(envelope, event, vouching, kind)
        if decision.action is None:
            break
        kind = Kind.NOTICE if decision.to_postmaster else Kind.REPORT
        envelope = Envelope(NULL)
        made.append(kind)
    assert made in ([], [Kind.REPORT], [Kind.REPORT, Kind.NOTICE])


@given(st.lists(events), st.sampled_from(Vouching), st.sampled_from(Kind))
def test_recipients_share_one_report(happened: list[Event], vouching: Vouching, kind: Kind) -> None:
    envelope = Envelope(SENDER if kind is Kind.MESSAGE else NULL)
    owed = sort_out(envelope, happened, vouching, kind)
    assert len(owed.reasons) == len(happened)
    written = [why for why in owed.reasons if why in (Why.OWED, Why.DOUBLE_BOUNCE)]
    assert len(written) == len(owed.to_sender) + len(owed.to_postmaster)
    assert not owed.to_sender or (vouching is not Vouching.NOBODY and kind is Kind.MESSAGE)
    assert not owed.to_postmaster or kind is Kind.REPORT


def test_report_has_what_is_known_of_the_event() -> None:
    recipient = Recipient(BOB)
    happened = [
        Event(recipient, Result.DELAYED, LATER, "mx.example.net:25", 5.0, 9.0),
        Event(recipient, Result.FAILED, NO, "mx.example.net:25", 6.0, 9.0),
    ]
    delayed, failed = sort_out(Envelope(SENDER), happened, Vouching.SPF).to_sender
    assert (delayed.status, delayed.reply, delayed.peer) == ("4.7.1", LATER, "mx.example.net:25")
    assert (delayed.last_attempt, delayed.retry_until) == (5.0, 9.0)
    assert (failed.status, failed.last_attempt, failed.retry_until) == ("5.1.1", 6.0, None)
