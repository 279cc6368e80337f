"""DMARC aggregate reports of a worker: counted as messages are answered, sent once a day.

Imported only where they are wanted: it brings SQLite along.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mailqueue.queue import MailQueue
from mta import config, log
from mta.address import parse_address
from mta.authn.evaluation import Authentication
from mta.net.resolver.base import Resolver
from mta.reporting.daily import DailyReports
from mta.reporting.dmarc import KIND, Submitter, row_of
from mta.reporting.dmarcreporter import DmarcReporter
from mta.reporting.mail import MailSubmitter, reporting_host
from mta.reporting.store import ReportStore
from mta.session import Session
from mta.spool.reports import Route, Sign

CLOSING = 2.0
"""Seconds for writing at the end."""


def report_path(settings: config.Config) -> str:
    """The file of counts for reports, of whatever kind."""
    return f"{settings.process.state_directory}/reports.sqlite3"


class DmarcReports:
    """Counts, and sends what is due."""

    def __init__(
        self,
        settings: config.Config,
        resolver: Resolver,
        queue: Callable[[], MailQueue | None],
        route: Route,
        added: Callable[[str], None],
        sign: Sign | None,
    ) -> None:
        """Nothing runs yet; `queue`, `route`, `added` and `sign` are for the mail that reports are."""
        hostname = settings.identity.hostname
        contact = settings.reports.contact or settings.identity.postmaster
        domain = contact.rpartition("@")[2] or hostname
        self._store = ReportStore(report_path(settings))
        reporter = DmarcReporter(
            Submitter(
                settings.reports.organization or hostname,
                contact,
                domain,
                reporting_host(hostname, settings.queue.node),
            ),
            parse_address(contact),
            resolver,
            MailSubmitter(hostname, queue, route, added, sign, now=time.time),
            public_suffixes=settings.authentication.public_suffix_list,
        )
        self.daily = DailyReports(self._store, {KIND: reporter}, log=log.get("reports"), now=time.time)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Send from here on."""
        self._task = asyncio.get_running_loop().create_task(self.daily.run())
        self._task.add_done_callback(_ended)

    def count(self, session: Session, found: Authentication, refused: bool) -> None:
        """A message was answered."""
        dmarc = found.known_dmarc
        if dmarc is None:
            return
        row = row_of(
            session.client_address,
            found.sender.domain,
            dmarc,
            found.known_spf,
            found.known_dkim or (),
            refused=refused,
        )
        if row is not None:
            self._store.add(KIND, *row)

    async def close(self) -> None:
        """Stop, and write what was counted."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSING)
        self._store.close()


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.get("reports").error("task failed", exc_info=error)
