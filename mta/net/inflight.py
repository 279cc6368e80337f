"""What the system holds for a connection: octets that were not read yet, or did not arrive yet."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import termios


def talks_already(transport: asyncio.Transport) -> bool:
    """True when the client has not waited for the greeting: octets are there to be read.

    Not inside TLS, where they may be of the layer itself, and none of them the client's.
    """
    return transport.get_extra_info("sslcontext") is None and _octets(transport, termios.FIONREAD)


def has_unread(transport: asyncio.Transport) -> bool:
    """True when the client's system has not acknowledged all that we wrote.

    A client that closes before our reply arrives ends the connection as politely as one that has read it;
    only the octets that are still on their way tell the difference.
    """
    return _octets(transport, termios.TIOCOUTQ)


def failure(transport: asyncio.Transport) -> OSError | None:
    """What has ended the connection, for one that nothing is read from any more; it is told once."""
    code = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(code, os.strerror(code)) if code else None


def _octets(transport: asyncio.Transport, which: int) -> bool:
    """True when the system has octets of this kind for a socket (tcp(7), unix(7))."""
    count = bytearray(4)  # filled where it is, which takes half the time of a new one
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), which, count)
    except OSError:
        return False
    return any(count)
