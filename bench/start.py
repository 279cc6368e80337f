"""Seconds from the start of the server to its first accepted message.

The clock starts with the command (`tamis serve`, `postfix start`) and stops when a client, which tries to
connect all the time, has the 250 for its message. Folders are prepared and files are in the cache.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from bench import workplace
from bench.client import first_acceptance
from bench.command import Options, run
from bench.figures import Figure
from bench.peers.postfix import Postfix
from bench.rounds import in_turns
from bench.sink import sink
from bench.tamis import Tamis

PATIENCE = 20.0
"""Seconds for the first message."""


class Startable(Protocol):
    """A prepared server."""

    port: int

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """Stop it."""


def measure(options: Options) -> list[Figure]:
    """Start each server several times."""
    with prepared(options.folder) as (ours, theirs):
        start_time(ours)  # the first start finds nothing in the cache
        start_time(theirs)
        rounds = in_turns(partial(start_time, ours), partial(start_time, theirs), options.rounds)
    return [Figure.of_rounds("start_time", rounds, "s")]


@contextlib.contextmanager
def prepared(parent: Path) -> Iterator[tuple[Startable, Startable]]:
    """Prepare both servers with their sinks."""
    with workplace.folder(parent) as place, sink("ours") as ours, sink("theirs") as theirs:
        peer = Postfix(place / "postfix", theirs)
        yield Tamis(place / "tamis", ours), peer


def start_time(server: Startable) -> float:
    """Start it, send the first message, stop it; return the seconds to the acceptance."""
    begin = time.perf_counter()
    server.start()
    try:
        return first_acceptance(server.port, PATIENCE) - begin
    finally:
        server.stop()


if __name__ == "__main__":
    run("start", measure)
