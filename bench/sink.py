"""The end of the way: an LMTP server that counts messages and throws them away (Postfix's smtp-sink).

It writes its counters to a file after each message; the last one says how many have arrived. The file is in
memory, so that what is only there for the measurement does not share the disk with the servers.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from bench.workplace import free_port, program

BACKLOG = "1024"
START_PATIENCE = 5.0
"""Seconds until it must listen."""
POLL = 0.001
"""Seconds between two looks at the counter: the precision of the end of a measurement."""
_TAIL = 200
_COUNTERS = re.compile(rb"sess=\d+ quit=\d+ mesg=(\d+)\r")


class Destination(Protocol):
    """Where a server delivers to."""

    @property
    def port(self) -> int:
        """Of loopback."""


@dataclass(slots=True, frozen=True)
class Nowhere:
    """A port on which nobody listens."""

    port: int


class Sink:
    """A running smtp-sink."""

    def __init__(self, port: int, counters: int) -> None:
        """Use `sink`; `counters` is the open file that its counters are written to."""
        self.port = port
        self._file = counters

    def count(self) -> int:
        """Messages that have arrived so far."""
        size = os.fstat(self._file).st_size
        return last_count(os.pread(self._file, _TAIL, max(0, size - _TAIL)))

    def wait(self, count: int, seconds: float) -> float:
        """Wait for the count to be reached; return the time of `time.perf_counter` then.

        Raises TimeoutError.
        """
        until = time.monotonic() + seconds
        while (found := self.count()) < count:
            if time.monotonic() > until:
                raise TimeoutError(f"{count - found} messages did not arrive within {seconds:g} s")
            time.sleep(POLL)
        return time.perf_counter()

    def close(self) -> None:
        """Forget the counters."""
        os.close(self._file)


def last_count(text: bytes) -> int:
    """The last counter in what smtp-sink has written; 0 if there is none yet.

    >>> last_count(b"sess=1 quit=0 mesg=7\\rsess=1 quit=0 mesg=8\\rsess=1 quit=0 me")
    8
    """
    found = _COUNTERS.findall(text)
    return int(found[-1]) if found else 0


@contextlib.contextmanager
def sink(name: str, port: int = 0) -> Iterator[Sink]:
    """Run a sink on a port of loopback, a free one by default."""
    port = port or free_port()
    counters = os.memfd_create(f"{name}.count")
    process = subprocess.Popen(
        [program("smtp-sink", "postfix"), "-L", "-c", "-u", "nobody", f"127.0.0.1:{port}", BACKLOG],
        stdout=counters,
        stdin=subprocess.DEVNULL,
    )
    running = Sink(port, counters)
    try:
        _wait_for_port(port, process)
        yield running
    finally:
        running.close()
        process.kill()
        process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("smtp-sink does not start") from None
            time.sleep(POLL)
