"""Listening sockets of one listener: from accept to the connection's protocol.

A `Listener` takes sockets that are bound already and accepts from them; `mta.net.admission` then finds out
who the client is, asks the limits, does the handshake of implicit TLS and calls the factory.

Sharing between workers. All workers and all generations accept from the same sockets. Measured with two
workers on two cores, 20 and 100 clients, sessions of one message and of hundreds (uvloop 0.23, where libuv
takes one connection per wake-up): the busier worker had 51-56 % of the messages, with `create_server` as
with an accept loop of our own, with EPOLLEXCLUSIVE and with a SO_REUSEPORT group; none is more even than
the simplest. Kept sessions that all come in the same instant may gather with the worker that wakes first
(19 of 20, seen); new ones even that out. A connection cost 62-70 microseconds with `create_server` up to
its greeting, 92-130 through `sock.accept` and `connect_accepted_socket`, and 61-72 for only accepting,
writing 421 and closing in Python. So plain listeners use `create_server` and refuse in the protocol; PROXY
and implicit TLS, which need the socket before there is a transport (or the error of the handshake), use the
accept loop. So does everything on asyncio's own loop: its server loses a client that it has accepted but not
yet given a transport when it is closed at that moment (seen about once in twenty reloads under load).

Why not SO_REUSEPORT: each socket of a group has its own queue, chosen by a hash when the client connects.
A worker that is busy, draining or dead keeps what is in its queue waiting, and closing one of the sockets
resets its queue, so a reload loses connections unless the supervisor keeps every socket open for ever and
hands all of them on, however the number of workers changes. With one shared socket there is one queue; it
lives as long as any process has the socket open, and whichever worker is free serves it. A reload is
then: the new generation accepts, the old one stops (`stop` closes only its own descriptors), and a client in
the queue never notices.

Descriptors. The number of a new connection's descriptor is always the lowest free one. When it comes within
`FD_RESERVE` of the limit, the client is answered 421 4.3.2 and accepting pauses; other workers go on. Who
waits still at the next look (`LOOK`) was taken by none of them and is told the same, so many at each look,
one descriptor after the other; the first that gets a lower number is served, and the pause is over. If accept
itself fails for want of descriptors, the accept loop uses a reserve descriptor to take one client and answer
it likewise; libuv does the same but closes without a word. TCP_DEFER_ACCEPT is never set: it waits for the
client to talk, and in SMTP the server talks first.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import uvloop

from mta.net.admission import Admission, Factory, ListenerSettings
from mta.net.limits import Limits
from mta.net.noise import Log, Throttle

if TYPE_CHECKING:
    from mta.net.tls import ServerTls

__all__ = ["Listener", "ListenerSettings"]

FD_RESERVE = 64
"""Descriptors kept free for deliveries of sessions that are open, for files and for the log."""
PAUSE = 1.0
"""Seconds without accepting after descriptors ran out: sessions end by the dozen in that time."""
LOOK = 0.1
"""Seconds between two looks at who waits during a pause: a worker that can serve takes them long before."""
LOOK_BATCH = 50
"""Clients of a socket that are turned away at a look: 500 a second cost some hundredths of a processor."""
ACCEPT_BATCH = 4
"""Connections taken per wake-up by the accept loop: few, so that the other workers get their share."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))
"""A client that vanished while we wait for nothing of it is noticed after four minutes."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Accepts the clients of one listener in this worker."""

    def __init__(
        self,
        settings: ListenerSettings,
        sockets: Sequence[socket.socket],
        factory: Factory,
        *,
        log: Log,
        tls: ServerTls | None = None,
        limits: Limits | None = None,
        fd_limit: int = 0,
    ) -> None:
        """Own `sockets` (they are closed by `stop`); nothing is accepted before `start`.

        `factory(arrival)` makes the protocol of a client that was let in. `tls` is needed for implicit TLS
        only. `fd_limit` is the limit of open files, 0 for the process's. Raises ValueError for a wrong
        network or implicit TLS without certificates.
        """
        log = Throttle(log)
        ceiling = (fd_limit or resource.getrlimit(resource.RLIMIT_NOFILE)[0]) - FD_RESERVE
        self.settings = settings
        self.counts: Counter[str] = Counter()
        """Events for metrics: accepted, refused, descriptors, vanished, proxy_error, proxy_stranger,
        proxy_timeout, tls_<failure class>, errors."""
        self._admission = Admission(
            settings, factory, log, self.counts, tls, limits, ceiling, exhausted=self._pause
        )
        self._sockets = list(sockets)
        self._log = log
        self._servers: list[asyncio.Server] = []
        self._readers: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._reserve = -1
        self._accepts = True
        self._stopped = False

    @property
    def pending(self) -> int:
        """Clients whose PROXY header or handshake is under way."""
        return len(self._tasks)

    @property
    def addresses(self) -> list[Any]:
        """Where it listens, as `socket.getsockname` says."""
        return [sock.getsockname() for sock in self._sockets]

    async def start(self) -> None:
        """Accept from now on. Raises OSError when a socket cannot listen."""
        for sock in self._sockets:
            _prepare(sock, self.settings.backlog)
        uvloops = isinstance(asyncio.get_running_loop(), uvloop.Loop)
        self._accepts = self._admission.needs_socket or not uvloops
        if self._accepts:
            self._reserve = _spare_descriptor()
        await self._open()

    def stop(self) -> None:
        """Accept no more, here; clients in the kernel's queue are left to other workers.

        Sessions go on, and so do PROXY headers and handshakes under way (`pending`).
        """
        self._stopped = True
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._close()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1

    async def settled(self) -> None:
        """Wait until no PROXY header and no handshake is under way; each has its timeout."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            unix = sock.family == socket.AF_UNIX
            if self._accepts:
                loop.add_reader(sock, self._accept, loop, sock, unix)
                self._readers.append(sock)
                continue
            # A duplicate, because closing a server closes its socket and a pause must not.
            server = await loop.create_server(
                self._admission.of_unix_socket if unix else self._admission.of_tcp_socket,
                sock=sock.dup(),
                backlog=self.settings.backlog,
            )
            self._servers.append(server)

    def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._readers:
            loop = asyncio.get_running_loop()
            for sock in self._readers:
                loop.remove_reader(sock)
            self._readers.clear()

    def _pause(self, reason: str) -> None:
        if self._resume is not None or self._stopped:
            return
        self._log("accepting paused", listener=self.settings.name, reason=reason, seconds=PAUSE)
        self._close()
        loop = asyncio.get_running_loop()
        self._pause_on(loop, loop.time() + PAUSE)

    def _pause_on(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        left = until - loop.time()
        if left <= 0:
            self._reopen()
        elif left <= LOOK:
            self._resume = loop.call_later(left, self._reopen)
        else:
            self._resume = loop.call_later(LOOK, self._look, loop, until)

    def _look(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        """Turn away who waits, for nobody else has taken them; end the pause when one can be served."""
        for sock in self._sockets:
            for _ in range(LOOK_BATCH):
                connection = self._next(sock)
                if connection is None:
                    break
                if connection.fileno() < self._admission.fd_ceiling:
                    self._spawn(self._admission.receive(loop, connection, sock.family == socket.AF_UNIX))
                    self._reopen()
                    return
                self._admission.turn_away(connection)
        self._pause_on(loop, until)

    def _next(self, sock: socket.socket) -> socket.socket | None:
        """A client that waits, if there is one and a descriptor for it."""
        try:
            return sock.accept()[0]
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _EXHAUSTED and self._reserve >= 0:
                self._answer_one(sock)
            return None

    def _reopen(self) -> None:
        self._resume = None
        if not self._stopped:
            self._spawn(self._open())

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.counts["errors"] += 1
            self._log("connection failed", listener=self.settings.name, error=repr(error))

    def _accept(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, unix: bool) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                connection, _ = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._answer_one(sock)
                    self._pause(error.strerror or str(error))
                    return
                # Linux passes network errors of the connection on; it is gone, the next may be fine.
                self.counts["vanished"] += 1
                continue
            if connection.fileno() >= self._admission.fd_ceiling:
                self._admission.turn_away(connection)
                self._pause("few descriptors left")
                return
            self._spawn(self._admission.receive(loop, connection, unix))

    def _answer_one(self, sock: socket.socket) -> None:
        """Take one client with the reserve descriptor and tell it to come back."""
        if self._reserve >= 0:
            os.close(self._reserve)
        try:
            self._admission.turn_away(sock.accept()[0])
        except BlockingIOError:
            pass  # another worker took it, or nobody waited
        except OSError:
            self.counts["vanished"] += 1  # the reserve was not enough
        self._reserve = _spare_descriptor()


def _spare_descriptor() -> int:
    """A descriptor to give up when there is no other; -1 when there is none left even for that."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _prepare(sock: socket.socket, backlog: int) -> None:
    """Options that accepted sockets inherit (Linux), so they cost nothing per connection; and listen."""
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.listen(backlog)
