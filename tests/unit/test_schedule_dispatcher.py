"""The order of work, told delivery by delivery."""

from __future__ import annotations

import pytest

from mailqueue.schedule.dispatcher import Dispatcher
from mailqueue.schedule.limits import Limits, Rate
from mailqueue.schedule.values import Assignment, Busy, Dead, Job, Later, Result, Token


def single(**limits: object) -> Dispatcher:
    """One delivery at a time to each site."""
    return Dispatcher(lambda site: Limits(concurrency=1, initial=1, **limits))  # type: ignore[arg-type]


def given(dispatcher: Dispatcher, now: float = 0.0) -> list[Assignment]:
    """All that may be done now, not yet reported."""
    found = []
    while (assignment := dispatcher.next(now)) is not None:
        found.append(assignment)
    return found


def work(dispatcher: Dispatcher, now: float = 0.0) -> list[tuple[int, str, list[int]]]:
    """Do everything, one after the other; all is answered."""
    order = []
    while (assignment := dispatcher.next(now)) is not None:
        order.append((assignment.job.handle, assignment.job.site, list(assignment.recipients)))
        dispatcher.done(assignment, Result.ANSWERED, now)
    return order


def handles(dispatcher: Dispatcher, now: float = 0.0) -> list[int]:
    return [handle for handle, _, _ in work(dispatcher, now)]


def job(handle: int, site: str = "a", count: int = 1, **more: object) -> Job:
    more.setdefault("due", 0.0)
    return Job(handle, site, range(count), **more)  # type: ignore[arg-type]


def test_in_order_of_due_time_then_of_arrival() -> None:
    dispatcher = single()
    for handle, due in ((1, 5.0), (2, 3.0), (3, 5.0), (4, 99.0)):
        assert dispatcher.offer(job(handle, due=due), 10.0) is None
    assert handles(dispatcher) == [2, 1, 3, 4]


def test_what_is_offered_early_stands_where_it_came() -> None:
    dispatcher = single()
    dispatcher.offer(job(1, due=99.0), 10.0)
    dispatcher.offer(job(2, due=11.0), 11.0)
    assert handles(dispatcher) == [1, 2]


def test_a_level_of_priority_is_worth_ten_minutes() -> None:
    dispatcher = single()
    for handle, due, priority in (
        (1, 0.0, 0),
        (2, 599.0, 1),
        (3, 601.0, 1),
        (4, 5000.0, 9),
        (5, 0.0, -9),
        (6, 5401.0, 0),
        (7, 10_801.0, 9),
    ):
        dispatcher.offer(job(handle, due=due, priority=priority), due)
    assert handles(dispatcher) == [4, 2, 1, 3, 5, 6, 7]


def test_recipients_are_split() -> None:
    dispatcher = single(recipients=4)
    dispatcher.offer(Job(1, "a", [5, 6, 7, 9, 11, 12, 20, 21, 22], 0.0), 0.0)
    assert [part for _, _, part in work(dispatcher)] == [[5, 6, 7, 9], [11, 12, 20, 21], [22]]


def test_sites_take_turns() -> None:
    dispatcher = Dispatcher(lambda site: Limits(recipients=1))
    dispatcher.offer(job(1, "list", 6), 0.0)
    dispatcher.offer(job(2, "b", 3), 0.0)
    dispatcher.offer(job(3, "c", 3), 0.0)
    order = "".join(site[0] for _, site, _ in work(dispatcher))
    assert order == "lbclbclbclll"


def test_done_tells_when_a_job_is_finished() -> None:
    dispatcher = Dispatcher(lambda site: Limits(recipients=1))
    dispatcher.offer(job(1, count=2), 0.0)
    first, second = given(dispatcher)
    assert not dispatcher.done(second, Result.ANSWERED, 1.0)
    assert dispatcher.room == 19_999
    assert dispatcher.done(first, Result.ANSWERED, 1.0)
    assert dispatcher.room == 20_000
    with pytest.raises(ValueError, match="twice"):
        dispatcher.done(first, Result.ANSWERED, 1.0)


def test_a_session_that_is_free_again_serves_the_next_delivery_before_the_last_is_over() -> None:
    dispatcher = single()
    dispatcher.offer(job(1), 0.0)
    dispatcher.offer(job(2), 0.0)
    first = dispatcher.next(0.0)
    assert first is not None
    assert dispatcher.next(0.0) is None
    dispatcher.free(first, Result.ANSWERED, 0.0)
    second = dispatcher.next(0.0)
    assert second is not None
    assert second.job.handle == 2
    with pytest.raises(ValueError, match="twice"):
        dispatcher.free(first, Result.ANSWERED, 0.0)
    # The first is still under way, so it is not taken again.
    again = dispatcher.offer(job(1), 0.0)
    assert isinstance(again, Later)
    assert again.cause == "under_way"
    assert dispatcher.done(first, Result.UNKNOWN, 0.0)
    with pytest.raises(ValueError, match="twice"):
        dispatcher.done(first, Result.UNKNOWN, 0.0)
    assert dispatcher.offer(job(1), 0.0) is None


def test_a_message_is_taken_for_a_site_again_when_all_of_it_is_done() -> None:
    dispatcher = single(recipients=1)
    dispatcher.offer(job(1, "a", 2), 0.0)
    assert dispatcher.offer(job(1, "b"), 0.0) is None
    again = Later(5.0, "under_way", "an earlier delivery of it is still under way")
    assert dispatcher.offer(job(1, "a"), 0.0) == again
    first, other = given(dispatcher)
    assert not dispatcher.done(first, Result.ANSWERED, 0.0)
    [second] = given(dispatcher)
    assert dispatcher.offer(job(1, "a"), 0.0) == again
    assert dispatcher.done(second, Result.ANSWERED, 0.0)
    assert not dispatcher.busy(1, "a")
    assert dispatcher.busy(1, "b")
    assert dispatcher.offer(job(1, "a"), 0.0) is None
    assert dispatcher.done(other, Result.ANSWERED, 0.0)


@pytest.mark.parametrize("arguments", [{"recipients": []}, {"priority": 10}, {"priority": -10}])
def test_jobs_that_are_none(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no recipients|priority"):
        Job(**({"handle": 1, "site": "a", "recipients": [0], "due": 0.0} | arguments))  # type: ignore[arg-type]


# Passing


def test_small_mail_passes_a_list_and_pays() -> None:
    dispatcher = single()
    dispatcher.offer(job(1, count=10_000), 0.0)
    for handle in range(2, 12):
        dispatcher.offer(job(handle), 1.0)
    order = handles(dispatcher)
    assert order[:24] == [2, 3, 4, *[1] * 5, 5, *[1] * 5, 6, *[1] * 5, 7, *[1] * 3]


def test_the_smallest_passes_first_and_the_nearly_as_large_not_at_all() -> None:
    dispatcher = single(recipients=1)
    dispatcher.offer(job(1, count=10), 0.0)
    dispatcher.offer(job(2, count=6), 0.0)
    dispatcher.offer(job(3, count=2), 0.0)
    dispatcher.offer(job(4, count=1), 0.0)
    assert handles(dispatcher) == [4, 3, 3, *[1] * 10, *[2] * 6]


def test_a_lower_priority_does_not_pass() -> None:
    dispatcher = single(recipients=1)
    dispatcher.offer(job(1, count=4, priority=1), 0.0)
    dispatcher.offer(job(2), 0.0)
    dispatcher.offer(job(3, priority=2), 0.0)
    assert handles(dispatcher) == [3, 1, 1, 1, 1, 2]


def test_among_those_that_pass_a_low_priority_does_not_hide_others() -> None:
    dispatcher = single(recipients=1)
    dispatcher.offer(job(1, count=40), 0.0)
    dispatcher.offer(job(2, priority=-5), 0.0)
    dispatcher.offer(job(3, count=2), 0.0)
    assert handles(dispatcher)[:3] == [3, 3, 1]


# Limits on what is in memory


def test_offers_beyond_the_limit_come_back_later() -> None:
    dispatcher = Dispatcher(active=8)
    assert [dispatcher.offer(job(n, "a"), 0.0) for n in range(2)] == [None, None]
    refused = dispatcher.offer(job(2, "a"), 0.0)
    assert isinstance(refused, Later)
    assert (refused.cause, refused.until) == ("site_full", 5.0)
    for number in range(6):
        assert dispatcher.offer(job(10 + number, f"s{number}"), 0.0) is None
    assert dispatcher.room == 0
    refused = dispatcher.offer(job(99, "z"), 0.0)
    assert isinstance(refused, Later)
    assert refused.cause == "full"
    work(dispatcher)
    assert dispatcher.room == 8
    assert dispatcher.offer(job(99, "z"), 0.0) is None


# Dead sites


def die(dispatcher: Dispatcher, site: str = "a", now: float = 0.0) -> None:
    """Let first tries find out that a site is down."""
    while isinstance(token := dispatcher.try_acquire(site, now), Token):
        dispatcher.release(token, Result.UNREACHABLE, now, "no route")


def test_what_waits_for_a_dead_site_is_given_back() -> None:
    dispatcher = Dispatcher(lambda site: Limits(recipients=10, initial=8))
    dispatcher.offer(job(1, count=100), 0.0)
    dispatcher.offer(job(2), 0.0)
    running = [dispatcher.next(0.0), dispatcher.next(0.0)]
    die(dispatcher)
    back = dispatcher.postponed()
    assert dispatcher.postponed() == []
    assert sorted((p.job.handle, len(p.recipients), p.until, p.reason) for p in back) == [
        (1, 90, 60.0, "no route")
    ]
    assert dispatcher.next(1.0) is None
    assert dispatcher.wake_at(1.0) is None
    assert dispatcher.offer(job(3), 1.0) == Later(60.0, "dead", "no route")
    assert dispatcher.room == 19_998
    for assignment in running:
        assert assignment is not None
        again = dispatcher.offer(job(assignment.job.handle), 60.0)
        assert isinstance(again, Later)
        assert again.cause == "under_way"
        assert dispatcher.done(assignment, Result.UNREACHABLE, 61.0)
    assert dispatcher.room == 20_000
    assert dispatcher.offer(job(1), 60.0) is None


def test_a_site_that_is_due_for_a_probe_gets_one_delivery() -> None:
    dispatcher = Dispatcher()
    die(dispatcher)
    for handle in range(10):
        assert dispatcher.offer(job(handle), 60.0) is None
    [probe] = given(dispatcher, 60.0)
    assert dispatcher.try_acquire("a", 60.0) == Busy("probe")
    dispatcher.done(probe, Result.UNREACHABLE, 70.0, "still no route")
    assert len(dispatcher.postponed()) == 9
    assert dispatcher.try_acquire("a", 70.0) == Dead(190.0, "still no route")
    for handle in range(20, 30):
        dispatcher.offer(job(handle), 190.0)
    [probe] = given(dispatcher, 190.0)
    dispatcher.done(probe, Result.ANSWERED, 191.0)
    assert len(given(dispatcher, 191.0)) == 4  # the queue's share of five


def test_a_flush_lets_a_dead_site_be_tried() -> None:
    dispatcher = Dispatcher()
    die(dispatcher)
    dispatcher.flush_site("a", 5.0)
    assert dispatcher.offer(job(1), 5.0) is None
    assert len(given(dispatcher, 5.0)) == 1


# Waiting


def test_first_tries_and_the_queue_share_a_window() -> None:
    dispatcher = Dispatcher(lambda site: Limits(initial=2))
    token = dispatcher.try_acquire("a", 0.0)
    assert isinstance(token, Token)
    dispatcher.offer(job(1), 0.0)
    dispatcher.offer(job(2), 0.0)
    [first] = given(dispatcher)
    assert dispatcher.try_acquire("a", 0.0) == Busy("window")
    assert dispatcher.wake_at(0.0) is None
    dispatcher.release(token, Result.UNKNOWN, 1.0)
    assert dispatcher.wake_at(1.0) == 1.0
    assert len(given(dispatcher, 1.0)) == 1
    dispatcher.done(first, Result.ANSWERED, 2.0)


def test_a_site_with_a_rate_wakes_up_in_time() -> None:
    dispatcher = Dispatcher(lambda site: Limits(rate=Rate(1, 10.0)))
    for handle in range(3):
        dispatcher.offer(job(handle), 0.0)
    now, times = 0.0, []
    while (at := dispatcher.wake_at(now)) is not None:
        now = at
        times += [now] * len(work(dispatcher, now))
    assert times == [0.0, 10.0, 20.0]


def test_a_source_with_a_rate_serves_its_sites_in_turn() -> None:
    dispatcher = Dispatcher(source_rates={"slow": Rate(1, 10.0)})
    for site in range(5):
        for handle in range(4):
            dispatcher.offer(job(handle, f"s{site}", source="slow"), 0.0)
    dispatcher.offer(job(9, "s0", source="quick"), 0.0)
    now, order = 0.0, []
    while (at := dispatcher.wake_at(now)) is not None:
        now = at
        order += [(now, site) for handle, site, _ in work(dispatcher, now) if handle != 9]
    assert [time for time, _ in order] == [10.0 * n for n in range(20)]
    for start in range(0, 20, 5):
        assert len({site for _, site in order[start : start + 5]}) == 5


def test_what_a_source_allows_is_passed_on_by_a_site_that_cannot_use_it() -> None:
    dispatcher = Dispatcher(
        lambda site: Limits(concurrency=1, initial=1), source_rates={"slow": Rate(1, 10.0)}
    )
    for handle, site in enumerate(("first", "a", "b", "c", "d")):
        dispatcher.offer(job(handle, site, source="slow"), 0.0)
    assert [a.job.site for a in given(dispatcher, 0.0)] == ["first"]
    assert isinstance(dispatcher.try_acquire("a", 0.0), Token)
    assert dispatcher.wake_at(0.0) == 10.0
    assert [a.job.site for a in given(dispatcher, 10.0)] == ["b"]  # "a" was called first, but is in use
    dispatcher.cancel(3)  # what waits for "c"
    assert [a.job.site for a in given(dispatcher, 20.0)] == ["d"]


def test_a_site_with_two_sources() -> None:
    """Both lanes wait for the same session to come back, and both are called."""
    dispatcher = single()
    for handle, source in enumerate(("x", "y", "x", "y")):
        dispatcher.offer(job(handle, source=source), 0.0)
    [first] = given(dispatcher)
    dispatcher.done(first, Result.ANSWERED, 1.0)
    assert sorted(handles(dispatcher, 1.0)) == [1, 2, 3]


def test_all_sessions_in_use() -> None:
    dispatcher = Dispatcher(connections=5)
    for site in range(8):
        dispatcher.offer(job(1, f"s{site}"), 0.0)
    running = given(dispatcher)
    assert len(running) == 4
    assert dispatcher.wake_at(0.0) is None
    dispatcher.done(running[0], Result.ANSWERED, 1.0)
    assert dispatcher.wake_at(1.0) == 1.0
    assert [a.job.site for a in given(dispatcher, 1.0)] == ["s4"]


# Administration


def test_cancel_gives_back_what_was_not_given_out() -> None:
    dispatcher = single(recipients=2)
    dispatcher.offer(job(1, "a", 5), 0.0)
    dispatcher.offer(job(1, "b", 1), 0.0)
    dispatcher.offer(job(2, "a", 1), 0.0)
    first = dispatcher.next(0.0)
    assert first is not None
    assert (first.job.handle, first.job.site) == (2, "a")  # it passes
    second = dispatcher.next(0.0)
    assert second is not None
    assert second.job.site == "b"
    dispatcher.done(first, Result.ANSWERED, 0.0)
    third = dispatcher.next(0.0)
    assert third is not None
    assert [(site, list(rest)) for site, rest in dispatcher.cancel(1)] == [("a", [2, 3, 4])]
    assert dispatcher.cancel(1) == []
    assert dispatcher.done(third, Result.ANSWERED, 1.0)
    assert dispatcher.done(second, Result.ANSWERED, 1.0)
    assert dispatcher.next(1.0) is None
    assert dispatcher.cancel(77) == []


def test_stats() -> None:
    dispatcher = Dispatcher(lambda site: Limits(recipients=10))
    dispatcher.offer(job(1, "a", 25), 10_000.0)
    dispatcher.offer(job(2, "a", 1, source="other"), 10_000.0)
    dispatcher.next(10_000.0)
    die(dispatcher, "b", 10_000.0)
    a, b = dispatcher.stats()
    assert (a.site, a.jobs, a.recipients, a.in_flight, a.window) == ("a", 2, 16, 1, 5)
    assert (b.site, b.dead_until, b.reason, b.jobs) == ("b", 10_060.0, "no route", 0)


def test_lanes_and_sites_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million destinations, each used once, must not stay in memory."""
    monkeypatch.setattr("mailqueue.schedule.sites.IDLE_SITES", 3)
    dispatcher = Dispatcher(active=100)
    for number in range(500):
        assert dispatcher.offer(job(number, f"s{number}"), 0.0) is None
        assert handles(dispatcher) == [number]
    assert len(dispatcher.stats()) == 3
    dispatcher.offer(job(1000, "late"), 0.0)
    assert dispatcher.cancel(1000) == [("late", range(1))]
    assert handles(dispatcher) == []
    assert not dispatcher._lanes
    assert not dispatcher._entries
