"""A mail server that is measured: what every benchmark knows of Tamis and of its peer."""

from __future__ import annotations

from dataclasses import dataclass

from bench.sink import Sink

DOMAIN = "example.test"
RECIPIENT = f"someone@{DOMAIN}"
SENDER = f"sender@{DOMAIN}"
HOSTNAME = "bench.test"


@dataclass(frozen=True, slots=True)
class System:
    """A running server that takes mail for RECIPIENT on a port of loopback and delivers it to its sink."""

    name: str
    port: int
    process: int
    """Id of the process above all its others."""
    sink: Sink
