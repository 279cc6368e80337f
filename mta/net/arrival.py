"""A client that has arrived at a listener: who it is, where it came in, and its place in the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from mta.net.limits import Client, Limits
    from mta.net.proxyproto import ProxyHeader
    from mta.session import TlsInfo


class Arrival(Struct):
    """One connection that was let in.

    Whoever gets it owes one `leave` when the connection is lost.
    """

    listener: str
    """The name of the listener."""
    client_address: str
    """Canonical text, IPv4-mapped addresses as IPv4; "unix" for a Unix socket."""
    client_port: int = 0
    server_address: str = ""
    """Canonical text; the path for a Unix socket."""
    server_port: int = 0
    proxied: bool = False
    """The addresses come from a PROXY header."""
    proxy: ProxyHeader | None = None
    """The PROXY header, whether or not it names a client."""
    implicit_tls: bool = False
    """The transport has done its TLS handshake already."""
    tls: TlsInfo | None = None
    """TLS that ended at the proxy, where the listener believes what it tells."""
    client: Client | None = None
    """The client's counters, None when the listener has no limits."""
    limits: Limits | None = None

    def leave(self) -> None:
        """The connection is over: give its place back. Calling it again does nothing."""
        limits, client = self.limits, self.client
        if limits is not None and client is not None:
            self.limits = None
            limits.leave(client)


def canonical_address(host: str) -> str:
    """An address as the system prints it, without IPv4 mapping (RFC 4291 2.5.5.2) and without zone."""
    if ":" in host:
        if host.startswith("::ffff:") and "." in host:
            return host[7:]
        return host.partition("%")[0]
    return host
