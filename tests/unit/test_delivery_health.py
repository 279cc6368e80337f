"""Choice among servers, back-off and probing, with the clock as a number."""

from __future__ import annotations

from mta.delivery.health import MAX_DELAY_FACTOR, SUSPECT, Health, candidates
from mta.reply import Reply

DOWN = Reply(451, "4.4.1", "down")


def broken(times: int, now: float = 0.0, delay: float = 10.0) -> Health:
    health = Health()
    for _ in range(times):
        health.failed(now, DOWN, delay)
    return health


def order(servers: list[Health], now: float) -> list[int]:
    return list(candidates(servers, now))


def test_ordered() -> None:
    assert order([Health(), Health(), Health()], 0) == [0, 1, 2]


def test_a_failed_one_is_passed_over_until_it_is_due() -> None:
    servers = [broken(1), Health()]
    assert order(servers, 5.0) == [1, 0]
    assert order(servers, 10.0) == [0, 1]
    servers[0].worked()
    assert order(servers, 0.0) == [0, 1]


def test_the_delay_doubles_to_its_end() -> None:
    health = Health()
    delays = []
    for _ in range(8):
        health.failed(100.0, DOWN, 10.0)
        delays.append(health.retry_at - 100.0)
    assert delays == [10, 20, 40, 80, 80, 80, 80, 80]
    assert MAX_DELAY_FACTOR == 8
    for _ in range(2000):
        health.failed(0.0, DOWN, 1.0)
    assert health.retry_at == 8.0


def test_all_failed_are_tried_all_the_same_the_earliest_first() -> None:
    servers = [broken(2), broken(1), broken(3)]
    assert order(servers, 1.0) == [1, 0, 2]
    assert order([broken(1)], 1.0) == [0]


def test_under_suspicion_one_delivery_probes() -> None:
    suspect = broken(SUSPECT)
    assert order([suspect], 1.0) == [0]
    suspect.probing = True
    assert order([suspect], 1.0) == []
    assert suspect.last is DOWN
    fresh = broken(SUSPECT - 1)
    fresh.probing = True
    assert order([fresh], 1.0) == [0]
    assert order([suspect, fresh], 1.0) == [1]
    assert order([suspect, Health()], 1e9) == [1]


def test_what_fails_meanwhile_is_known() -> None:
    servers = [Health(), Health(), Health()]
    tried = []
    for index in candidates(servers, 0.0):
        tried.append(index)
        servers[1].failed(0.0, DOWN, 10.0)
    assert tried == [0, 2, 1]
