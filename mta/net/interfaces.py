"""The addresses of this machine, as the kernel lists them: who listens on all of them is reached at each."""

from __future__ import annotations

import ipaddress
import re

_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def own_addresses() -> frozenset[str]:
    """All IPv4 and IPv6 addresses of the machine; without /proc, those of loopback only."""
    found = {"127.0.0.1", "::1"}
    try:
        with open("/proc/net/fib_trie", encoding="ascii") as file:
            found.update(_LOCAL.findall(file.read()))
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            found.update(str(ipaddress.ip_address(bytes.fromhex(line[:32]))) for line in file)
    except (OSError, ValueError):
        return frozenset(found)  # no Linux, or none of the two families
    return frozenset(found)
