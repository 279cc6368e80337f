"""How the world is asked: the DNS by the configured resolver, servers by connections, all with one deadline.

The only module of this package beside `probe` that does I/O for several checks.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mta.net.resolver.base import Answer, Resolver, Status

NO_RESOLVER = Answer(Status.FAIL, reason="no resolver is configured ([dns] resolvers)")


@dataclass(slots=True)
class World:
    """What checks may ask of others."""

    resolver: Resolver | None
    seconds: float = 10.0
    """For one connection."""
    dns_seconds: float = 10.0
    """For one question to the DNS."""
    live: bool = False
    """Look at our own ports, too: the server runs, with this configuration."""
    https_port: int = 443
    """Where MTA-STS policies are fetched."""
    now: Callable[[], float] = time.time
    is_ours: Callable[[str], bool] = field(default=lambda address: has_address(address))
    """Tells whether an IP address is one of this machine."""

    @property
    def deadline(self) -> float:
        """Of a connection that begins now, in the running loop's time."""
        return asyncio.get_running_loop().time() + self.seconds

    @property
    def dns_deadline(self) -> float:
        """Of a question that is asked now."""
        return asyncio.get_running_loop().time() + self.dns_seconds

    async def ask(self, name: str, rdtype: str) -> Answer:
        """Ask the DNS; FAIL when there is nobody to ask."""
        if self.resolver is None:
            return NO_RESOLVER
        return await self.resolver.query(name, rdtype, self.dns_deadline)

    async def addresses(self, name: str) -> tuple[Answer, Answer]:
        """A and AAAA of a name."""
        a, aaaa = await asyncio.gather(self.ask(name, "A"), self.ask(name, "AAAA"))
        return a, aaaa


def has_address(address: str) -> bool:
    """Whether an IP address is one of this machine: only those can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
