"""Ports for servers that a test starts in other processes.

They are none of those that the kernel gives to clients: a test's own connections could take such a port
between its choice and the start of the server, or while the server is started again; and a client that tries
a closed port of theirs may even reach itself. Nor are they those of tests that run beside in another process.
"""

from __future__ import annotations

import socket
from functools import cache

from bench import workplace

SHARES = 8
"""How many processes may run tests at a time."""

_given: set[int] = set()
_claims: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, for TCP nor for UDP, and that was not given lately."""
    if len(_given) > len(_ours()) // 2:
        _given.clear()
    while (port := workplace.free_port(_ours())) in _given or not _is_free_for_udp(port):
        pass
    _given.add(port)
    return port


@cache
def _ours() -> range:
    """The ports of this process: an abstract socket says until its end that they are taken."""
    ports = workplace.server_ports()
    for share in range(SHARES):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0ports of the tests of tamis, {share}")
        except OSError:
            claim.close()
        else:
            _claims.append(claim)
            return ports[share::SHARES]
    raise AssertionError(f"{SHARES} processes run tests already")


def _is_free_for_udp(port: int) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
