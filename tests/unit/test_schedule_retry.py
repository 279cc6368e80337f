"""The retry schedule: delays, jitter, ends, warnings, held and hurried messages."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailqueue.schedule.retry import Deadlines, RetryPolicy, Step, expires_at, next_step, warns_at

STEADY = RetryPolicy(delays=(10.0, 20.0, 40.0), jitter=0.0, expire=1000.0, warn=100.0)


def middle() -> float:
    return 0.5


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (STEADY, [10, 20, 40, 40, 40, 40]),
        (RetryPolicy(delays=(10.0,), growth=2.0, most=70.0), [10, 20, 40, 70, 70, 70]),
        (RetryPolicy(delays=(5.0, 300.0), growth=2.0, most=100.0), [5, 300, 300, 300, 300, 300]),
        (RetryPolicy(), [300, 900, 3600, 14400, 14400, 14400]),
    ],
)
def test_delays(policy: RetryPolicy, delays: list[float]) -> None:
    assert [policy.delay(attempts) for attempts in range(1, 7)] == delays


@pytest.mark.parametrize(
    ("age", "attempts", "made"),
    [
        (0.0, 1, 1),
        (5.0, 4, 1),  # flushed three times in the first seconds
        (10.0, 2, 2),
        (29.0, 7, 2),
        (30.0, 3, 3),
        (71.0, 9, 4),
        (110.0, 9, 5),
        (10_000.0, 9, 9),
        (-50.0, 3, 1),  # the clock of the node that accepted it is ahead
    ],
)
def test_tries_by_order_are_not_those_of_the_schedule(age: float, attempts: int, made: int) -> None:
    assert STEADY.made_by(age, attempts) == made


def test_who_orders_many_tries_waits_no_longer_for_the_next() -> None:
    assert next_step(STEADY, Deadlines(100.0), 8, 103.0, middle) == Step("retry", 113.0)


def test_growth_without_end_ends() -> None:
    assert RetryPolicy(delays=(10.0,), growth=1e300, most=500.0).delay(10**9) == 500.0


def test_jitter_spreads_around_the_delay() -> None:
    policy = RetryPolicy(delays=(100.0,), jitter=0.2, expire=10_000.0)
    dice = random.Random(1)
    times = [next_step(policy, Deadlines(0.0), 1, 50.0, dice.random).at for _ in range(500)]
    assert 130 <= min(times) < 135
    assert 165 < max(times) <= 170
    assert 148 < sum(times) / len(times) < 152


@pytest.mark.parametrize(
    ("deadlines", "attempts", "now", "step"),
    [
        (Deadlines(0.0), 0, 0.0, Step("retry", 0.0)),
        (Deadlines(0.0), 1, 5.0, Step("retry", 15.0)),
        (Deadlines(0.0), 9, 990.0, Step("retry", 1000.0)),  # the last chance is at the end
        (Deadlines(0.0), 9, 1000.0, Step("expire", 1000.0)),
        (Deadlines(0.0), 9, 5000.0, Step("expire", 1000.0)),
        (Deadlines(0.0, release=700.0), 0, 3.0, Step("retry", 700.0)),
        (Deadlines(0.0, release=700.0), 9, 1200.0, Step("retry", 1240.0)),
        (Deadlines(0.0, release=700.0), 9, 1700.0, Step("expire", 1700.0)),
        (Deadlines(50.0, release=20.0), 0, 60.0, Step("retry", 60.0)),
        (Deadlines(0.0, deliver_by=60.0, by_mode="R"), 3, 30.0, Step("retry", 60.0)),
        (Deadlines(0.0, deliver_by=60.0, by_mode="R"), 3, 60.0, Step("deliver_by", 60.0)),
        (Deadlines(0.0, deliver_by=60.0, by_mode="N"), 3, 60.0, Step("retry", 100.0)),
        (Deadlines(0.0, deliver_by=2000.0, by_mode="R"), 3, 1000.0, Step("expire", 1000.0)),
    ],
)
def test_steps(deadlines: Deadlines, attempts: int, now: float, step: Step) -> None:
    assert next_step(STEADY, deadlines, attempts, now, middle) == step


@pytest.mark.parametrize(
    ("policy", "deadlines", "at"),
    [
        (STEADY, Deadlines(0.0), 100.0),
        (STEADY, Deadlines(0.0, release=50.0), 150.0),
        (STEADY, Deadlines(0.0, deliver_by=60.0, by_mode="N"), 60.0),
        (STEADY, Deadlines(0.0, deliver_by=600.0, by_mode="N"), 100.0),
        (STEADY, Deadlines(0.0, deliver_by=60.0, by_mode="R"), None),
        (RetryPolicy(warn=None), Deadlines(0.0), None),
        (RetryPolicy(warn=None), Deadlines(0.0, deliver_by=60.0), 60.0),
        (RetryPolicy(warn=500.0, expire=400.0), Deadlines(0.0), None),
    ],
)
def test_warnings(policy: RetryPolicy, deadlines: Deadlines, at: float | None) -> None:
    assert warns_at(policy, deadlines) == at


@pytest.mark.parametrize(
    "arguments",
    [
        {"delays": ()},
        {"delays": (1.0, 0.0)},
        {"growth": 0.5},
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"most": 0.0},
        {"expire": -1.0},
        {"warn": -1.0},
    ],
)
def test_a_policy_that_makes_no_schedule(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at least|above|below"):
        RetryPolicy(**arguments)  # type: ignore[arg-type]


@given(
    st.lists(st.floats(0.1, 1e5), min_size=1, max_size=5),
    st.floats(1, 10),
    st.floats(0, 0.99),
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
    st.sampled_from("NR"),
    st.integers(0, 2**31),
)
def test_every_message_ends(
    delays: list[float],
    growth: float,
    jitter: float,
    expire: float,
    by: float | None,
    mode: str,
    seed: int,
) -> None:
    """Whatever the schedule: tries only go forward, none comes after the end, and the end comes."""
    policy = RetryPolicy(tuple(delays), growth, 1e5, jitter, expire)
    deadlines = Deadlines(0.0, None, by, mode)  # type: ignore[arg-type]
    end, _ = expires_at(policy, deadlines)
    dice = random.Random(seed)
    now, last = 0.0, 0.0
    for attempts in range(1, 200):
        step = next_step(policy, deadlines, attempts, now, dice.random)
        if step.action != "retry":
            assert step.at == end <= now
            break
        assert now < step.at <= end
        last, now = now, step.at
    else:
        assert now > last
