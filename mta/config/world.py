"""The sections about delivery to any domain: how the world is served, and where connections come from.

Each class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds in the program. Nothing here opens a file or a socket.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated

from msgspec import Meta, Struct

from mta.config.inbound import Count, CountOrNone, Timeout
from mta.config.notation import (
    DomainName,
    Duration,
    Fqdn,
    Inet,
    NameOrEmpty,
    Network,
    Notation,
    Path,
)
from mta.hostport import parse_port

REFUSED = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "::/128", "::1/128", "ff00::/8")


def parse_ip_address(text: str, folder: str) -> str:
    """An IP address in canonical form. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is no IP address") from None


def parse_proxy(text: str, folder: str) -> Inet | None:
    """An IP address with a port, None for "". Raises ValueError."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("the port is missing")
    return Inet(parse_ip_address(host.removeprefix("[").removesuffix("]"), folder), parse_port(port, 1))


IpAddress = Annotated[str, Notation("IP address", '"192.0.2.1" or "2001:db8::1"', parse_ip_address)]
"""An IP address in canonical form."""
ProxyAddress = Annotated[
    Inet | None, Notation("address", '"192.0.2.1:1080" or "[2001:db8::1]:1080"', parse_proxy)
]
"""The address of a proxy, None when not set."""


class Outbound(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Delivery to any domain by its MX records (docs/outbound.md). Needs [dns]."""

    enabled: bool = False
    """Deliver mail of users and trusted networks for other domains to the servers of those domains, unless
    policy.relay gets it. Policy files may route to "mx" and "smtp:[HOST]:PORT" then."""
    helo: Fqdn = ""
    """Our name for EHLO. It must have an address record, and the address must have the name (reverse DNS), or
    many servers refuse our mail. Default: identity.hostname."""
    source: NameOrEmpty = ""
    """Name of the [sources.NAME] that connections come from where no route says another. Default: the system
    chooses the address."""
    ipv6: bool = True
    """Use IPv6 beside IPv4. Off where this machine has none, so that nothing is looked up or tried in
    vain."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 25
    """Port of the servers that MX records name. 25, but for tests."""
    own_names: tuple[DomainName, ...] = ()
    """Names of this server in MX records beside identity.hostname and our names for EHLO: mail that would
    come back to them is refused (554 5.4.6)."""
    own_addresses: tuple[Network, ...] = ()
    """Addresses of this server beside those of the listeners: the public ones where it is behind NAT."""
    refused_networks: tuple[Network, ...] = REFUSED
    """Addresses that are never connected to because the DNS names them: anybody can write 127.0.0.1 into a
    zone. Add your own networks if a user's mail must not reach hosts in there. MTA-STS policies are not
    fetched from them, and TLS reports not posted to them."""
    connect_timeout: Timeout = 8.0
    """For a connection to one address, and for the TLS handshake. After it the next one is tried, so it must
    be well under delivery.deadline."""
    greeting_timeout: Timeout = 60.0
    """For the greeting: many servers greet late on purpose. delivery.deadline comes first if it is
    shorter, here and in what follows."""
    command_timeout: Timeout = 120.0
    """For the reply to a command."""
    data_timeout: Timeout = 300.0
    """For the reply to the end of a message, and for the server to take more of it (RFC 5321 4.5.3.2.6: ten
    minutes)."""
    max_connections: Count = 20
    """Connections to one site (all domains with the same mail servers) at once, for this machine as a whole:
    each worker gets its share."""
    idle_timeout: Annotated[Duration, Meta(ge=0)] = 20.0
    """How long an unused connection is kept for the next message. 0s: not at all."""
    messages_per_connection: CountOrNone = 100
    """Messages over one connection before a new one is opened. 0: no limit."""
    max_recipients: Count = 100
    """Recipients in one transaction: RFC 5321 4.5.3.1.8 asks every server for 100."""
    failure_delay: Duration = 60.0
    """How long a host that failed is tried last, for all domains that it serves. It doubles with each
    further failure, up to eight times."""


class OutboundSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where connections to other servers come from, by a name for outbound.source and for routes of policy
    files."""

    addresses: tuple[IpAddress, ...] = ()
    """Our own addresses; each connection takes one of the right family at random. Families without an
    address are not used. Default: the system chooses."""
    helo: Fqdn = ""
    """Our name for EHLO from these addresses. Default: outbound.helo."""
    rate: CountOrNone = 0
    """Messages a minute that leave by this source to all destinations together, evenly spaced, for this
    machine as a whole: each worker gets its share. What is more waits in the queue. For new addresses, which
    earn their reputation slowly. Needs the queue. 0: no limit."""
    socks5: ProxyAddress = None
    """Address of a SOCKS5 proxy that makes the connections. Names are looked up here, not there."""
    socks5_user: str = ""
    """User for the proxy. Default: no login."""
    socks5_password_file: Path = ""
    """File whose first line is the password. It must not be readable by everybody."""
