"""The queue of a worker, put together: the part of `mta.daemon` about mail that waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from mta import assembly_queue, config, log
from mta.delivery.outcome import Transport
from mta.policy.verdict import Policy
from mta.spool.addressing import Find
from mta.spool.hops import PLAIN, Naming
from mta.spool.journal import QueueJournal
from mta.spool.keeper import Keeper
from mta.spool.reports import Reports, Sign
from mta.spool.service import QueueService
from mta.spool.stores import open_stores


def build_queue(
    settings: config.Config,
    workers: int,
    transports: Mapping[str, Transport],
    policy: Policy,
    is_trusted: Callable[[str], bool],
    journal: QueueJournal,
    clients: Callable[[], int],
    sign: Sign | None = None,
    naming: Naming = PLAIN,
    find: Find | None = None,
) -> tuple[QueueService, Keeper]:
    """The queue, not open yet, and what takes messages for it from transactions; `clients` counts those that
    are connected, `sign` signs reports, `find` tells who gets our own mail."""
    is_final = partial(_is_final, settings)
    reports = Reports(
        assembly_queue.report_settings(settings), policy.route, journal.decided, now=time.time, sign=sign
    )
    service = QueueService(
        assembly_queue.service_settings(settings, workers, journal.store, clients),
        partial(open_stores, settings.queue, settings.queue_stores),
        transports,
        policy.route,
        is_final,
        reports,
        journal,
        policy,
        log.get("queue"),
        now=time.time,
        naming=naming,
        find=find,
    )
    keeper = Keeper(
        assembly_queue.keep_settings(settings, workers),
        lambda: service.queue,
        reports,
        policy.route,
        is_trusted,
        is_final,
        policy,
        added=service.added,
        now=time.time,
        awaited=service.awaited,
        late=service.late,
        kept=journal.kept,
    )
    return service, keeper


def _is_final(settings: config.Config, transport: str) -> bool:
    """Whether a transport leads to a mail store: LMTP is final delivery (RFC 2033)."""
    kind, _, name = transport.partition(":")
    backend = settings.backends.get(name) if kind == "backend" else None
    return backend is not None and backend.protocol == "lmtp"
