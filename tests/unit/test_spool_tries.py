"""What one try comes to, as a table."""

from __future__ import annotations

import pytest

from mailqueue.model import QueuedRecipient, Status
from mailqueue.schedule import Deadlines, RetryPolicy
from mta.address import parse_address
from mta.delivery.outcome import Outcome
from mta.dsn.decide import Kind
from mta.dsn.values import Result
from mta.envelope import Recipient
from mta.policy.verdict import Advice
from mta.reply import Reply
from mta.spool.record import Record
from mta.spool.tries import EXPIRED, consequences, given_up, policy_for

BOB = Recipient(parse_address("bob@example.test"), notify=frozenset({"SUCCESS", "FAILURE", "DELAY"}))
ANN = Recipient(parse_address("ann@example.test"))
"""Nothing was asked for her."""
OK = Reply(250, "2.0.0", "kept")
LATER = Reply(451, "4.2.0", "busy")
NO = Reply(550, "5.1.1", "no such user")
START = 1000.0
POLICY = RetryPolicy(delays=(10.0, 100.0), jitter=0.0, expire=500.0, warn=200.0)
USUAL = Deadlines(START)
RETURNED = Deadlines(START, deliver_by=START + 50, by_mode="R")
TOLD = Deadlines(START, deliver_by=START + 50, by_mode="N")
FINAL = True
RELAY = False


@pytest.mark.parametrize(
    ("reply", "deadlines", "is_final", "attempts", "last", "now", "status", "due", "event"),
    [
        (OK, USUAL, FINAL, 0, 0, 1, Status.DELIVERED, 0, Result.DELIVERED),
        (OK, USUAL, RELAY, 0, 0, 1, Status.DELIVERED, 0, Result.RELAYED),
        (OK, USUAL, FINAL, 9, 0, 900, Status.DELIVERED, 0, Result.DELIVERED),
        (NO, USUAL, FINAL, 0, 0, 1, Status.FAILED, 0, Result.FAILED),
        (LATER, USUAL, FINAL, 0, 0, 1, Status.DEFERRED, 11, None),
        (LATER, USUAL, FINAL, 1, 1, 11, Status.DEFERRED, 111, None),
        (LATER, USUAL, FINAL, 2, 11, 111, Status.DEFERRED, 211, None),
        (LATER, USUAL, FINAL, 3, 111, 211, Status.DEFERRED, 311, Result.DELAYED),
        (LATER, USUAL, FINAL, 4, 211, 311, Status.DEFERRED, 411, None),
        (LATER, USUAL, FINAL, 5, 311, 411, Status.DEFERRED, 500, None),
        (LATER, USUAL, FINAL, 6, 411, 500, Status.FAILED, 0, Result.EXPIRED),
        (LATER, RETURNED, FINAL, 1, 1, 11, Status.DEFERRED, 50, None),
        (LATER, RETURNED, FINAL, 2, 11, 51, Status.FAILED, 0, Result.LATE),
        (LATER, TOLD, FINAL, 1, 1, 11, Status.DEFERRED, 111, None),
        (LATER, TOLD, FINAL, 2, 11, 111, Status.DEFERRED, 211, Result.LATE),
        (LATER, TOLD, FINAL, 3, 111, 211, Status.DEFERRED, 311, None),
        (LATER, TOLD, FINAL, 6, 411, 500, Status.FAILED, 0, Result.EXPIRED),
    ],
)
def test_one_recipient(
    reply: Reply,
    deadlines: Deadlines,
    is_final: bool,
    attempts: int,
    last: float,
    now: float,
    status: Status,
    due: float,
    event: Result | None,
) -> None:
    """`last`, `now` and `due` are seconds after the start."""
    state = QueuedRecipient(
        "bob@example.test", attempts=attempts, last=START + last if last else 0.0, status=Status.DEFERRED
    )
    found = consequences(
        POLICY, deadlines, [(3, state, Outcome(BOB, reply, "mx:25"))], START + now, lambda: 0.5,
        is_final=is_final,
    )  # fmt: skip
    (change,) = found.changes
    assert (change.recipient, change.status, change.attempted) == (3, status, START + now)
    assert change.reply == str(reply)
    assert change.due == (START + due if due else 0.0)
    assert [each.result for each in found.events] == ([] if event is None else [event])
    assert found.is_final == (not status.is_live)
    for each in found.events:
        assert (each.recipient, each.reply, each.peer) == (BOB, reply, "mx:25")
        if each.result is Result.DELAYED:
            assert each.retry_until == START + 500


def test_a_try_in_the_second_of_the_warning_warns_once() -> None:
    """The queue keeps the time of a try in whole seconds, rounded down."""
    events = []
    last = 0.0
    for now in (1200.3, 1200.6, 1201.2, 1210.7):
        state = QueuedRecipient("bob@example.test", attempts=1, last=last, status=Status.DEFERRED)
        found = consequences(
            POLICY, Deadlines(START + 0.49), [(0, state, Outcome(BOB, LATER, ""))], now, lambda: 0.5,
            is_final=FINAL,
        )  # fmt: skip
        events += [each.result for each in found.events]
        last = float(int(now))
    assert events == [Result.DELAYED]


def test_what_failed_together_is_tried_again_together() -> None:
    """The jitter spreads messages, not the recipients of one."""
    policy = RetryPolicy(delays=(100.0,), jitter=0.5)
    numbers = iter([0.9, 0.1, 0.5])
    states = [(p, QueuedRecipient(f"u{p}@example.test"), Outcome(BOB, LATER, "")) for p in range(3)]
    found = consequences(policy, USUAL, states, START, lambda: next(numbers), is_final=FINAL)
    assert {change.due for change in found.changes} == {START + 140.0}


@pytest.mark.parametrize(("deadlines", "events"), [(USUAL, []), (TOLD, [Result.RELAYED])])
def test_success_that_nobody_asked_to_hear_of(deadlines: Deadlines, events: list[Result]) -> None:
    state = QueuedRecipient("ann@example.test")
    found = consequences(
        POLICY, deadlines, [(0, state, Outcome(ANN, OK, "mx:25"))], START, lambda: 0.5, is_final=RELAY
    )
    assert [change.status for change in found.changes] == [Status.DELIVERED]
    assert [event.result for event in found.events] == events


def test_what_the_next_hop_took_over() -> None:
    state = QueuedRecipient("bob@example.test")
    outcome = Outcome(BOB, OK, "mx:25", took_dsn=True)
    found = consequences(POLICY, USUAL, [(0, state, outcome)], START, lambda: 0.5, is_final=RELAY)
    assert found.events[0].next_hop_dsn


@pytest.mark.parametrize(
    ("kept", "late", "result", "reply"),
    [
        ("451 4.2.0 busy", False, Result.EXPIRED, LATER),
        ("451 4.2.0 busy", True, Result.LATE, LATER),
        ("", True, Result.LATE, EXPIRED),
    ],
)
def test_time_that_is_over_before_a_try(kept: str, late: bool, result: Result, reply: Reply) -> None:
    state = QueuedRecipient("bob@example.test", reply=kept, last=START if kept else 0.0)
    found = given_up([(2, state, BOB)], START + 60, late=late)
    assert [(c.recipient, c.status, c.reply, c.attempted) for c in found.changes] == [
        (2, Status.FAILED, str(reply), 0.0)
    ]
    (event,) = found.events
    assert (event.result, event.reply) == (result, reply)
    assert event.last_attempt == (START if kept else None)


@pytest.mark.parametrize("kind", list(Kind))
def test_reports_have_a_schedule_of_their_own(kind: Kind) -> None:
    usual, reports = RetryPolicy(), RetryPolicy(expire=100.0, warn=None)
    assert policy_for(Record(kind=kind.value), usual, reports) is (usual if kind is Kind.MESSAGE else reports)


@pytest.mark.parametrize(
    ("deadlines", "advice", "until"),
    [
        (USUAL, {}, 500),
        (Deadlines(START, deliver_by=START + 300, by_mode="R"), {}, 300),
        (Deadlines(START, deliver_by=START + 300, by_mode="N"), {}, 500),
        (USUAL, {3: Advice(lifetime=400)}, 400),
    ],
)
def test_a_delay_is_told_with_its_own_end(
    deadlines: Deadlines, advice: dict[int, Advice], until: float
) -> None:
    state = QueuedRecipient("bob@example.test", attempts=3, last=START + 111, status=Status.DEFERRED)
    found = consequences(
        POLICY, deadlines, [(3, state, Outcome(BOB, LATER, "mx:25"))], START + 211, lambda: 0.5,
        is_final=RELAY, advice=advice,
    )  # fmt: skip
    (event,) = found.events
    assert (event.result, event.retry_until) == (Result.DELAYED, START + until)
