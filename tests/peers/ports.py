"""Ports for servers that a test starts in other processes.

They are none of those that the kernel gives to clients: a test's own connections could take such a port
between its choice and the start of the server, or while the server is started again; and a client that tries
a closed port of theirs may even reach itself.
"""

from __future__ import annotations

from bench import workplace

_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now, and that was not given before."""
    while (port := workplace.free_port()) in _given:
        pass
    _given.add(port)
    return port
