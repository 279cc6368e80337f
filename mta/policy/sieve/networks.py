"""The network that a client's address belongs to: who has one address mostly has its neighbours, too."""

from __future__ import annotations

import ipaddress

PREFIXES = (24, 64)
"""Bits of IPv4 and IPv6 addresses that make a network."""


def network(address: str, prefixes: tuple[int, int] = PREFIXES) -> str:
    """The network of a client, its name as it is when it has no IP address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    bits = prefixes[0] if found.version == 4 else prefixes[1]
    return str(ipaddress.ip_network((found, bits), strict=False))
