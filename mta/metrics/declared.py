"""How a metric is declared: its kind, help text and labels; and the histogram."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["counter", "gauge", "histogram"]

PREFIX = "tamis_"

LATENCY_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds: from a local store at ease to the time at which clients give up."""


class Histogram:
    """How often values fell between bounds, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        """Nothing observed; the last count is of values over all bounds."""
        self.counts = [0] * (len(LATENCY_BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count a value."""
        self.counts[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self.sum += seconds


@dataclass(slots=True, frozen=True)
class Metric:
    """The declaration of a metric."""

    name: str
    """The attribute of `Stats`; the exposed name has prefix and suffix."""
    kind: Kind
    help: str
    labels: tuple[str, ...]
    combine: Literal["sum", "min", "max"] = "sum"
    """How the values of several processes become one."""

    @property
    def exposed(self) -> str:
        """The name on the page."""
        return PREFIX + self.name + ("_total" if self.kind == "counter" else "")

    def initial(self) -> Any:
        """The value of a process that has counted nothing."""
        if not self.labels:
            return 0
        factory: type[int] | type[float] | type[Histogram] = int
        if self.kind == "histogram":
            factory = Histogram
        elif self.kind == "gauge":
            factory = float
        return defaultdict(factory)


@dataclass(slots=True, frozen=True)
class Declared:
    """What the annotation of a metric says besides its type."""

    kind: Kind
    help: str
    labels: tuple[str, ...]
    combine: Literal["sum", "min", "max"] = "sum"


def counter(help: str, *labels: str) -> Declared:
    """Something that only grows."""
    return Declared("counter", help, labels)


def gauge(help: str, *labels: str, combine: Literal["sum", "min", "max"] = "sum") -> Declared:
    """Something as it is now."""
    return Declared("gauge", help, labels, combine)


def histogram(help: str, *labels: str) -> Declared:
    """Times."""
    return Declared("histogram", help, labels)
