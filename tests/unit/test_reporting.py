"""The store of report counts, shared by workers, and the daily sending."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mta.reporting import daily as daily_module
from mta.reporting import store as module
from mta.reporting.daily import RETRY, TRIES, DailyReports, NotNow, Row
from mta.reporting.store import CLAIM_TIME, ReportStore, StoreError, day_of

NOON = 1_800_000_000.0
DAY = day_of(NOON)
NEXT = NOON + 86400


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    error = info


class Collector:
    def __init__(self, *fails: str) -> None:
        self.sent: list[tuple[str, str, list[Row]]] = []
        self.fails = list(fails)

    async def report(self, day: str, subject: str, rows: Sequence[Row]) -> str:
        if self.fails:
            raise NotNow(self.fails.pop())
        self.sent.append((day, subject, list(rows)))
        return "sent"


def write(store: ReportStore) -> None:
    store.write(store.take())


def test_counts_of_two_workers_meet(tmp_path: Path) -> None:
    one, two = ReportStore(tmp_path / "r"), ReportStore(tmp_path / "r")
    for store in (one, two):
        store.add("tlsrpt", "a.test", {"mx": "m", "type": None}, now=NOON)
        store.add("tlsrpt", "a.test", {"type": None, "mx": "m"}, 2, now=NOON)
        store.add("tlsrpt", "b.test", {"mx": "n"}, now=NOON)
        write(store)
    assert one.rows("tlsrpt", DAY, "a.test") == [({"mx": "m", "type": None}, 6)]
    assert two.subjects("tlsrpt", DAY, now=NEXT, most=1) == ["a.test", "b.test"]
    assert one.days("tlsrpt") == [DAY]
    assert one.days("dmarc") == []
    assert (tmp_path / "r").stat().st_mode & 0o077 == 0


def test_days_are_apart_and_forgotten(tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "r")
    store.add("dmarc", "a.test", {"x": 1}, now=NOON)
    store.add("dmarc", "a.test", {"x": 1}, now=NEXT)
    write(store)
    assert store.days("dmarc") == [DAY, day_of(NEXT)]
    store.forget(day_of(NEXT))
    assert store.days("dmarc") == [day_of(NEXT)]


def test_days_of_a_version_that_did_not_count_them(tmp_path: Path) -> None:
    """Its reports of the day before are still to be sent."""
    store = ReportStore(tmp_path / "r")
    store.add("dmarc", "a.test", {"x": 1}, now=NOON)
    write(store)
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "r")) as old:
        old.execute("DROP TABLE days")
    newer = ReportStore(tmp_path / "r")
    assert newer.days("dmarc") == [DAY]
    newer.add("dmarc", "a.test", {"x": 2}, now=NOON)
    write(newer)
    assert newer.days("dmarc") == [DAY]


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 5)
    monkeypatch.setattr(module, "MAX_ROWS", 7)
    store = ReportStore(tmp_path / "r")
    for round_ in range(3):
        for n in range(6):
            store.add("x", "a.test", {"n": n, "r": round_}, now=NOON)
        assert store.pending == 5
        write(store)
    assert len(store.rows("x", DAY, "a.test")) == 7
    assert store.dropped == 3 + 8


def test_many_domains_of_one_day_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DAY_ROWS", 5)
    one, two = ReportStore(tmp_path / "r"), ReportStore(tmp_path / "r")
    for number, store in enumerate((one, two, one)):
        for n in range(3):
            store.add("x", f"{number}{n}.test", {}, now=NOON)
        store.add("x", "00.test", {}, now=NOON)
        write(store)
    assert len(one.subjects("x", DAY, now=NEXT, most=1)) == 5
    assert one.rows("x", DAY, "00.test") == [({}, 4)], "what is known is still counted"
    assert one.dropped + two.dropped == 4
    one.add("x", "new.test", {}, now=NEXT)
    one.add("y", "new.test", {}, now=NOON)
    write(one)
    assert (one.days("x"), one.days("y")) == ([DAY, day_of(NEXT)], [DAY]), "other days, other kinds"
    one.forget(day_of(NEXT))
    assert (one.days("x"), one.days("y")) == ([day_of(NEXT)], [])


def test_a_claim_is_for_one(tmp_path: Path) -> None:
    one, two = ReportStore(tmp_path / "r"), ReportStore(tmp_path / "r")
    key = "x", DAY, "a.test"
    assert one.claim(*key, now=NEXT, most=2)
    assert not two.claim(*key, now=NEXT + 10, most=2)
    assert two.claim(*key, now=NEXT + CLAIM_TIME + 1, most=2), "the first one died"
    assert not one.claim(*key, now=NEXT + 3 * CLAIM_TIME, most=2), "tried twice"
    two.done(*key, "sent")
    assert one.outcome(*key) == "sent"
    assert not one.claim(*key, now=NEXT + 9 * CLAIM_TIME, most=9)


def test_only_what_can_be_claimed_is_looked_at(tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "r")
    for name in ("done", "claimed", "postponed", "tried", "new"):
        store.add("x", name, {"n": 1}, now=NOON)
        store.add("x", name, {"n": 2}, now=NOON)
    write(store)
    for name in ("done", "claimed", "postponed", "tried"):
        assert store.claim("x", DAY, name, now=NEXT, most=2) == 1
    assert store.claim("x", DAY, "tried", now=NEXT + CLAIM_TIME, most=2) == 2
    store.done("x", DAY, "done", "sent")
    store.postpone("x", DAY, "postponed", NEXT + 60)
    store.postpone("x", DAY, "tried", NEXT)
    assert store.subjects("x", DAY, now=NEXT, most=2) == ["new"]
    assert store.subjects("x", DAY, now=NEXT + 60, most=2) == ["new", "postponed"]
    assert store.subjects("x", DAY, now=NEXT + CLAIM_TIME, most=2) == ["claimed", "new", "postponed"]


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"this is no database" * 100)
    store = ReportStore(tmp_path / "r")
    store.add("x", "a.test", {"n": 1}, now=NOON)
    taken = store.take()
    with pytest.raises(StoreError, match="not a database"):
        store.write(taken)
    store.put_back(taken)
    assert store.pending == 1


def test_counts_survive_trouble(tmp_path: Path) -> None:
    async def run() -> None:
        log = Log()
        blocked = tmp_path / "folder"
        blocked.write_text("a file where a folder should be")
        store = ReportStore(blocked / "r")
        daily = DailyReports(store, {}, log=log, now=lambda: NOON)
        store.add("x", "a.test", {"n": 1}, now=NOON)
        await daily.write()
        await daily.write()
        assert [line[0] for line in log.lines] == ["report counts not written"]
        blocked.unlink()
        await daily.write()
        assert store.rows("x", DAY, "a.test") == [({"n": 1}, 1)]
        await daily.send_due()
        store.close()

    asyncio.run(run())


def test_daily(tmp_path: Path) -> None:
    async def run() -> None:
        now = NOON
        log, collector = Log(), Collector("no route")
        stores = [ReportStore(tmp_path / "r") for _ in range(2)]
        workers = [
            DailyReports(store, {"x": collector}, log=log, now=lambda: now, spread=0) for store in stores
        ]
        for store, worker in zip(stores, workers, strict=True):
            store.add("x", "a.test", {"n": 1}, now=NOON)
            await worker.write()
        for worker in workers:
            await worker.send_due()
        assert not collector.sent, "the day is not over"
        now = NEXT
        for worker in workers:
            await worker.send_due()
        assert not collector.sent
        assert log.lines[-1][0] == "report postponed"
        now += RETRY
        for worker in [*workers, *workers]:
            await worker.send_due()
        assert collector.sent == [(DAY, "a.test", [({"n": 1}, 2)])]
        for store in stores:
            store.close()

    asyncio.run(run())


def test_sending_is_given_up(tmp_path: Path) -> None:
    async def run() -> None:
        now = NOON
        log, collector = Log(), Collector(*["no"] * 99)
        store = ReportStore(tmp_path / "r")
        daily = DailyReports(store, {"x": collector}, log=log, now=lambda: now, spread=0)
        store.add("x", "a.test", {"n": 1}, now=NOON)
        await daily.write()
        now = NEXT
        for _ in range(TRIES + 3):
            await daily.send_due()
            now += RETRY
        assert len(collector.fails) == 99 - TRIES
        events = [event for event, _ in log.lines]
        assert events == ["report postponed"] * (TRIES - 1) + ["report given up"]
        store.close()

    asyncio.run(run())


class Buggy(Collector):
    async def report(self, day: str, subject: str, rows: Sequence[Row]) -> str:
        if subject == "a.test":
            raise KeyError("a bug")
        return await super().report(day, subject, rows)


def test_a_bug_keeps_back_no_other_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daily_module, "WRITE_INTERVAL", 0.001)
    monkeypatch.setattr(daily_module, "SEND_INTERVAL", 0.002)

    async def main() -> None:
        now = NOON
        store, collector, log = ReportStore(tmp_path / "r"), Buggy(), Log()
        for name in ("a.test", "b.test"):
            store.add("x", name, {}, now=NOON)
        daily = DailyReports(store, {"x": collector}, log=log, now=lambda: now, spread=0)
        await daily.write()
        now = NEXT
        task = asyncio.create_task(daily.run())
        async with asyncio.timeout(30):
            while len(collector.sent) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert [event for event, _ in log.lines if event == "report failed"]
            monkeypatch.setattr(store, "days", {}.__getitem__)  # a bug elsewhere
            while "internal error" not in [event for event, _ in log.lines]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            monkeypatch.undo()
            monkeypatch.setattr(daily_module, "WRITE_INTERVAL", 0.001)
            store.add("x", "c.test", {}, now=NOON)
            while store.pending:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [subject for _, subject, _ in collector.sent][:1] == ["b.test"]
        assert not store.claim("x", DAY, "a.test", now=NEXT + RETRY - 60, most=TRIES)
        assert store.claim("x", DAY, "a.test", now=NEXT + RETRY + 60, most=TRIES)

    asyncio.run(main())


def test_dropped_counts_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 2)

    async def run() -> None:
        log, store = Log(), ReportStore(tmp_path / "r")
        daily = DailyReports(store, {}, log=log, now=lambda: NOON)
        for n in range(5):
            store.add("x", "a.test", {"n": n}, now=NOON)
        await daily.write()
        await daily.write()
        assert log.lines == [("report counts dropped", {"rows": 3})]
        store.close()

    asyncio.run(run())


class Slow(Collector):
    async def report(self, day: str, subject: str, rows: Sequence[Row]) -> str:
        if subject == "a.test":
            await asyncio.Event().wait()
        return await super().report(day, subject, rows)


def test_a_slow_place_keeps_back_neither_reports_nor_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daily_module, "WRITE_INTERVAL", 0.001)
    monkeypatch.setattr(daily_module, "SEND_INTERVAL", 0.001)

    async def main() -> None:
        store, collector = ReportStore(tmp_path / "r"), Slow()
        for name in ("a.test", "b.test"):
            store.add("x", name, {}, now=NOON)
        daily = DailyReports(store, {"x": collector}, log=Log(), now=lambda: NEXT, spread=0)
        task = asyncio.create_task(daily.run())
        async with asyncio.timeout(30):
            while not collector.sent:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            store.add("x", "c.test", {}, now=NEXT)
            while store.pending:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [subject for _, subject, _ in collector.sent] == ["b.test"]
        store.close()

    asyncio.run(main())


def test_the_end_of_the_day_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        midnight = (NOON // 86400 + 1) * 86400
        now = midnight + 1
        collector = Collector()
        stores = [ReportStore(tmp_path / "r") for _ in range(2)]
        one, two = (
            DailyReports(store, {"x": collector}, log=Log(), now=lambda: now, spread=0) for store in stores
        )
        stores[0].add("x", "a.test", {}, now=NOON)
        await one.write()
        stores[1].add("x", "a.test", {}, now=midnight - 1)
        await one.send_due()
        assert not collector.sent
        now += daily_module.WRITE_INTERVAL
        await two.write()
        now = midnight + daily_module.GRACE
        await one.send_due()
        assert collector.sent == [(DAY, "a.test", [({}, 2)])]
        for store in stores:
            store.close()

    asyncio.run(run())


def test_what_is_no_text_is_not_counted(tmp_path: Path) -> None:
    store = ReportStore(tmp_path / "r")
    store.add("x", "a\udcff.test", {}, now=NOON)
    store.add("x", "a.test", {"from": "\udcff"}, now=NOON)
    store.add("x", "b.test", {}, now=NOON)
    write(store)
    assert store.subjects("x", DAY, now=NEXT, most=1) == ["b.test"]
    assert store.dropped == 2


def test_what_was_counted_is_written_at_the_end(tmp_path: Path) -> None:
    async def run() -> None:
        store = ReportStore(tmp_path / "r")
        task = asyncio.create_task(DailyReports(store, {}, log=Log(), now=lambda: NOON).run())
        await asyncio.sleep(0)
        store.add("x", "a.test", {"n": 1}, now=NOON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert store.rows("x", DAY, "a.test") == [({"n": 1}, 1)]
        store.close()

    asyncio.run(run())
