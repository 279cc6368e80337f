"""CPU microseconds a message, user and system, of all processes of each server together.

The load tools are not counted. `cpu_4k` and `cpu_100k` are for 20 sessions with a new connection for each
message; `cpu_4k_reused` keeps connections. `cpu_growth` is how many times more Tamis needs for 100 kB.
"""

from __future__ import annotations

from functools import partial

from bench.command import Options, run
from bench.figures import Figure
from bench.load import Load, rate, warm_rate
from bench.processes import cpu_seconds
from bench.rounds import in_turns
from bench.side_by_side import Pair, both
from bench.system import System

SESSIONS = 20
LOADS = {
    "cpu_4k": Load(4096, SESSIONS),
    "cpu_100k": Load(100_000, SESSIONS),
    "cpu_4k_reused": Load(4096, SESSIONS, reuse=True),
}
QUICK = ("cpu_4k", "cpu_100k")


def measure(options: Options) -> list[Figure]:
    """Measure all loads."""
    with both(options.folder) as pair:
        figures = [
            _measure(name, load, pair, options)
            for name, load in LOADS.items()
            if not options.quick or name in QUICK
        ]
    small, large = figures[0], figures[1]
    assert small.peer is not None
    assert large.peer is not None
    figures.append(Figure("cpu_growth", large.value / small.value, "times", large.peer / small.peer))
    return figures


def _measure(name: str, load: Load, pair: Pair, options: Options) -> Figure:
    def prepare(system: System) -> partial[float]:
        count = load.count(warm_rate(system, load), options.seconds)
        return partial(cost, system, load, count)

    rounds = in_turns(prepare(pair.tamis), prepare(pair.postfix), options.rounds)
    return Figure.of_rounds(name, rounds, "us")


def cost(system: System, load: Load, count: int) -> float:
    """Send messages and return the CPU microseconds that the server used for each."""
    before = cpu_seconds(system.process)
    rate(system, load, count)
    return (cpu_seconds(system.process) - before) / count * 1e6


if __name__ == "__main__":
    run("cpu", measure)
