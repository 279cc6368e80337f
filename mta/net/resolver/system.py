"""The DNS servers that the machine is set up with."""

from __future__ import annotations

import contextlib
import ipaddress
from pathlib import Path

from mta.net.resolver.server import Address

RESOLV_CONF = "/etc/resolv.conf"


def system_resolvers(path: str = "") -> list[Address]:
    """The DNS servers of this machine; a resolver on loopback where it says nothing (resolv.conf(5)).

    A server that is no IP address is passed over, as the C library does; the interface of a link-local one is
    a part of it. `path` is another file to read.
    """
    found = []
    try:
        lines = Path(path or RESOLV_CONF).read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                ipaddress.ip_address(words[1])
                found.append(Address(words[1]))
    return found or [Address("127.0.0.1")]
