"""Sends the reports of finished days, each once, whichever worker of the machine is first.

    daily = DailyReports(store, {"tlsrpt": reporter, "dmarc": other}, log=log.get("reports"), now=time.time)
    task = loop.create_task(daily.run())

Two tasks in each worker: every `WRITE_INTERVAL` one writes what was counted, every `SEND_INTERVAL` the other
looks for days that are over. A report goes out at a time of the morning that depends on its domain (RFC 8460
section 4.1 wants the load spread), is claimed before it is made, and tried `TRIES` times if the reporter says
that it cannot be sent now. Neither a bug that one report meets nor a slow place that it goes to keeps the
others back, or what is counted meanwhile.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Protocol

from mta.reporting.store import KEEP_DAYS, ReportStore, StoreError, day_of

WRITE_INTERVAL = 60.0
"""Seconds between two writes."""
SEND_INTERVAL = 300.0
"""Seconds between two looks for reports that are due."""
GRACE = 300.0
"""Seconds after midnight (UTC) in which nothing goes out: other workers still write the end of the day."""
AT_ONCE = 8
"""Reports on their way at once: a place that does not answer takes minutes, and anybody can name one."""
SPREAD = 4 * 3600
"""Seconds after that within which reports begin to go out."""
RETRY = 3 * 3600.0
"""Seconds until a report is tried again."""
TRIES = 6
"""Times that a report is tried: a day, as RFC 8460 section 5.5 has it for the delivery."""
DAY = 86400

Row = tuple[dict[str, Any], int]
"""What was counted, and how often."""


class NotNow(Exception):
    """The report cannot be sent at the moment; the text says why."""


class Reporter(Protocol):
    """Makes and sends the reports of one kind."""

    async def report(self, day: str, subject: str, rows: Sequence[Row]) -> str:
        """Send the report of one day; returns what became of it, for the log. Raises NotNow."""


class Log(Protocol):
    """Where it is told."""

    def info(self, event: str, **fields: Any) -> Any:
        """What happened."""

    def error(self, event: str, **fields: Any) -> Any:
        """What the administrator must know."""


class DailyReports:
    """The reports of one worker."""

    def __init__(
        self,
        store: ReportStore,
        reporters: Mapping[str, Reporter],
        *,
        log: Log,
        now: Callable[[], float],
        spread: float = SPREAD,
    ) -> None:
        """`now` is the time of the epoch; `spread` is 0 in tests."""
        self._store = store
        self._reporters = reporters
        self._log = log
        self._now = now
        self._spread = spread
        self._troubled = False
        self._dropped = 0

    async def run(self) -> None:
        """For ever; what is not written yet is written when the task is cancelled."""
        sending = asyncio.get_running_loop().create_task(self._for_ever(lambda: SEND_INTERVAL, self.send_due))
        try:
            await self._for_ever(lambda: WRITE_INTERVAL, self.write)
        finally:
            sending.cancel()
            taken = self._store.take()
            try:
                self._store.write(taken)
            except StoreError as error:
                self._log.error("report counts lost", reason=str(error), rows=len(taken))
            await asyncio.wait([sending])

    async def _for_ever(self, interval: Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(interval())
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - a bug must not end the reports of all days to come
                self._log.error("internal error", exc_info=error)

    async def write(self) -> None:
        """Write what was counted; if that fails it is kept."""
        taken = self._store.take()
        try:
            await asyncio.to_thread(self._store.write, taken)
        except StoreError as error:
            self._store.put_back(taken)
            if not self._troubled:
                self._log.error("report counts not written", reason=str(error))
            self._troubled = True
        else:
            self._troubled = False
        dropped = self._store.dropped
        if dropped > self._dropped:
            self._log.error("report counts dropped", rows=dropped - self._dropped)
            self._dropped = dropped

    async def send_due(self) -> None:
        """Send what is due and claimed by nobody else."""
        now = self._now()
        today = day_of(now)
        try:
            for kind, reporter in self._reporters.items():
                for day in await asyncio.to_thread(self._store.days, kind):
                    if day < today:
                        await self._send_day(kind, reporter, day)
            oldest = (date.fromisoformat(today) - timedelta(days=KEEP_DAYS)).isoformat()
            await asyncio.to_thread(self._store.forget, oldest)
        except* StoreError as errors:
            self._log.error("reports not sent", reason=str(errors.exceptions[0]))

    async def _send_day(self, kind: str, reporter: Reporter, day: str) -> None:
        now = self._now()
        subjects = await asyncio.to_thread(self._store.subjects, kind, day, now=now, most=TRIES)
        due = iter([subject for subject in subjects if now >= _due(day, subject, self._spread)])

        async def send() -> None:
            for subject in due:
                await self._send(kind, reporter, day, subject)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(send())

    async def _send(self, kind: str, reporter: Reporter, day: str, subject: str) -> None:
        store, now = self._store, self._now()
        tries = await asyncio.to_thread(store.claim, kind, day, subject, now=now, most=TRIES)
        if not tries:
            return
        try:
            rows = await asyncio.to_thread(store.rows, kind, day, subject)
            outcome = await reporter.report(day, subject, rows)
        except NotNow as error:
            event = "report postponed" if tries < TRIES else "report given up"
            self._log.info(event, kind=kind, day=day, domain=subject, reason=str(error))
            await asyncio.to_thread(store.postpone, kind, day, subject, now + RETRY)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug that one report meets must not keep back the others
            self._log.error("report failed", kind=kind, day=day, domain=subject, exc_info=error)
            await asyncio.to_thread(store.postpone, kind, day, subject, now + RETRY)
        else:
            self._log.info("report", kind=kind, day=day, domain=subject, outcome=outcome)
            await asyncio.to_thread(store.done, kind, day, subject, outcome)


def _due(day: str, subject: str, spread: float) -> float:
    """When the report of a day goes out."""
    over = (date.fromisoformat(day) - date(1970, 1, 1)).days * DAY + DAY
    share = zlib.crc32(f"{day} {subject}".encode()) / 2**32
    return over + GRACE + share * spread
