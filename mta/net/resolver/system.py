"""The DNS servers that the machine is set up with."""

from __future__ import annotations

from pathlib import Path

from mta.net.resolver.server import Address

RESOLV_CONF = "/etc/resolv.conf"


def system_resolvers(path: str = "") -> list[Address]:
    """The DNS servers of this machine; a resolver on loopback where it says nothing (resolv.conf(5)).

    `path` is another file to read.
    """
    found = []
    try:
        lines = Path(path or RESOLV_CONF).read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            found.append(Address(words[1].partition("%")[0]))
    return found or [Address("127.0.0.1")]
