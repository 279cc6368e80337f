"""Tamis and Postfix running beside each other, each with a sink of its own; or Tamis alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench import workplace
from bench.peers.postfix import postfix
from bench.processes import cpu_seconds
from bench.sink import sink
from bench.system import System
from bench.tamis import tamis

IDLE_TIME = 0.2
"""Seconds over which the use of CPU is looked at."""
IDLE_SHARE = 0.02
"""Part of a core that an idle server uses at most."""
IDLE_PATIENCE = 5.0


class Pair(NamedTuple):
    """Both servers."""

    tamis: System
    postfix: System


@contextlib.contextmanager
def both(parent: Path, ours_more: str = "", theirs_more: str = "") -> Iterator[Pair]:
    """Run both in a new folder under `parent`. The peer comes first: without it nothing is measured."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(parent))
        theirs = stack.enter_context(sink("postfix"))
        ours = stack.enter_context(sink("tamis"))
        peer = stack.enter_context(postfix(place / "postfix", theirs, theirs_more))
        pair = Pair(stack.enter_context(tamis(place / "tamis", ours, ours_more)), peer)
        for system in pair:
            wait_until_idle(system)
        yield pair


@contextlib.contextmanager
def alone(parent: Path) -> Iterator[System]:
    """Run Tamis in a new folder under `parent`, where there is nothing to compare."""
    with workplace.folder(parent) as place, sink("tamis") as ours, tamis(place / "tamis", ours) as system:
        wait_until_idle(system)
        yield system


def wait_until_idle(system: System) -> None:
    """Wait for what a server still does when its start is over; no longer than `IDLE_PATIENCE`."""
    until = time.monotonic() + IDLE_PATIENCE
    used = cpu_seconds(system.process)
    while time.monotonic() < until:
        time.sleep(IDLE_TIME)
        before, used = used, cpu_seconds(system.process)
        if used - before < IDLE_TIME * IDLE_SHARE:
            return
