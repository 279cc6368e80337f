"""Load from Postfix's smtp-source, and the time until all of it has arrived."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

from bench.system import RECIPIENT, SENDER, Failure, System
from bench.workplace import program

PATIENCE = 60.0
"""Seconds for one load to be sent and to arrive; a server that needs more is broken."""
SETTLE = 0.15
"""Seconds after a load for what a server does when a message has left it (logs, files to delete)."""
WARM_UP = 0.3
"""Seconds of a load that are not counted."""
_FIRST = 20
"""Messages of the first look at the speed, at least one for each session."""


@dataclass(frozen=True, slots=True)
class Load:
    """A kind of load."""

    size: int
    """Octets of the body of each message."""
    sessions: int
    """Sessions at once."""
    reuse: bool = False
    """Keep the connection for the next message; otherwise each message has a connection of its own."""

    @property
    def name(self) -> str:
        """The name in figures, such as 4k_s20 or 100k_s1_reused."""
        size = f"{self.size // 1000}k" if self.size % 1000 == 0 else f"{self.size // 1024}k"
        return f"{size}_s{self.sessions}" + ("_reused" if self.reuse else "")

    def count(self, rate: float, seconds: float) -> int:
        """Messages that take about `seconds` at `rate` messages a second; whole rounds of the sessions."""
        return max(1, round(rate * seconds / self.sessions)) * self.sessions


def send(system: System, load: Load, count: int) -> float:
    """Send messages and return the seconds until the sink had the last one.

    Raises Failure if smtp-source meets a refusal or messages do not arrive.
    """
    before = system.sink.count()
    command = [
        program("smtp-source", "postfix"),
        *("-m", str(count), "-s", str(load.sessions), "-l", str(load.size)),
        *("-f", SENDER, "-t", RECIPIENT, "-M", "client.test"),
        *(["-d"] if load.reuse else []),
        f"127.0.0.1:{system.port}",
    ]
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failure(f"{system.name}: no end after {PATIENCE:g} s{system.last_words()}") from None
    if done.returncode:
        raise Failure(f"{system.name}: {done.stderr.strip()}{system.last_words()}")
    try:
        return system.sink.wait(before + count, PATIENCE) - begin
    except TimeoutError as problem:
        raise Failure(f"{system.name}: {problem}{system.last_words()}") from None


def rate(system: System, load: Load, count: int) -> float:
    """Send messages and return how many arrived a second; leave the server time to settle."""
    seconds = send(system, load, count)
    time.sleep(SETTLE)
    return count / seconds


def warm_rate(system: System, load: Load) -> float:
    """A rough rate, measured once all processes and connections for this load are there."""
    cold = rate(system, load, max(_FIRST, load.sessions))
    return rate(system, load, load.count(cold, WARM_UP))
