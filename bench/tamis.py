"""Tamis with its default configuration: SMTP on loopback in, LMTP to the sink out.

What is set is what the job needs: the listener, the domain, the back end, folders and the log file, two
workers, and no end for a kept session, since the load tools do not connect again. Recipients are checked in
a table of a thousand addresses; metrics are served; Received is added and a line a message is logged, as by
default.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.processes import tree
from bench.sink import Destination, Sink
from bench.system import DOMAIN, HOSTNAME, RECIPIENT, Failure, System, last_lines
from bench.workplace import Missing, free_port
from mta.admin.client import NotRunning, Unreachable, ask
from mta.admin.control import Request
from mta.spool.remote import QueueProblem, RemoteQueue

WORKERS = 2
RECIPIENTS = 1000
START_PATIENCE = 30.0
START_POLL = 0.05
STOP_PATIENCE = 10.0

_CONFIGURATION = """\
[identity]
hostname = "{hostname}"

[[listener]]
addresses = ["127.0.0.1:{port}"]
limits = {{ transactions_per_session = 0 }}

[domains."{domain}"]
recipients = "table:{place}/recipients"

[backends.sink]
addresses = ["127.0.0.1:{sink}"]

[process]
workers = {workers}
state_directory = "{place}/state"
runtime_directory = "{place}/run"

[log]
target = "{place}/tamis.log"

[metrics]
listen = "127.0.0.1:{metrics}"
"""


class Tamis:
    """A private instance, prepared and not yet running."""

    def __init__(self, place: Path, sink: Destination, more: str = "") -> None:
        """Write its configuration, with `more` at its end. Raises Missing if the command is not installed."""
        self._command = Path(sys.executable).parent / "tamis"
        if not self._command.exists():
            raise Missing(f"{self._command} is not there: pip install -e . with this Python")
        self._place = place
        self._log = place / "tamis.log"
        self._sink = sink
        self._configuration = place / "tamis.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        for folder in (place, place / "state", place / "run"):
            folder.mkdir()
        others = (f"user{number}@{DOMAIN}" for number in range(1, RECIPIENTS))
        (place / "recipients").write_text("\n".join([*others, RECIPIENT, ""]))
        self._configuration.write_text(
            _CONFIGURATION.format(
                place=place,
                hostname=HOSTNAME,
                domain=DOMAIN,
                port=self.port,
                sink=sink.port,
                metrics=free_port(),
                workers=WORKERS,
            )
            + more
        )

    def start(self) -> None:
        """Start it and return at once; `wait` until it answers."""
        with (self._place / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._command, "serve", "--config", self._configuration],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait(self) -> None:
        """Wait for all workers to serve and to have their queues open, which may come later.

        Raises Failure with what Tamis says when they do not.
        """
        until = time.monotonic() + START_PATIENCE
        while not self._is_ready():
            if not self.alive() or time.monotonic() > until:
                raise Failure(f"tamis does not start: {self._said()}")
            time.sleep(START_POLL)

    def _is_ready(self) -> bool:
        control = str(self._place / "run/control")
        try:
            status = ask(control, Request("status")).result
            if status is None or not status["serving"]:
                return False
            if any(worker["state"] != "ready" for worker in status["workers"]):
                return False
            queue = RemoteQueue(control)
            queue.stats()
            if queue.missing:
                return False
        except (NotRunning, Unreachable, QueueProblem):
            return False
        return True

    def alive(self) -> bool:
        """Whether its supervisor runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop it and wait for its end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise Failure(f"tamis does not stop: {self._said()}") from None

    def system(self) -> System:
        """The running instance, which delivers to a sink."""
        assert isinstance(self._sink, Sink)
        return System("Tamis", self.port, self.process, self._sink, self._log)

    @property
    def process(self) -> int:
        """Id of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def status(self) -> dict[str, Any]:
        """What its control socket says of it. Raises NotRunning and Unreachable."""
        return ask(str(self._place / "run/control"), Request("status")).result or {}

    def flush(self) -> None:
        """Let all that is queued be tried now."""
        self.command("queue", "flush")

    def command(self, *words: str) -> str:
        """Run `tamis` beside it; what it prints. Raises Failure."""
        done = subprocess.run(
            [self._command, *words, "--config", self._configuration],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Failure(f"tamis {' '.join(words)}: {done.stdout}{done.stderr}{self._said()}")
        return done.stdout

    def kill(self) -> None:
        """Kill all its processes at once, as a power cut would."""
        for process in reversed(tree(self.process)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def _said(self) -> str:
        return last_lines(self._place / "output") + last_lines(self._log)


@contextlib.contextmanager
def tamis(place: Path, sink: Sink, more: str = "") -> Iterator[System]:
    """Run a private Tamis that delivers to the sink, with `more` at the end of its configuration."""
    instance = Tamis(place, sink, more)
    instance.start()
    try:
        instance.wait()
        yield instance.system()
    finally:
        instance.stop()
