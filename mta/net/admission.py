"""From an accepted connection to its protocol: who is it, may it come in, is the channel safe.

In this order: the PROXY header where one is due (in clear, even before implicit TLS), the limits, the
handshake of implicit TLS, and then `factory(arrival)`, whose protocol gets the transport. A client that is
refused gets 421 and costs no session; over implicit TLS it is just closed, since clear text means nothing
there. A failed handshake is one counted word and one log line, never a traceback; the client sees the
connection closed, for neither loop sends the alert that the library has prepared.

The hard part is that a proxy may send its header and the client's first octets (a ClientHello) in one
segment. The header is therefore read from the socket before there is a transport, by peeking and then taking
exactly its octets; the transport that is made afterwards finds the rest where it belongs.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mta.net.arrival import Arrival, canonical_address
from mta.net.limits import OVERLOADED, ClientLimits, Limits, Networks
from mta.net.noise import Log
from mta.net.overload import Level
from mta.net.tlsinfo import failure_class, failure_text, told_tls
from mta.reply import Reply

if TYPE_CHECKING:
    from mta.net.proxyproto import ProxyHeader
    from mta.net.tls import ServerTls

HANDSHAKE_TIMEOUT = 30.0
"""Seconds for a handshake: three round trips even over a satellite link with lost packets."""
PROXY_TIMEOUT = 5.0
"""Seconds for the PROXY header, which a load balancer sends with its first segment."""

Factory = Callable[[Arrival], asyncio.Protocol]


@dataclass(slots=True, frozen=True)
class ListenerSettings:
    """One listener."""

    name: str
    implicit_tls: bool = False
    """TLS from the first octet (RFC 8314)."""
    proxy_from: tuple[str, ...] = ()
    """Networks that must send a PROXY header; when set, everybody else is closed. Clients of a Unix socket
    must send one too: its file permissions decide who connects."""
    proxy_tls: bool = False
    """The header is believed what it says of TLS that ended at the proxy."""
    backlog: int = 1024
    """Connections that the kernel queues (its own limit, net.core.somaxconn, applies too)."""
    handshake_timeout: float = HANDSHAKE_TIMEOUT
    stressed_handshake_timeout: float = 10.0
    """The same for handshakes that begin while the worker is under stress."""
    proxy_timeout: float = PROXY_TIMEOUT
    limits: ClientLimits | None = None
    """Limits of this listener in place of the general ones."""


class Admission:
    """What happens to the clients of one listener before they have a session."""

    __slots__ = (
        "_counts",
        "_exhausted",
        "_factory",
        "_limits",
        "_log",
        "_proxies",
        "_settings",
        "_tls",
        "fd_ceiling",
    )

    def __init__(
        self,
        settings: ListenerSettings,
        factory: Factory,
        log: Log,
        counts: Counter[str],
        tls: ServerTls | None,
        limits: Limits | None,
        fd_ceiling: int,
        exhausted: Callable[[str], None],
    ) -> None:
        """Prepare; a listener without proxies does without their parser, which is slow to import.

        `exhausted` is told when a connection got a descriptor of `fd_ceiling` or more.

        Raises ValueError for a wrong network or implicit TLS without certificates.
        """
        if settings.implicit_tls and tls is None:
            raise ValueError(f"listener {settings.name}: implicit TLS without certificates")
        self._settings = settings
        self._factory = factory
        self._log = log
        self._counts = counts
        self._tls = tls if settings.implicit_tls else None
        self._limits = limits
        self._proxies = Networks(settings.proxy_from)
        if self._proxies:
            importlib.import_module("mta.net.proxyheader")
        self._exhausted = exhausted
        self.fd_ceiling = fd_ceiling

    @property
    def needs_socket(self) -> bool:
        """True when a client must be received as a socket (`receive`), not as a transport."""
        return self._tls is not None or bool(self._proxies)

    def of_tcp_socket(self) -> asyncio.Protocol:
        """The first protocol of a TCP connection accepted by the loop."""
        return _Door(self, unix=False)

    def of_unix_socket(self) -> asyncio.Protocol:
        """The first protocol of a connection to a Unix socket accepted by the loop."""
        return _Door(self, unix=True)

    async def receive(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, unix: bool) -> None:
        """Take an accepted socket through everything; afterwards a transport owns it, or it is closed."""
        sock.setblocking(False)
        try:
            arrival = await self._meet(loop, sock, unix)
        except BaseException:
            sock.close()
            raise
        if arrival is None:
            sock.close()
            return
        await self._connect(loop, sock, arrival)

    def turn_away(self, sock: socket.socket) -> None:
        """Close a socket for which there are no descriptors, with 421 4.3.2 if it can read it."""
        self._counts["descriptors"] += 1
        sock.setblocking(False)
        self._say(sock, OVERLOADED)
        sock.close()

    def arrive(self, transport: asyncio.Transport, unix: bool) -> Arrival | None:
        """Let the client of a new transport in, or tell it why not and return None."""
        if transport.get_extra_info("socket").fileno() >= self.fd_ceiling:
            self._counts["descriptors"] += 1
            transport.write(OVERLOADED.encode())
            self._exhausted("few descriptors left")
            return None
        peer = None if unix else transport.get_extra_info("peername")
        name = transport.get_extra_info("sockname")
        if not unix and (peer is None or name is None):
            self._counts["vanished"] += 1
            return None
        arrival = self._arrival(peer, name)
        refusal = self._admit(arrival)
        if refusal is not None:
            transport.write(refusal.encode())
            return None
        return arrival

    def hand_over(self, transport: asyncio.Transport, arrival: Arrival) -> None:
        """Give the transport its real protocol."""
        try:
            protocol = self._factory(arrival)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
        except BaseException:
            arrival.leave()
            transport.abort()
            raise

    async def _meet(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, unix: bool) -> Arrival | None:
        peer: Any = None
        proxy = "unix"
        try:
            name = sock.getsockname()
            if not unix:
                peer = sock.getpeername()
                proxy = canonical_address(peer[0])
        except OSError:
            self._counts["vanished"] += 1
            return None
        header = None
        if self._proxies:
            if not unix and not self._proxies.contain_text(proxy):
                self._close_line("proxy_stranger", proxy, "not a proxy of ours")
                return None
            header = await self._read_header(loop, sock, proxy)
            if header is None:
                return None
        arrival = self._arrival(peer, name, header)
        refusal = self._admit(arrival)
        if refusal is not None:
            self._say(sock, refusal)
            return None
        return arrival

    async def _read_header(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: str
    ) -> ProxyHeader | None:
        from mta.net.proxyheader import ProxyError, read_header

        try:
            async with asyncio.timeout(self._settings.proxy_timeout):
                return await read_header(loop, sock)
        except TimeoutError:
            self._close_line("proxy_timeout", proxy, "no PROXY header in time")
        except ProxyError as error:
            self._close_line("proxy_error", proxy, str(error))
        except OSError as error:
            self._close_line("proxy_error", proxy, error.strerror or str(error))
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, arrival: Arrival) -> None:
        door = _Door(self, unix=False, arrival=arrival)
        error: OSError | None = None
        try:
            if self._tls is None:
                await loop.connect_accepted_socket(lambda: door, sock)
            else:
                await loop.connect_accepted_socket(
                    lambda: door,
                    sock,
                    ssl=self._tls.context,
                    ssl_handshake_timeout=self._handshake_timeout(),
                )
        except OSError as caught:  # errors of TLS are OSErrors too
            error = caught.with_traceback(None)  # which knows this frame: both would wait for the collector
        finally:
            if not door.opened:
                arrival.leave()
        if not door.opened:
            kind = failure_class(error)
            self._counts[f"tls_{kind}"] += 1
            self._log(
                "TLS handshake failed",
                listener=self._settings.name,
                client=arrival.client_address,
                reason=kind,
                detail=failure_text(error),
            )

    def _handshake_timeout(self) -> float:
        limits, settings = self._limits, self._settings
        is_calm = limits is None or limits.overload.level is Level.NORMAL
        return settings.handshake_timeout if is_calm else settings.stressed_handshake_timeout

    def _arrival(self, peer: Any, name: Any, header: ProxyHeader | None = None) -> Arrival:
        listener, tls = self._settings.name, self._tls is not None
        if header is not None and header.client_address:
            return Arrival(
                listener,
                header.client_address,
                header.client_port,
                header.server_address,
                header.server_port,
                proxied=True,
                proxy=header,
                implicit_tls=tls,
                tls=told_tls(header) if self._settings.proxy_tls else None,
            )
        if peer is None:
            path = name if isinstance(name, str) else os.fsdecode(name or b"")
            return Arrival(listener, "unix", 0, path, 0, proxy=header, implicit_tls=tls)
        client, server = canonical_address(peer[0]), canonical_address(name[0])
        return Arrival(listener, client, peer[1], server, name[1], proxy=header, implicit_tls=tls)

    def _admit(self, arrival: Arrival) -> Reply | None:
        limits = self._limits
        if limits is not None:
            client = limits.client(arrival.client_address)
            refusal = limits.enter(client, self._settings.limits)
            if refusal is not None:
                self._close_line("refused", arrival.client_address, refusal.cause)
                return refusal
            arrival.client, arrival.limits = client, limits
        self._counts["accepted"] += 1
        return None

    def _say(self, sock: socket.socket, reply: Reply) -> None:
        if self._tls is None:
            with contextlib.suppress(OSError):  # it may be gone; it is closed in any case
                sock.send(reply.encode())

    def _close_line(self, count: str, client: str, reason: str) -> None:
        self._counts[count] += 1
        self._log("connection closed", listener=self._settings.name, client=client, reason=reason)


class _Door(asyncio.Protocol):
    """The protocol of a new transport until the connection's own takes over, in the same turn."""

    __slots__ = ("_admission", "_arrival", "_unix", "opened")

    def __init__(self, admission: Admission, unix: bool, arrival: Arrival | None = None) -> None:
        """`arrival` is given when the client has been let in already."""
        self._admission = admission
        self._unix = unix
        self._arrival = arrival
        self.opened = False

    def connection_made(self, transport: Any) -> None:  # uvloop's are no subclasses of asyncio.Transport
        """Pass the transport on if its client may come in, or close it."""
        self.opened = True
        arrival = self._arrival or self._admission.arrive(transport, self._unix)
        if arrival is None:
            transport.close()
        else:
            self._admission.hand_over(transport, arrival)
