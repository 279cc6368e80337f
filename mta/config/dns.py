"""The section about the DNS: which resolvers are asked, and how long.

The class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds in the program. Nothing here opens a file or a socket.
"""

from __future__ import annotations

import base64
import ipaddress
from typing import Annotated

from msgspec import Meta, Struct

from mta.config.notation import Duration, Notation
from mta.hostport import host_port, parse_port

TLS = "tls://"
_PORTS = {False: 53, True: 853}
SYSTEM = "system"
"""The word for the servers of /etc/resolv.conf."""


class DnsServer(Struct, frozen=True):
    """A resolver by its IP address, or (without one) those of the system."""

    host: str
    """IP address in canonical form; "" for the servers of /etc/resolv.conf."""
    port: int = 53
    tls: bool = False
    """Asked over TLS; it must have one of `Dns.tls_keys`."""

    def __str__(self) -> str:
        if not self.host:
            return SYSTEM
        if self.tls:
            return TLS + host_port(self.host, self.port)
        if self.port == 53:
            return self.host
        return host_port(self.host, self.port)


def parse_dns_server(text: str, folder: str) -> DnsServer:
    """A resolver: "system", or an IP address with or without a port. Raises ValueError."""
    if text == SYSTEM:
        return DnsServer("")
    tls = text.startswith(TLS)
    text = text.removeprefix(TLS)
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
    return DnsServer(address, parse_port(port, 1) if port else _PORTS[tls], tls)


def parse_key(text: str, folder: str) -> str:
    """The SHA-256 of a public key in base64. Raises ValueError."""
    try:
        octets = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("it is no base64") from None
    if len(octets) != 32:
        raise ValueError(f"it has {len(octets)} octets, not 32")
    return base64.b64encode(octets).decode()


KeyDigest = Annotated[
    str, Notation("key", "the SHA-256 of a public key in base64 (44 characters)", parse_key)
]
"""The SHA-256 of a public key in base64."""

DnsServerAddress = Annotated[
    DnsServer,
    Notation("resolver", '"127.0.0.1", "[::1]:5353", "tls://192.0.2.1:853" or "system"', parse_dns_server),
]
"""A resolver."""


class Dns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Asking the DNS: sender authentication, delivery to other domains, start-up checks (docs/dns.md)."""

    resolvers: tuple[DnsServerAddress, ...] = ()
    """Resolvers, the first one first: "127.0.0.1" for one that validates (DNSSEC) on this machine, which is
    what you want; "system" for those of /etc/resolv.conf. Only what comes over loopback can be *secure*, or
    over TLS ("tls://192.0.2.1") from a server with one of tls_keys. Default: none; then nothing is asked of
    the DNS, and what would need it says that it was not looked at."""
    tls_keys: tuple[KeyDigest, ...] = ()
    """Keys of resolvers that are asked over TLS: the SHA-256 of the public key in base64 (RFC 7858 4.2); a
    server with another key is not asked. `openssl x509 -in cert.pem -pubkey -noout | openssl pkey -pubin
    -outform der | openssl dgst -sha256 -binary | base64` prints it."""
    timeout: Annotated[Duration, Meta(ge=0.1, le=60)] = 5.0
    """Time for the answer to one question; without one the result is temporary, never a refusal for good."""
    cache_entries: Annotated[int, Meta(ge=0)] = 10000
    """Answers that a worker remembers, for their TTL and at most five minutes; 0: none."""
