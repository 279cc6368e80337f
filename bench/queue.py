"""The queue: how fast mail is accepted while the next hop is down, and how fast a backlog drains afterwards.

`queue_accept_s20`, `queue_accept_s100`: messages a second that are answered 250 while nothing can be
delivered, so that each of them is durable in the queue, of 4 kB, with a new connection for each.
`queue_accept_cpu` is what one costs, with 20 sessions, in microseconds of CPU of all processes.
`queue_drain`: messages a second from the moment at which the next hop is back and the queue is told to go on,
until it has the last one of the backlog.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.load import SETTLE
from bench.peers.postfix import Postfix
from bench.processes import cpu_seconds
from bench.rounds import Round, in_turns
from bench.sink import Nowhere, sink
from bench.system import RECIPIENT, SENDER, Failure
from bench.tamis import Tamis
from bench.workplace import free_port, program

SIZE = 4096
"""Octets of the body of each message."""
SESSIONS = (20, 100)
BACKLOG = 20_000
QUICK_BACKLOG = 2000
DRAINS = 3
"""Rounds of draining at most: each takes a minute."""
PATIENCE = 300.0
"""Seconds for a backlog to be taken or to drain."""
SETTLED = 3.0
"""Seconds for a server to note that what it was trying when the last message came cannot be delivered."""
AGAIN = 5.0
"""Seconds after which the queue is flushed again, as an administrator would: what was being tried at the
first time was not meant by it."""
FEW = 200
"""Messages of the first look at the speed."""


@dataclass(slots=True, frozen=True)
class Server:
    """A server whose next hop is down."""

    name: str
    port: int
    process: int
    flush: Callable[[], None]


def measure(options: Options) -> list[Figure]:
    """Measure accepting, then draining."""
    place: Path
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(options.folder))
        theirs, ours = Nowhere(free_port()), Nowhere(free_port())
        postfix = Postfix(place / "postfix", theirs)
        tamis = Tamis(place / "tamis", ours)
        postfix.start()
        stack.callback(postfix.stop)
        tamis.start()
        stack.callback(tamis.stop)
        tamis.wait()
        servers = [
            Server("Tamis", tamis.port, tamis.process, tamis.flush),
            Server("Postfix", postfix.port, postfix.process, postfix.flush),
        ]
        figures = []
        taken = dict.fromkeys(("Tamis", "Postfix"), 0)
        sessions = SESSIONS[:1] if options.quick else SESSIONS
        for number in sessions:
            accept, cpu = _accept(servers, number, options, taken)
            figures.append(Figure.of_rounds(f"queue_accept_s{number}", accept, "messages/s", rate=True))
            if number == SESSIONS[0]:
                figures.append(Figure.of_rounds("queue_accept_cpu", cpu, "us"))
        backlog = QUICK_BACKLOG if options.quick else BACKLOG

        def drained(server: Server, nowhere: Nowhere) -> float:
            # What was taken above waits in the first round only.
            return drain(server, nowhere.port, taken.pop(server.name, 0), backlog, place)

        drains = in_turns(
            partial(drained, servers[0], ours),
            partial(drained, servers[1], theirs),
            min(options.rounds, DRAINS),
        )
        figures.append(Figure.of_rounds("queue_drain", drains, "messages/s", rate=True))
    return figures


def _accept(
    servers: list[Server], sessions: int, options: Options, taken: dict[str, int]
) -> tuple[list[Round], list[Round]]:
    """Rounds of the rate and of the cost."""
    costs: dict[str, list[float]] = {server.name: [] for server in servers}

    def prepare(server: Server) -> Callable[[], float]:
        rate = FEW / offer(server, FEW, sessions)
        count = max(sessions, round(rate * options.seconds / sessions) * sessions)
        taken[server.name] += FEW

        def once() -> float:
            before = cpu_seconds(server.process)
            seconds = offer(server, count, sessions)
            taken[server.name] += count
            time.sleep(SETTLE)
            costs[server.name].append((cpu_seconds(server.process) - before) / count * 1e6)
            return count / seconds

        return once

    rounds = in_turns(prepare(servers[0]), prepare(servers[1]), options.rounds)
    cpu = [Round(one, other) for one, other in zip(costs["Tamis"], costs["Postfix"], strict=True)]
    return rounds, sorted(cpu, key=lambda one: one.quotient)


def offer(server: Server, count: int, sessions: int) -> float:
    """Send messages; the seconds until the last one was answered 250. Raises Failure for any other answer."""
    command = [
        program("smtp-source", "postfix"),
        *("-m", str(count), "-s", str(sessions), "-l", str(SIZE)),
        *("-f", SENDER, "-t", RECIPIENT, "-M", "client.test"),
        f"127.0.0.1:{server.port}",
    ]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode:
        raise Failure(f"{server.name}: {done.stderr.strip()}")
    return time.perf_counter() - begin


def drain(server: Server, port: int, waiting: int, backlog: int, place: Path) -> float:
    """Fill the queue, which has `waiting`, up to the backlog, and bring the next hop back for a while.

    Returns messages a second until it has all of them. Raises Failure.
    """
    while waiting < backlog:
        count = min(5000, backlog - waiting)
        offer(server, count, SESSIONS[0])
        waiting += count
    time.sleep(SETTLED)
    with sink(f"{server.name}-back", port) as running:
        begin = time.perf_counter()
        while True:
            server.flush()
            try:
                return waiting / (running.wait(waiting, AGAIN) - begin)
            except TimeoutError as problem:
                if time.perf_counter() - begin > PATIENCE:
                    raise Failure(f"{server.name}: {problem}") from None


if __name__ == "__main__":
    run("queue", measure)
