"""The section about the DNS: which resolvers are asked, and how long.

The class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds in the program. Nothing here opens a file or a socket.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated

from msgspec import Meta, Struct

from mta.config.notation import Duration, Notation

SYSTEM = "system"
"""The word for the servers of /etc/resolv.conf."""


class DnsServer(Struct, frozen=True):
    """A resolver by its IP address, or (without one) those of the system."""

    host: str
    """IP address in canonical form; "" for the servers of /etc/resolv.conf."""
    port: int = 53

    def __str__(self) -> str:
        if not self.host:
            return SYSTEM
        if self.port == 53:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_dns_server(text: str, folder: str) -> DnsServer:
    """A resolver: "system", or an IP address with or without a port. Raises ValueError."""
    if text == SYSTEM:
        return DnsServer("")
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":"):
            raise ValueError("the bracket is not closed")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError(f"{host!r} is no IP address") from None
    if port and (not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is no port")
    return DnsServer(address, int(port or 53))


DnsServerAddress = Annotated[
    DnsServer,
    Notation("resolver", '"127.0.0.1", "[::1]:5353" or "system"', parse_dns_server),
]
"""A resolver."""


class Dns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asking the DNS: sender authentication, delivery to other domains, start-up checks (docs/dns.md)."""

    resolvers: tuple[DnsServerAddress, ...] = ()
    """Resolvers, the first one first: "127.0.0.1" for one that validates (DNSSEC) on this machine, which is
    what you want; "system" for those of /etc/resolv.conf. Only what comes over loopback can be *secure*.
    Default: none; then nothing is asked of the DNS, and what would need it says that it was not looked
    at."""
    timeout: Annotated[Duration, Meta(ge=0.1, le=60)] = 5.0
    """Time for the answer to one question; without one the result is temporary, never a refusal for good."""
    cache_entries: Annotated[int, Meta(ge=0)] = 10000
    """Answers that a worker remembers, for their TTL and at most five minutes; 0: none."""
