"""Messages a second with one milter: a no-op on a Unix socket, the same program for Tamis and for Postfix.

4 kB, 20 sessions, connections that are kept; each server has a process of the milter of its own.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.load import Load, rate, warm_rate
from bench.rounds import in_turns
from bench.side_by_side import both
from bench.system import Failure, System

LOAD = Load(4096, 20, True)
PATIENCE = 10.0
"""Seconds for the milter to listen."""


def measure(options: Options) -> list[Figure]:
    """Measure both in turns."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(options.folder))
        for name in ("tamis", "postfix"):
            stack.enter_context(_noop(place / name))
        pair = stack.enter_context(
            both(
                options.folder,
                f'[milters.noop]\naddress = "unix:{place}/tamis"\nlisteners = ["*"]\n',
                f"smtpd_milters = unix:{place}/postfix\n",
            )
        )

        def prepare(system: System) -> partial[float]:
            return partial(rate, system, LOAD, LOAD.count(warm_rate(system, LOAD), options.seconds))

        rounds = in_turns(prepare(pair.tamis), prepare(pair.postfix), options.rounds)
    return [Figure.of_rounds("milter_throughput", rounds, "messages/s", rate=True)]


@contextlib.contextmanager
def _noop(path: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "bench.noop_milter", f"unix:{path}"])
    try:
        until = time.monotonic() + PATIENCE
        while not path.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise Failure("the milter does not listen")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    run("milter", measure)
