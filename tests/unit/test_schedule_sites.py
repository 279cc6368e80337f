"""Windows, rates, dead sites and shares, with the clock as a number."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailqueue.schedule import sites as sites_module
from mailqueue.schedule.concurrency import Window
from mailqueue.schedule.limits import Limits, Rate
from mailqueue.schedule.rates import Bucket
from mailqueue.schedule.sites import Sites
from mailqueue.schedule.values import Busy, Dead, Result, Token


def table(limits: Limits | None = None, connections: int = 100, **rates: Rate) -> Sites:
    return Sites(lambda name: limits or Limits(), connections, rates)


def session(sites: Sites, now: float = 0.0, site: str = "a", source: str = "", queued: bool = False) -> Token:
    got = sites.try_acquire(site, source, now, queued=queued)
    assert isinstance(got, Token), got
    return got


def kill(sites: Sites, now: float = 0.0, site: str = "a", reason: str = "connection refused") -> None:
    while not sites.release(session(sites, now, site), Result.UNREACHABLE, now, reason):
        pass


# The window


def test_the_window_opens_by_one_a_window_of_answers() -> None:
    window = Window(Limits(initial=2, concurrency=5))
    sizes = []
    for _ in range(30):
        sizes.append(window.size)
        window.answered(window.size)
    assert sizes == sorted(sizes)
    assert {size: sizes.count(size) for size in sizes} == {2: 3, 3: 3, 4: 5, 5: 19}


def test_an_unused_window_stays() -> None:
    window = Window(Limits(initial=5, concurrency=20))
    for _ in range(1000):
        window.answered(1)
    assert window.size <= 6


def test_a_failure_takes_one() -> None:
    window = Window(Limits(initial=5))
    assert not window.unreachable()
    assert window.size == 4
    assert not window.overloaded()
    assert window.size == 3


@pytest.mark.parametrize(
    ("limits", "failures"),
    [
        (Limits(initial=5), 4),  # 1/5 + 1/4 + 1/3 + 1/2
        (Limits(initial=1), 3),
        (Limits(initial=1, failures=1), 1),
        (Limits(initial=20, concurrency=20), 13),
        (Limits(initial=20, concurrency=20, negative=0.0), 20),
        (Limits(initial=3, negative=0.0), 3),
        (Limits(initial=2, negative=0.0, failed_cohorts=2.0), 4),
    ],
)
def test_a_cohort_of_failures_is_death(limits: Limits, failures: int) -> None:
    window = Window(limits)
    assert [window.unreachable() for _ in range(failures)] == [False] * (failures - 1) + [True]


def test_one_answer_takes_all_failures_back() -> None:
    window = Window(Limits(initial=5))
    for _ in range(50):
        assert not window.unreachable()
        assert not window.unreachable()
        window.answered(1)


@pytest.mark.parametrize("capacity", [1, 2, 7, 10, 16])
@pytest.mark.parametrize("seed", range(3))
def test_the_window_finds_what_a_destination_takes(capacity: int, seed: int) -> None:
    """A site that refuses every session beyond `capacity`: it is used to the full and rarely refuses."""
    dice = random.Random(seed)
    sites = table(Limits(concurrency=20))
    running: list[tuple[float, bool, Token]] = []
    now, served, refused, busy = 0.0, 0, 0, 0.0
    for round_ in range(6000):
        while isinstance(token := sites.try_acquire("a", "", now, queued=False), Token):
            if sum(taken for _, taken, _ in running) < capacity:
                running.append((now + dice.expovariate(1.0), True, token))
            else:
                running.append((now + 0.01, False, token))
        if round_ == 1000:  # found by then
            served, refused, start, busy = 0, 0, now, 0.0
        running.sort(key=lambda item: item[0])
        busy += sum(taken for _, taken, _ in running) * (running[0][0] - now)
        now, taken, token = running.pop(0)
        served += taken
        refused += not taken
        sites.release(token, Result.ANSWERED if taken else Result.OVERLOADED, now)
    assert busy / (now - start) >= 0.85 * capacity
    assert refused / (served + refused) <= 0.08


# Rates


@given(
    st.floats(0.5, 50),
    st.floats(0.5, 100),
    st.integers(1, 10),
    st.lists(st.one_of(st.floats(0, 0.2), st.floats(0, 60)), min_size=1, max_size=200),
)
def test_a_rate_holds_over_any_stretch(count: float, seconds: float, burst: int, steps: list[float]) -> None:
    bucket = Bucket(Rate(count, seconds, burst))
    now, taken = 0.0, []
    for step in steps:
        now += step
        while bucket.ready_at() <= now:
            bucket.take(now)
            taken.append(now)
            assert len(taken) < 20_000
    for first, start in enumerate(taken):
        for last in range(first, len(taken), 7):
            assert last - first + 1 <= burst + (taken[last] - start) * count / seconds + 1e-6


def test_a_rate_is_used_up() -> None:
    bucket = Bucket(Rate(60, 60.0, 5))
    now, taken = 0.0, 0
    while now < 100:
        while bucket.ready_at() <= now:
            bucket.take(now)
            taken += 1
        now = bucket.ready_at()
    assert taken == 104


def test_site_and_source_rates_are_both_kept_and_nothing_is_lost_to_the_other() -> None:
    sites = table(Limits(rate=Rate(1, 10.0)), out=Rate(1, 4.0))
    session(sites, 0.0, source="out")
    assert sites.try_acquire("a", "out", 0.0, queued=False) == Busy("rate", 10.0)
    assert sites.try_acquire("b", "out", 0.0, queued=False) == Busy("source", 4.0)
    session(sites, 0.0, site="b", source="other")
    session(sites, 4.0, site="c", source="out")
    assert sites.try_acquire("a", "out", 7.0, queued=False) == Busy("rate", 10.0)
    session(sites, 10.0, source="out")  # the refusals took nothing


# Dead sites


def test_a_dead_site_is_left_alone_and_probed_by_one() -> None:
    sites = table(Limits(dead_first=60.0, dead_most=200.0))
    assert not sites.any_dead()
    kill(sites, 0.0)
    assert sites.any_dead()
    dead = Dead(60.0, "connection refused")
    assert sites.dead("a", 59.0) == dead
    assert sites.try_acquire("a", "", 59.0, queued=True) == dead
    assert sites.dead("a", 60.0) is None
    probe = session(sites, 60.0)
    assert probe.probe
    assert sites.try_acquire("a", "", 61.0, queued=False) == Busy("probe")
    assert sites.release(probe, Result.UNREACHABLE, 90.0, "timeout")
    assert sites.dead("a", 90.0) == Dead(210.0, "timeout")
    for start, until in ((210.0, 410.0), (410.0, 610.0)):
        assert sites.release(session(sites, start), Result.UNREACHABLE, start, "timeout")
        assert sites.dead("a", start) == Dead(until, "timeout")
    assert sites.any_dead()
    assert not sites.release(session(sites, 610.0), Result.ANSWERED, 611.0)
    assert not sites.any_dead()
    assert [session(sites, 612.0).probe for _ in range(5)] == [False] * 5
    assert sites.try_acquire("a", "", 612.0, queued=False) == Busy("window")


def test_a_site_that_is_dead_for_years() -> None:
    sites = table()
    kill(sites, 0.0)
    now = 60.0
    for _ in range(1100):
        assert sites.release(session(sites, now), Result.UNREACHABLE, now, "gone")
        dead = sites.dead("a", now)
        assert dead is not None
        assert dead.until - now <= 1800.0
        now = dead.until


def test_back_off_starts_anew_after_life() -> None:
    sites = table(Limits(dead_first=60.0))
    kill(sites, 0.0)
    sites.release(session(sites, 60.0), Result.ANSWERED, 60.0)
    kill(sites, 100.0)
    assert sites.dead("a", 100.0) == Dead(160.0, "connection refused")


def test_a_probe_that_learned_nothing_leaves_it_to_the_next() -> None:
    sites = table()
    kill(sites, 0.0)
    assert not sites.release(session(sites, 60.0), Result.UNKNOWN, 60.0)
    assert session(sites, 60.0).probe


def test_stragglers() -> None:
    """Deliveries begun before death: failures change nothing, an answer brings the site back."""
    sites = table(Limits(initial=8))
    running = [session(sites) for _ in range(8)]
    died = [sites.release(token, Result.UNREACHABLE, 1.0, "down") for token in running[:7]]
    assert died.count(True) == 1
    assert sites.dead("a", 1.0) == Dead(61.0, "down")
    sites.release(running[7], Result.ANSWERED, 2.0)
    assert sites.dead("a", 2.0) is None


def test_a_site_that_wants_no_session_at_all_is_dead() -> None:
    sites = table(Limits(initial=2))
    results = []
    for _ in range(4):
        results.append(sites.release(session(sites), Result.OVERLOADED, 0.0, "421 busy"))
    assert results == [False, False, False, True]


def test_a_dead_site_can_be_tried_at_once() -> None:
    sites = table()
    kill(sites, 0.0)
    sites.revive("a", 5.0)
    sites.revive("never heard of", 5.0)
    assert session(sites, 5.0).probe


# Shares


def test_the_queue_leaves_room_for_first_tries() -> None:
    sites = table(Limits(initial=10))
    queued = [session(sites, queued=True) for _ in range(8)]
    assert sites.try_acquire("a", "", 0.0, queued=True) == Busy("window")
    session(sites)
    session(sites)
    assert sites.try_acquire("a", "", 0.0, queued=False) == Busy("window")
    sites.release(queued[0], Result.UNKNOWN, 0.0)
    session(sites, queued=True)


def test_one_site_has_half_of_all_sessions_at_most() -> None:
    sites = table(Limits(initial=20), connections=10)
    for _ in range(5):
        session(sites)
    assert sites.try_acquire("a", "", 0.0, queued=False) == Busy("window")
    for _ in range(5):
        session(sites, site="b")
    assert sites.try_acquire("c", "", 0.0, queued=False) == Busy("connections")
    assert sites.full()


@pytest.mark.parametrize(("connections", "allowed"), [(1, 1), (2, 1), (10, 8)])
def test_all_sessions_of_the_queue(connections: int, allowed: int) -> None:
    sites = table(connections=connections)
    for number in range(allowed):
        assert not sites.full()
        session(sites, site=f"s{number}", queued=True)
    assert sites.full()
    assert sites.try_acquire("x", "", 0.0, queued=True) == Busy("connections")


def test_a_token_comes_back_once() -> None:
    sites = table()
    token = session(sites)
    sites.release(token, Result.ANSWERED, 0.0)
    with pytest.raises(ValueError, match="twice"):
        sites.release(token, Result.ANSWERED, 0.0)


def test_idle_sites_are_forgotten_but_none_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites_module, "IDLE_SITES", 10)
    sites = table()
    kept = session(sites, site="kept")
    kill(sites, 0.0)
    assert sites.any_dead()
    for number in range(100):
        sites.release(session(sites, site=f"s{number}"), Result.ANSWERED, 0.0)
    assert not sites.any_dead()
    assert set(sites.names()) == {"kept", *(f"s{number}" for number in range(90, 100))}
    sites.release(kept, Result.ANSWERED, 0.0)
    assert "kept" in sites.names()


def test_shares_of_workers() -> None:
    whole = Limits(concurrency=20, initial=5, rate=Rate(100, 60.0, 10))
    part = whole.share(4)
    assert (part.concurrency, part.initial, part.rate) == (5, 1, Rate(25, 60.0, 2))
    assert Limits(concurrency=2).share(4).concurrency == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rate(0, 1.0),
        lambda: Rate(1, 0.0),
        lambda: Rate(1, 1.0, 0),
        lambda: Limits(concurrency=0),
        lambda: Limits(positive=0.0),
        lambda: Limits(negative=-1.0),
        lambda: Limits(dead_first=0.0),
        lambda: Limits(dead_first=10.0, dead_most=5.0),
        lambda: Sites(lambda name: Limits(), 0),
    ],
)
def test_limits_that_make_no_sense(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"above|at least"):
        make()
