"""The command line that all benchmarks share."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mta
from bench.figures import Figure, comparison
from bench.system import Failure
from bench.workplace import DEFAULT_PARENT, Missing

ALL = "all"
ROUNDS = 5
SECONDS = 0.6
QUICK_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Options:
    """How thoroughly to measure."""

    quick: bool
    """A rough look in some seconds: fewer loads, fewer and shorter rounds."""
    rounds: int
    """Measurements of each server, in turns; the round in the middle counts."""
    seconds: float
    """About how long one load takes."""
    folder: Path
    """Where queues, spools and logs are put."""


Measure = Callable[[Options], list[Figure]]


def parse(arguments: Sequence[str], names: Sequence[str] = ()) -> tuple[list[str], Options]:
    """Read a command line; `names` are the benchmarks that may be chosen."""
    parser = argparse.ArgumentParser(description="Measure Tamis and Postfix beside each other.")
    if names:
        parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {' '.join(names)} ({ALL})")
    parser.add_argument("--quick", action="store_true", help="a rough look, in under 20 s")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"measurements of each server ({ROUNDS})")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"length of one load ({SECONDS:g})")
    parser.add_argument(
        "--folder",
        type=Path,
        default=DEFAULT_PARENT,
        help=f"where queues and logs are put ({DEFAULT_PARENT})",
    )
    found = parser.parse_args(arguments)
    chosen = [name for name in getattr(found, "names", ()) if name != ALL] or list(names)
    for name in chosen:
        if name not in names:
            parser.error(f"there is no benchmark {name!r}; there are: {' '.join(names)}")
    return chosen, Options(
        quick=found.quick,
        rounds=found.rounds or (1 if found.quick else ROUNDS),
        seconds=found.seconds or (QUICK_SECONDS if found.quick else SECONDS),
        folder=found.folder,
    )


def run(name: str, measure: Measure, arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark as a program."""
    _, options = parse(sys.argv[1:] if arguments is None else arguments)
    run_all({name: measure}, options)


def run_all(benchmarks: dict[str, Measure], options: Options) -> None:
    """Run benchmarks one after the other and print what they find. Exits with 1 if one cannot run."""
    # Servers are stopped and folders removed on the way out, whoever ends us.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    figures: list[Figure] = []
    print(machine(), flush=True)
    for name, measure in benchmarks.items():
        begin = time.monotonic()
        try:
            found = measure(options)
        except (Missing, Failure) as problem:
            print(f"{name}: {problem}", file=sys.stderr)
            sys.exit(1)
        peer = getattr(measure, "peer", "Postfix")
        print(f"\n{name} ({time.monotonic() - begin:.0f} s)\n\n{comparison(found, peer)}\n", flush=True)
        figures += found
    for figure in figures:
        print(figure.line())


def machine() -> str:
    """Describe this machine in one line."""
    first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    lines = (line.partition(":") for line in first.splitlines())
    facts = {name.strip(): value.strip() for name, _, value in lines}
    model = facts.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in facts:  # virtual machines often hide the rest of the name
        model += f" (family {facts['cpu family']}, model {facts.get('model')})"
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{cores} cores of {model}, Linux {platform.release()}, "
        f"Python {platform.python_version()} ({os.path.realpath(sys.executable)}), "
        f"Tamis {mta.__version__}; load of the machine before: {load:.1f}"
    )
