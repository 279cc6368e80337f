"""Milliseconds from the last octet of a message to the reply: median and 99th percentile.

One session, and 20 at once, each sending one message of 4 kB after the other over a connection that it keeps.
The two servers do not promise the same: at this moment Tamis has delivered the message, Postfix has it in its
queue and delivers it afterwards.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from statistics import median, quantiles

import uvloop

from bench.client import message, open_session
from bench.command import Options, run
from bench.figures import Figure
from bench.load import PATIENCE, SETTLE
from bench.side_by_side import Pair, both
from bench.system import System

SIZE = 4096
SESSIONS = (1, 20)
WARM_UP = 5
"""Messages of each session that are not counted."""
FEWEST = 100
"""Times that a 99th percentile is taken of, at least."""


def measure(options: Options) -> list[Figure]:
    """Measure with each number of sessions."""
    with both(options.folder) as pair:
        return [figure for sessions in SESSIONS for figure in _measure(pair, sessions, options)]


def _measure(pair: Pair, sessions: int, options: Options) -> list[Figure]:
    # All times of all rounds go into one heap: a median of rounds would hide the slow one in a hundred.
    times: list[list[float]] = [[], []]
    for number in range(options.rounds):
        for index in (0, 1) if number % 2 == 0 else (1, 0):
            times[index] += latencies(pair[index], sessions, options.seconds)
    suffix = "" if sessions == 1 else f"_s{sessions}"
    ours, theirs = ([seconds * 1000 for seconds in heap] for heap in times)
    return [
        Figure(f"latency_4k_p50{suffix}", median(ours), "ms", median(theirs)),
        Figure(f"latency_4k_p99{suffix}", percentile99(ours), "ms", percentile99(theirs)),
    ]


def percentile99(times: list[float]) -> float:
    """The time that 99 of 100 do not exceed."""
    return quantiles(times, n=100, method="inclusive")[98]


def latencies(system: System, sessions: int, seconds: float) -> list[float]:
    """Send messages for about `seconds`; return the time of each answer."""
    before = system.sink.count()
    found = uvloop.run(_all_sessions(system.port, sessions, seconds))
    system.sink.wait(before + len(found) + sessions * WARM_UP, PATIENCE)
    time.sleep(SETTLE)
    return found


async def _all_sessions(port: int, sessions: int, seconds: float) -> list[float]:
    one = partial(_one_session, port, seconds, -(-FEWEST // sessions))
    return [each for times in await asyncio.gather(*(one() for _ in range(sessions))) for each in times]


async def _one_session(port: int, seconds: float, fewest: int) -> list[float]:
    content = message(SIZE)
    session = await open_session(port)
    for _ in range(WARM_UP):
        await session.message(content)
    times: list[float] = []
    until = time.monotonic() + seconds
    while len(times) < fewest or time.monotonic() < until:
        times.append(await session.message(content))
    await session.quit()
    return times


if __name__ == "__main__":
    run("latency", measure)
