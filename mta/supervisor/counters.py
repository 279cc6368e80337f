"""What the node has counted, over all processes that ever lived in this supervisor.

A process counts from zero. When it ends, what it had counted is added to what others have left, so that a
sum over the node never goes back at a restart or a reload. Of a process that was killed, what it counted
after its last answer is lost: at most `mta.supervisor.staff.BEAT` seconds.
"""

from __future__ import annotations

from collections.abc import Iterable

from mta import metrics
from mta.supervisor.child import Child


class Counters:
    """The books of the node."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        self._departed: metrics.Snapshot = {}

    def leave(self, child: Child) -> None:
        """Take over what a process that ended had counted; its gauges end with it."""
        if child.metrics:
            self._departed = metrics.merge([self._departed, metrics.retired(child.metrics)])

    def total(self, children: Iterable[Child], own: metrics.Snapshot) -> metrics.Snapshot:
        """Sum over the living, the departed, and the supervisor's `own` counters."""
        living = [child.metrics for child in children if child.metrics]
        return metrics.merge([*living, self._departed, own])
