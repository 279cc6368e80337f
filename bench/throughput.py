"""Messages a second, end to end: smtp-source in, LMTP sink out; a message counts when the sink has it.

4 kB and 100 kB; 1, 20 and 100 sessions; a new connection for each message (`throughput_4k_s20`) and
connections that are kept (`throughput_4k_s20_reused`).
"""

from __future__ import annotations

from functools import partial
from itertools import product

from bench.command import Options, run
from bench.figures import Figure
from bench.load import Load, rate, warm_rate
from bench.rounds import in_turns
from bench.side_by_side import Pair, both
from bench.system import System

SIZES = (4096, 100_000)
SESSIONS = (1, 20, 100)


def measure(options: Options) -> list[Figure]:
    """Measure all kinds of load."""
    loads = [Load(*kind) for kind in product(SIZES, SESSIONS, (False, True))]
    if options.quick:
        loads = [Load(4096, 20), Load(100_000, 20)]
    with both(options.folder) as pair:
        return [_measure(load, pair, options) for load in loads]


def _measure(load: Load, pair: Pair, options: Options) -> Figure:
    def prepare(system: System) -> partial[float]:
        count = load.count(warm_rate(system, load), options.seconds)
        return partial(rate, system, load, count)

    rounds = in_turns(prepare(pair.tamis), prepare(pair.postfix), options.rounds)
    return Figure.of_rounds(f"throughput_{load.name}", rounds, "messages/s", rate=True)


if __name__ == "__main__":
    run("throughput", measure)
