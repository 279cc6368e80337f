"""What something costs the processor, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

TRIES = 3


def processor_seconds(work: Callable[[], object], enough: float) -> float:
    """The least processor time of some runs; one run where that takes less than `enough`.

    A single run may have the bad luck of a collection of garbage, which takes long in a process with the
    modules of all tests, or of a core that another one shares; what grows with the square of its input has it
    each time.
    """
    best = float("inf")
    for _ in range(TRIES):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
        if best < enough:
            break
    return best
