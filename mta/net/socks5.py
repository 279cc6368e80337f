"""SOCKS5 as a client (RFC 1928, RFC 1929): a connection to an IP address through a proxy.

The octets are made and read by pure functions; `through` carries them over a connected socket. The proxy gets
addresses, never names: names are looked up here, where DNSSEC counts. Raises `ProxyError`, an OSError, for
whatever the proxy says or does.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from mta.hostport import host_port

_VERSION = b"\x05"
_CONNECT = b"\x05\x01\x00"
_NO_LOGIN = 0
_PASSWORD = 2
_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "timeout",
    7: "command not supported",
    8: "address type not supported",
}
_ADDRESS_OCTETS = {1: 4, 4: 16}
_NAME = 3


class ProxyError(OSError):
    """The proxy did not make the connection."""


@dataclass(slots=True, frozen=True)
class Proxy:
    """A SOCKS5 server; `user` and `password` are for those that want them."""

    host: str
    """IP address."""
    port: int = 1080
    user: str = ""
    password: str = ""

    def __str__(self) -> str:
        return host_port(self.host, self.port)


def greeting(proxy: Proxy) -> bytes:
    """The first octets: which ways to log in we know."""
    return _VERSION + (bytes((2, _NO_LOGIN, _PASSWORD)) if proxy.user else bytes((1, _NO_LOGIN)))


def chosen(octets: bytes) -> bool:
    """Whether the answer to the greeting asks for a password. Raises ProxyError."""
    if octets[:1] != _VERSION:
        raise ProxyError("it does not speak SOCKS5")
    if octets[1] == _NO_LOGIN:
        return False
    if octets[1] == _PASSWORD:
        return True
    raise ProxyError("it takes none of our ways to log in")


def login(proxy: Proxy) -> bytes:
    """User and password (RFC 1929). Raises ProxyError for what does not fit into its octet of length."""
    user, password = proxy.user.encode(), proxy.password.encode()
    if max(len(user), len(password)) > 255:
        raise ProxyError("it takes no user and no password of more than 255 octets")
    return b"\x01" + bytes((len(user),)) + user + bytes((len(password),)) + password


def request(address: str, port: int) -> bytes:
    """The request for a connection."""
    ip = ip_address(address)
    return _CONNECT + (b"\x01" if ip.version == 4 else b"\x04") + ip.packed + port.to_bytes(2, "big")


def rest_of(head: bytes) -> int:
    """How many octets follow the first five of the reply. Raises ProxyError when it is a refusal."""
    if head[:1] != _VERSION:
        raise ProxyError("it does not speak SOCKS5")
    if head[1]:
        raise ProxyError(_REFUSALS.get(head[1], f"refusal {head[1]}"))
    if head[3] == _NAME:
        return head[4] + 2
    if head[3] not in _ADDRESS_OCTETS:
        raise ProxyError("a reply that is not understood")
    return _ADDRESS_OCTETS[head[3]] - 1 + 2


async def through(sock: socket.socket, proxy: Proxy, address: str, port: int) -> None:
    """Let the proxy at the other end of `sock` connect to an address. Raises OSError."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, greeting(proxy))
    if chosen(await _exactly(sock, 2)):
        await loop.sock_sendall(sock, login(proxy))
        if (await _exactly(sock, 2))[1]:
            raise ProxyError("it refuses our password")
    await loop.sock_sendall(sock, request(address, port))
    await _exactly(sock, rest_of(await _exactly(sock, 5)))


async def _exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    octets = b""
    while len(octets) < count:
        more = await loop.sock_recv(sock, count - len(octets))
        if not more:
            raise ProxyError("it closed the connection")
        octets += more
    return octets
