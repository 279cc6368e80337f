"""Read a PROXY header from a socket that has no transport yet."""

from __future__ import annotations

import asyncio
import socket

from mta.net.proxyproto import MAX_HEADER, ProxyError, ProxyHeader, ProxyParser

__all__ = ["ProxyError", "read_header"]


async def read_header(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> ProxyHeader:
    """Read a PROXY header from a non-blocking socket and leave what follows it in the socket.

    It peeks, and then takes only what the parser knows to belong to the header; so it never takes too much,
    and it never finds the same octets waiting again. Raises ProxyError and OSError.
    """
    parser = ProxyParser()
    while parser.header is None:
        try:
            data = sock.recv(MAX_HEADER, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(loop, sock)
            continue
        if not data:
            raise ProxyError("closed within the PROXY header")
        taken = parser.feed(data)
        while taken:
            taken -= len(sock.recv(taken))
    return parser.header


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
