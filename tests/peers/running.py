"""A real `tamis serve` on loopback, with the toy daemon, for tests of processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.peers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds that a test waits for something that takes a fraction of one on an idle machine."""

T = TypeVar("T")


def until(probe: Callable[[], T | None], what: str | Callable[[], str], seconds: float = PATIENCE) -> T:
    """Return what `probe` gives as soon as it is true; `what` says what did not happen, at the end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")


class Client:
    """A connection to a toy daemon."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.file = self.sock.makefile("rwb", buffering=0)
        try:
            _, pid, slot, self.banner = self.line().split()
        except (OSError, ValueError):  # its worker has died before the greeting
            self.close()
            raise
        self.pid, self.slot = int(pid), int(slot)

    def line(self) -> str:
        return self.file.readline().decode().strip()

    def ask(self, command: str) -> str:
        self.file.write(command.encode() + b"\n")
        return self.line()

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Tamis:
    """One server: its configuration, its supervisor, and the command line beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "tamis.toml"
        self.log_path = directory / "log"
        self.control = directory / "run" / "control"
        self.port = free_port()
        self.options: dict[str, str] = {"daemon": "tests.peers.toy_daemon:ToyDaemon"}
        self.environment: dict[str, str] = {}
        self.interpreter = [sys.executable]
        self.process: subprocess.Popen[bytes] | None = None
        (directory / "state").mkdir()
        (directory / "run").mkdir()

    def configure(
        self,
        banner: str = "toy",
        workers: int = 2,
        addresses: list[str] | None = None,
        drain: str = "5s",
        process: str = "",
        rest: str = "",
    ) -> None:
        """Write the configuration."""
        where = addresses or [f"127.0.0.1:{self.port}"]
        self.path.write_text(
            f"""
[identity]
hostname = "mail.example.org"
[[listener]]
protocol = "smtp"
addresses = {json.dumps(where)}
banner = "{banner}"
[process]
workers = {workers}
state_directory = "{self.directory}/state"
runtime_directory = "{self.directory}/run"
spill_directory = "{self.directory}"
drain_timeout = "{drain}"
restart_delay_max = "2s"
{process}
{rest}
"""
        )

    def start(self, wait: bool = True, **popen: Any) -> None:
        """Run `tamis serve`, and wait until it takes connections."""
        options = [word for name, value in self.options.items() for word in (f"--{name}", value)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.interpreter, "-m", "mta.cli", "serve", "-c", str(self.path), *options],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                }
                | self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                **popen,
            )
        if wait:
            until(self._serving, lambda: f"start; log: {self.log()}")

    def _serving(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.returncode}: {self.log()}")
        return self.control.exists() and self.status().get("serving", False)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another `tamis` command with this configuration."""
        return subprocess.run(
            [sys.executable, "-m", "mta.cli", arguments[0], "-c", str(self.path), *arguments[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Speak on the control socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.control))
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as file:
                answer: dict[str, Any] = json.loads(file.readline())
        return answer

    def status(self) -> dict[str, Any]:
        """Return the facts of `tamis status`."""
        try:
            result: dict[str, Any] = self.request({"command": "status"})["result"]
        except (OSError, json.JSONDecodeError):
            return {}
        return result

    def workers(self, state: str = "ready") -> dict[str, int]:
        """Return the process ids of workers in a state, by name."""
        return {w["name"]: w["pid"] for w in self.status().get("workers", []) if w["state"] == state}

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def client(self) -> Client:
        return Client(self.port)

    def end(self) -> None:
        """Make sure that nothing is left running."""
        if self.process is None:
            return
        pids = list(children_of(self.process.pid))
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def state_of(pid: int) -> str:
    """The letter of /proc for what a process does: R runs, S waits, T stands still, Z is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "Z"


def alive(pid: int) -> bool:
    """True while a process runs (a zombie does not)."""
    return state_of(pid) != "Z"


@contextlib.contextmanager
def tamis(directory: Path) -> Iterator[Tamis]:
    """A server that ends with the test."""
    server = Tamis(directory)
    try:
        yield server
    finally:
        server.end()
