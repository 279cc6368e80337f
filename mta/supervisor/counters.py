"""What the node has counted, over all processes that ever lived in this supervisor.

A process counts from zero. When it ends, what it had counted is added to `departed`, so that a sum over the
node never goes back at a restart or a reload. Of a process that was killed, what it counted after its last
answer is lost: at most `mta.supervisor.core.BEAT` seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mta import metrics
from mta.supervisor.child import Child


class Counters:
    """The books of the node."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        self._departed: dict[str, Any] = {}

    def leave(self, child: Child) -> None:
        """Take over what a process that ended had counted; its gauges end with it."""
        if child.metrics:
            departed = [self._departed] if self._departed else []
            self._departed = metrics.merge([*departed, metrics.retired(child.metrics)])

    def total(self, children: Iterable[Child]) -> dict[str, Any]:
        """Sum over the living and the departed."""
        parts = [child.metrics for child in children if child.metrics]
        if self._departed:
            parts.append(self._departed)
        return metrics.merge(parts)
