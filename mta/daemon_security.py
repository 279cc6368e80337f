"""How securely a worker delivers to the world, and its TLS reports: the part of `mta.daemon` about them.

Imported only where mail goes to the world: it brings SQLite and certificates along.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from mailqueue.queue import MailQueue
from mta import config, log
from mta.address import Address, parse_address
from mta.delivery.security.memory import Memory
from mta.delivery.security.provider import OutboundSecurity, Row, SecuritySettings
from mta.delivery.security.requirement import Level
from mta.delivery.security.tlsreporter import TlsReporter
from mta.delivery.security.tlsrpt import KIND, Submitter
from mta.net.limits import Networks
from mta.net.resolver.base import Resolver
from mta.reporting.daily import DailyReports, Reporter
from mta.reporting.mail import MailSubmitter, reporting_host
from mta.reporting.store import ReportStore
from mta.spool.reports import Route, Sign

LEVELS = {"may": Level.MAY, "encrypt": Level.ENCRYPT, "verify": Level.VERIFY}
CLOSING = 2.0
"""Seconds for writing at the end."""


def security_settings(settings: config.Config) -> SecuritySettings:
    """What [security] says."""
    security = settings.security
    return SecuritySettings(
        level=LEVELS[security.level],
        dane=security.dane,
        mta_sts=security.mta_sts,
        capabilities=security.capability_records,
        pin_hold=security.pin_hold,
        pin_release=security.pin_end == "release",
        signed_names=security.signed_names,
        broken_names=security.broken_names,
        ca_file=security.ca_file,
        dns_time=settings.dns.timeout,
        is_refused=Networks(settings.outbound.refused_networks).contain_text,
    )


def memory_path(settings: config.Config) -> str:
    """The file of pins and policies."""
    return f"{settings.process.state_directory}/security.sqlite3"


def report_path(settings: config.Config) -> str:
    """The file of counts for reports, of whatever kind."""
    return f"{settings.process.state_directory}/reports.sqlite3"


class SecurityService:
    """The `OutboundSecurity` of a worker with what runs beside it."""

    def __init__(self, settings: config.Config, resolver: Resolver) -> None:
        """Nothing runs yet. Raises CertificateError for authorities that cannot be used."""
        self._settings = settings
        self._resolver = resolver
        self._log = log.get("security")
        self._store = ReportStore(report_path(settings)) if settings.reports.tls else None
        self._tasks: list[asyncio.Task[None]] = []
        self.security = OutboundSecurity(
            security_settings(settings),
            resolver,
            Memory(memory_path(settings), lambda text: self._log.error("memory not kept", reason=text)),
            self._log,
            now=time.time,
            record=self._record,
        )
        if settings.security.ca_file:
            self.security.contexts.context(verify=True)

    def start(
        self,
        queue: Callable[[], MailQueue | None],
        route: Route,
        added: Callable[[str], None] | None,
        sign: Sign | None,
    ) -> None:
        """Probe the resolver and send reports from here on.

        `added` is told of new messages in the queue; None: there is no queue.
        """
        self._run(self.security.run())
        if self._store is None:
            return
        settings = self._settings
        hostname = settings.identity.hostname
        mail = None
        if added is not None:
            mail = MailSubmitter(hostname, queue, route, added, sign, now=time.time)
        reports = settings.reports
        contact = reports.contact or settings.identity.postmaster
        reporter = TlsReporter(
            Submitter(
                reports.organization or hostname,
                contact,
                _domain(contact, hostname),
                reporting_host(hostname, settings.queue.node),
            ),
            _address(contact, hostname),
            self._resolver,
            partial(self.security.contexts.context, verify=True),
            mail,
            self.security.settings.is_refused,
        )
        reporters: dict[str, Reporter] = {KIND: reporter}
        self._run(DailyReports(self._store, reporters, log=log.get("reports"), now=time.time).run())

    async def close(self) -> None:
        """Stop, and write what is to be kept."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING)
        await self.security.close()
        if self._store is not None:
            self._store.close()

    def _record(self, domain: str, row: Row) -> None:
        if self._store is not None:
            self._store.add(KIND, domain, row)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("task failed", exc_info=error)


def _address(contact: str, hostname: str) -> Address:
    return parse_address(contact if "@" in contact else f"postmaster@{hostname}")


def _domain(contact: str, hostname: str) -> str:
    return contact.rpartition("@")[2] or hostname
