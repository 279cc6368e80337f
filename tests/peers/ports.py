"""Ports for servers that a test starts in other processes.

They are none of those that the kernel gives to clients: a test's own connections could take such a port
between its choice and the start of the server, or while the server is started again; and a client that tries
a closed port of theirs may even reach itself.
"""

from __future__ import annotations

import socket

from bench import workplace

_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, for TCP nor for UDP, and that was not given before."""
    while (port := workplace.free_port()) in _given or not _is_free_for_udp(port):
        pass
    _given.add(port)
    return port


def _is_free_for_udp(port: int) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
