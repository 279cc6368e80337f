"""Counters, gauges and histograms: `stats` declares, counts and adds up, `page` writes for Prometheus."""

from __future__ import annotations

from mta.metrics.declared import Histogram, Metric
from mta.metrics.stats import (
    METRICS,
    Snapshot,
    Stats,
    merge,
    retired,
    store_snapshot,
    value,
)

__all__ = [
    "METRICS",
    "Histogram",
    "Metric",
    "Snapshot",
    "Stats",
    "exposition",
    "merge",
    "retired",
    "store_snapshot",
    "value",
]


def exposition(snapshot: Snapshot) -> bytes:
    """The page for Prometheus (text format 0.0.4). Series are in a stable order."""
    # Here, because only the supervisor makes the page and the library is slow to import.
    from mta.metrics import page

    return page.exposition(snapshot)
