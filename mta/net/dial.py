"""TCP connections to one host with several addresses: the next one is begun before the first one fails.

In the manner of RFC 8305 (Happy Eyeballs): addresses are tried in the order given, each a moment after the
one before, and the first connection that stands is taken. An address that did not answer lately goes to the
end. So a host whose IPv6 is broken costs a fraction of a second, once.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mta.net.socks5 import Proxy, ProxyError, through

STAGGER = 0.25
"""Seconds after which the next address is tried beside the one before (RFC 8305 section 5)."""
MAX_TRIED = 6
"""Addresses of one host that are tried for one connection: Postfix tries five."""
BAD_TIME = 600.0
"""Seconds for which an address that did not answer is tried last."""
BAD_ENTRIES = 10_000
"""Such addresses that are remembered."""


@dataclass(slots=True, frozen=True)
class Source:
    """Where connections come from."""

    addresses: tuple[str, ...] = ()
    """Our own addresses, one of the right family is taken at random; none: the kernel chooses."""
    proxy: Proxy | None = None

    def families(self) -> tuple[bool, bool]:
        """Whether IPv4 and IPv6 may be used: all where nothing is said."""
        if not self.addresses:
            return True, True
        return any(":" not in a for a in self.addresses), any(":" in a for a in self.addresses)

    def pick(self, address: str) -> str:
        """Our address for a connection to `address`; "" lets the kernel choose."""
        fit = [own for own in self.addresses if (":" in own) == (":" in address)]
        return random.choice(fit) if fit else ""


class BadAddresses:
    """Addresses that did not answer lately."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def add(self, address: str, now: float) -> None:
        """It did not answer."""
        self._until[address] = now + BAD_TIME
        self._until.move_to_end(address)
        while len(self._until) > BAD_ENTRIES:
            self._until.popitem(last=False)

    def forget(self, address: str) -> None:
        """It answered."""
        self._until.pop(address, None)

    def last(self, addresses: Sequence[str], now: float) -> list[str]:
        """The addresses, bad ones last."""
        if not self._until:
            return list(addresses)
        return sorted(addresses, key=lambda address: self._until.get(address, 0.0) > now)


class _Connected(NamedTuple):
    socket: socket.socket
    address: str


class Dialer:
    """Makes connections to the addresses of one host. `address` is the one that the last call reached."""

    def __init__(
        self,
        addresses: Sequence[str],
        port: int,
        source: Source,
        bad: BadAddresses,
        timeout: float,
    ) -> None:
        """`timeout` is in seconds, for one address."""
        self._left = list(addresses[:MAX_TRIED])
        self._port = port
        self._source = source
        self._bad = bad
        self._timeout = timeout
        self.address = ""

    @property
    def more(self) -> bool:
        """True while an address is left."""
        return bool(self._left)

    def drop(self) -> None:
        """Try the address that was reached no more: its server does not serve us."""
        if self.address in self._left:
            self._left.remove(self.address)
        self.address = ""

    async def __call__(self, deadline: float) -> socket.socket:
        """A connected socket, by `deadline` (loop time). Raises OSError, TimeoutError among them."""
        loop = asyncio.get_running_loop()
        self.address = ""
        left = self._bad.last(self._left, loop.time())
        # A race needs a task for each address, a single address needs none.
        found = await self._one(left[0], deadline) if len(left) == 1 else await self._race(left, deadline)
        self.address = found.address
        return found.socket

    async def _race(self, left: Sequence[str], deadline: float) -> _Connected:
        loop = asyncio.get_running_loop()
        running: set[asyncio.Task[_Connected]] = set()
        waiting = list(left)
        failure: OSError = OSError(errno.EHOSTUNREACH, "no address")
        try:
            while waiting or running:
                if waiting:
                    running.add(loop.create_task(self._one(waiting.pop(0), deadline)))
                done, running = await asyncio.wait(
                    running, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                won = [task for task in done if task.exception() is None]
                if won:
                    for task in won[1:]:
                        task.result().socket.close()
                    return won[0].result()
                for task in done:
                    error = task.exception()
                    if not isinstance(error, OSError):
                        task.result()  # a bug comes out
                    else:
                        failure = error
        finally:
            for task in running:
                task.cancel()
                task.add_done_callback(_close_late)
        raise failure

    async def _one(self, address: str, deadline: float) -> _Connected:
        loop = asyncio.get_running_loop()
        proxy = self._source.proxy
        host, port = (address, self._port) if proxy is None else (proxy.host, proxy.port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            own = self._source.pick(host)
            if own:
                sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                sock.bind((own, 0))
            async with asyncio.timeout_at(min(deadline, loop.time() + self._timeout)):
                await loop.sock_connect(sock, (host, port))
                if proxy is not None:
                    await _proxied(sock, proxy, address, self._port)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            self._bad.add(address, loop.time())
            raise
        except BaseException:
            sock.close()
            raise
        self._bad.forget(address)
        return _Connected(sock, address)


_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)
"""Linux: the port is chosen at connect, so that one address has all ports for each destination."""


async def _proxied(sock: socket.socket, proxy: Proxy, address: str, port: int) -> None:
    try:
        await through(sock, proxy, address, port)
    except ProxyError as error:
        raise ProxyError(f"SOCKS5 proxy {proxy}: {error}") from error


def _close_late(task: asyncio.Task[_Connected]) -> None:
    """A connection that stood in the moment in which another one was taken."""
    if not task.cancelled() and task.exception() is None:
        task.result().socket.close()
