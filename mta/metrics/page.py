"""The metrics page, in Prometheus's text format, written by the official client library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from mta.metrics.declared import LATENCY_BUCKETS, PREFIX, Metric
from mta.metrics.stats import METRICS, Snapshot


def exposition(snapshot: Snapshot) -> bytes:
    """The page for Prometheus (text format 0.0.4). Series are in a stable order."""
    registry = CollectorRegistry()
    registry.register(_Collector(snapshot))
    return generate_latest(registry)


class _Collector:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Family]:
        return ()

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            series = sorted(self._snapshot.get(metric.name, {}).items())
            name = PREFIX + metric.name
            if metric.kind == "histogram":
                histogram = HistogramMetricFamily(name, metric.help, labels=metric.labels)
                for key, found in series:
                    histogram.add_metric(_labels(metric, key), _cumulated(found["counts"]), found["sum"])
                yield histogram
                continue
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            simple = family(name, metric.help, labels=metric.labels)
            for key, found in series:
                simple.add_metric(_labels(metric, key), found)
            yield simple


def _labels(metric: Metric, key: str) -> list[str]:
    values = key.split("\t") if metric.labels else []
    return (values + [""] * len(metric.labels))[: len(metric.labels)]


def _cumulated(counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets = []
    for bound, count in zip([*map(str, LATENCY_BUCKETS), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
