"""A mail server that is measured: what every benchmark knows of Tamis and of its peer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.sink import Sink

DOMAIN = "example.test"
RECIPIENT = f"someone@{DOMAIN}"
SENDER = f"sender@{DOMAIN}"
HOSTNAME = "bench.test"
LAST_LINES = 20
LAST_OCTETS = 8192


@dataclass(frozen=True, slots=True)
class System:
    """A running server that takes mail for RECIPIENT on a port of loopback and delivers it to its sink."""

    name: str
    port: int
    process: int
    """Id of the process above all its others."""
    sink: Sink
    log: Path

    def last_words(self) -> str:
        """The end of its log, for the message of a failure."""
        return last_lines(self.log)


class Failure(Exception):
    """A server did not do what it must; the text says what, and what its log says."""


def last_lines(log: Path) -> str:
    """The last lines of a log, indented; nothing if there is no log yet."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LAST_OCTETS))
        lines = file.read().decode(errors="replace").splitlines()
    return "".join(f"\n    {line}" for line in lines[-LAST_LINES:])
