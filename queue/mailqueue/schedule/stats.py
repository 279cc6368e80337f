"""A site's state for `tamis queue stats`: counts, window, and ages in classes as qshape has them."""

from __future__ import annotations

from collections.abc import Iterable

from mailqueue.schedule.ready import ReadyQueue
from mailqueue.schedule.sites import Site
from mailqueue.schedule.values import AGE_EDGES, SiteStats, age_class


def site_stats(name: str, queues: Iterable[ReadyQueue], site: Site, now: float, *, held: bool) -> SiteStats:
    """The numbers of one site; walks over its waiting jobs."""
    ages = [0] * (len(AGE_EDGES) + 1)
    jobs = recipients = 0
    for queue in queues:
        jobs += queue.jobs
        recipients += queue.recipients
        for entry in queue.entries():
            ages[age_class(now - entry.job.created)] += 1
    return SiteStats(
        site=name,
        jobs=jobs,
        recipients=recipients,
        in_flight=site.in_flight,
        window=site.window.size,
        limit=site.limits.concurrency,
        dead_until=site.dead_until,
        reason=site.reason,
        held=held,
        ages=tuple(ages),
    )
