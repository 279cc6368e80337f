"""From the configuration to the settings of the queue: pure mapping, as `mta.assembly` does for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mailqueue.schedule import Limits, Rate, RetryPolicy
from mailqueue.settings import QueueSettings
from mta import config
from mta.address import parse_address
from mta.delivery.outcome import BACKEND, FILTER, RELAY
from mta.dsn.decide import Options
from mta.dsn.returned import Limits as ReturnLimits
from mta.spool.attempt import AttemptSettings
from mta.spool.hops import limits_of
from mta.spool.keeper import KeepSettings
from mta.spool.reports import ReportSettings
from mta.spool.service import ServiceSettings

LOCAL_SPACING = 0.01
"""Seconds between the starts of two entries in local files, while some clients are not waiting yet."""


def retry(settings: config.Config) -> RetryPolicy:
    """The schedule of messages."""
    queue = settings.queue
    return RetryPolicy(delays=queue.retry, expire=queue.expire, warn=queue.delay_warning or None)


def report_retry(settings: config.Config) -> RetryPolicy:
    """The schedule of reports."""
    queue = settings.queue
    return RetryPolicy(delays=queue.retry, expire=queue.expire_reports, warn=None)


def keep_settings(settings: config.Config, workers: int) -> KeepSettings:
    """When a worker's queue takes a message."""
    queue = settings.queue
    return KeepSettings(
        retry(settings),
        vouched_only=queue.accept == "vouched",
        max_messages=-(-queue.max_messages // workers),
        max_size=-(-queue.max_size // workers),
        max_latency=queue.max_latency,
    )


def report_settings(settings: config.Config) -> ReportSettings:
    """How reports are made."""
    queue = settings.queue
    return ReportSettings(
        settings.identity.hostname,
        parse_address(settings.identity.postmaster),
        Options(
            warn_of_delay=queue.delay_warning > 0,
            double_bounce_to_postmaster=queue.double_bounces == "postmaster",
        ),
        ReturnLimits(message=queue.report_size),
        queue.expire_reports,
    )


def service_settings(
    settings: config.Config,
    workers: int,
    report: Callable[[str, dict[str, object]], None],
    clients: Callable[[], int],
) -> ServiceSettings:
    """The queue of a worker that has so many `clients` now."""
    queue = settings.queue
    local = all(settings.queue_stores[name].url.startswith("file:") for name in queue.stores)
    stream = QueueSettings(
        node=queue.node,
        report=report,
        lifetime=queue.expire,
        heartbeat=min(2.0, queue.takeover / 5),
        takeover=queue.takeover,
        processes=workers,
        deliver_for=queue.takeover * 0.6,
        spill_dir=settings.process.spill_directory or None,
        slow=queue.max_latency,
    )
    return ServiceSettings(
        replace(stream, spacing=LOCAL_SPACING, clients=clients, in_flight=2) if local else stream,
        AttemptSettings(retry(settings), report_retry(settings)),
        hops(settings),
        workers,
        source_rates(settings),
    )


def source_rates(settings: config.Config) -> dict[str, Rate]:
    """The rates of sources that have one."""
    return {
        name: Rate(source.rate, 60.0, burst=max(1, source.rate // 60))
        for name, source in settings.sources.items()
        if source.rate
    }


def hops(settings: config.Config) -> dict[str, Limits]:
    """The limits of each back end and relay."""
    queue = settings.queue
    limits = {
        f"{BACKEND}{name}": limits_of(
            backend.max_connections * len(backend.addresses), queue.concurrency_initial, queue.rate, ours=True
        )
        for name, backend in settings.backends.items()
    }
    world = settings.outbound
    if world.enabled:
        for kind in ("mx", "smtp"):
            limits[kind] = limits_of(world.max_connections, queue.concurrency_initial, queue.rate, ours=False)
    limits |= {
        f"{RELAY}{name}": limits_of(relay.max_connections, queue.concurrency_initial, queue.rate, ours=False)
        for name, relay in settings.relays.items()
    }
    limits |= {
        f"{FILTER}{name}": limits_of(one.max_connections, queue.concurrency_initial, queue.rate, ours=True)
        for name, one in settings.filters.items()
    }
    return limits
