"""Where a filter or a policy server listens, in the spellings of Postfix and of Sendmail.

unix:/run/opendkim.sock   local:/run/opendkim.sock   /run/opendkim.sock
inet:127.0.0.1:8891       inet:[::1]:8891            inet:8891 (loopback)
inet:8891@127.0.0.1       inet6:8891@::1             inet6:[::1]:8891
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Endpoint:
    """A path of a Unix socket, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0
    ipv6: bool = False
    """Only IPv6 addresses of the host."""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"inet{'6' if self.ipv6 else ''}:{host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read an endpoint. Raises ValueError with a text for the administrator."""
    kind, colon, rest = text.strip().partition(":")
    if text.strip().startswith("/"):
        kind, colon, rest = "unix", ":", text.strip()
    if kind in ("unix", "local") and colon:
        if not rest or len(rest.encode()) > 107:
            raise ValueError(f"{text!r}: the path of a Unix socket has 1 to 107 octets")
        return Endpoint(path=rest)
    if kind not in ("inet", "inet6") or not rest:
        raise ValueError(f"{text!r}: an endpoint is unix:/path, inet:host:port or inet6:host:port")
    if "@" in rest:
        port, _, host = rest.partition("@")
    else:
        host, colon, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host and "@" not in rest:
        raise ValueError(f"{text!r}: an IPv6 address goes in brackets")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: the port is a number from 1 to 65535")
    loopback = "::1" if kind == "inet6" else "127.0.0.1"
    return Endpoint(host=host or loopback, port=int(port), ipv6=kind == "inet6")
