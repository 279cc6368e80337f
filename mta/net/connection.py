"""One client connection: the asyncio shell around a server session.

It moves octets, keeps time, starts TLS and runs what takes time as a task; what is said it leaves to the
`Receiver`. A command that can be answered at once costs no task. While a task runs, the client's next
octets are kept (at most `READ_AHEAD`, then reading stops) and a client that goes away is noticed.

A client that sends much at once waits for its turn: after `AT_ONCE` events, or a read of more than
`READ_AHEAD`, the others come first.

Every wait has an end: `mta.net.connections` looks at all connections once a second and ends those that let a
state's time pass, with 421 4.4.2 where the client can still read it. A bug in what is said or done for a
client is logged and answered 451 4.3.0; it never takes the worker down, nor the clock.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta.net.dialogue import Dialogue, Receiver, Work
from mta.net.inflight import failure, has_unread, talks_already
from mta.reply import Reply
from mta.smtp import events as ev
from mta.smtp.state import BDAT, CHUNKS, CLOSED, DATA, READY, START

if TYPE_CHECKING:
    from mta.net.connections import Connections

READ_AHEAD = 64 * 1024
"""Octets that a client may send ahead while a task runs; then reading stops until it is done."""
AT_ONCE = 100
"""Commands and pieces of messages of one client that are handled before others have their turn."""
LINGER = 5.0
"""Seconds for a client that was sent away to read why, before the connection is cut."""
DRAIN_IDLE = 5.0
"""Seconds without a command after which a session is told 421 while the worker drains."""

TIMEOUT = Reply(421, "4.4.2", "timeout, closing the connection", close=True)
SHUTTING_DOWN = Reply(421, "4.3.2", "service shutting down, connect again", close=True)
OUR_FAULT = Reply(451, "4.3.0", "internal error, try again later")

_TURN = range(AT_ONCE)
_NOTED = frozenset({ev.StartTls, ev.DataStart, ev.Closed})
"""Events that the connection itself has to do with."""


@dataclass(slots=True, frozen=True)
class Timeouts:
    """Seconds to wait for a client in each state (RFC 5321 section 4.5.3.2)."""

    command: float = 300.0
    data: float = 180.0
    """Between two pieces of a message."""
    message: float = 3600.0
    """For a whole message."""
    handshake: float = 30.0
    write: float = 60.0
    """For a client that does not read our replies."""


class Connection(asyncio.Protocol):
    """The transport's protocol of one client."""

    __slots__ = (
        "_ahead",
        "_connections",
        "_create",
        "_ending",
        "_leaving",
        "_lost",
        "_message_since",
        "_paused_reading",
        "_paused_writing",
        "_receiver",
        "_said_goodbye",
        "_server_context",
        "_since",
        "_smtp",
        "_task",
        "_transport",
        "_unread",
        "alive",
    )

    _transport: asyncio.Transport
    _smtp: Dialogue
    _receiver: Receiver

    def __init__(
        self,
        connections: Connections,
        create: Callable[[Connection, asyncio.Transport], tuple[Dialogue, Receiver]],
        server_context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        """`create` makes session and receiver; `server_context` gives the context of STARTTLS."""
        self._connections = connections
        self._create = create
        self._server_context = server_context
        self._task: asyncio.Task[None] | None = None
        self._ahead = False
        """What is looked at now, or was at the end, was sent without waiting for the last answer."""
        self._since = connections.now
        self._message_since = connections.now
        self._ending = False
        self._leaving = False
        """The client has closed its side, and waits for the rest of our answers."""
        self._lost = False
        self._paused_reading = False
        self._paused_writing = False
        self._said_goodbye = False
        self._unread = False
        self.alive = True
        """False once the client is gone."""

    # --- called by the transport -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client, or send it away."""
        self._transport = transport  # type: ignore[assignment]
        self._smtp, self._receiver = self._create(self, self._transport)
        self._connections.add(self)
        if self._connections.closed:
            self.end(SHUTTING_DOWN)
        elif not talks_already(self._transport):  # else its octets come now, before any greeting
            self._pump()

    def data_received(self, data: bytes) -> None:
        """Octets from the client."""
        if self._ending:
            return
        smtp = self._smtp
        smtp.receive_data(data)
        if self._task is None and not self._paused_writing:
            if smtp.message is not None or data.find(b"\n") >= 0:  # a command counts with the end of its line
                self._since = self._connections.now
            self._pump()
            if len(data) > READ_AHEAD and self._task is None:  # its next megabytes would be read at once
                self._let_others()
        elif smtp.buffered > READ_AHEAD:
            self._paused_reading = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client will say no more: unless it has said QUIT, as Exim does, it reads no reply either."""
        if self._task and self._smtp.takes_leave and not self._transport.get_extra_info("sslcontext"):
            self._leaving = True  # TLS knows no half of a connection
            return True
        if not self._ending or self._ahead:
            self._unread = has_unread(self._transport)
        self.alive = False  # an answer that is made before the transport has closed does not arrive
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; a task that runs is left to its end, for mail may be on its way.

        Harmless when it is called again.
        """
        if self._lost:
            return
        self._lost = True
        self.alive = False
        self._connections.discard(self)
        if exc is None and self._unread:
            exc = ConnectionResetError("closed before it had our reply")
        self._receiver.lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        self._paused_writing = True
        self._since = self._connections.now

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused_writing = False
        self._since = self._connections.now
        if self._task is None and not self._ending:
            self._go_on()

    # --- the dialogue ------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Handle events until octets, time or the client are needed, or it is the turn of others."""
        smtp = self._smtp
        handle = self._receiver.handle
        for _ in _TURN:
            if self._paused_writing:
                break
            event = smtp.next_event()
            if event is None:
                break
            if type(event) in _NOTED:
                if type(event) is ev.StartTls:
                    self._begin_tls()
                    return
                if type(event) is ev.DataStart:
                    self._message_since = self._connections.now
                else:
                    self._said_goodbye = not self._ahead
            try:
                work = handle(event)
            except Exception as error:  # noqa: BLE001 - as in `_run`
                self.failed(error)
                continue
            if work is not None:
                self._task = self._connections.loop.create_task(self._run(work))
                if not smtp.is_waiting:  # answered already: the work is the delay of a refusal
                    return
                break
            if not smtp.more:
                break
        else:
            self._let_others()
        octets = smtp.data_to_send()
        if octets and self.alive:
            self._transport.write(octets)
        if smtp.state is CLOSED:
            self._finish()

    def _let_others(self) -> None:
        """Take no more of the client's octets before others had their turn."""
        if not self._paused_reading and not self._ending and self.alive:
            self._paused_reading = True
            self._transport.pause_reading()
            self._connections.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        if self._task is None and not self._ending and self.alive:
            self._go_on()

    def _finish(self) -> None:
        """The session is over: part from the client, once and when no task runs for it.

        A client that said QUIT has read all before, unless that came together with the message: then it is
        listened to until it closes, for a reset says that it has not read what became of that.
        """
        if self._task is None and not self._ending:
            self._ending = True
            self._since = self._connections.now
            if self._said_goodbye:
                self._transport.close()
            else:
                self._linger()

    async def _run(self, work: Work) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - our bugs become a temporary reply
            self.failed(error)
        self._task = None
        self._since = self._connections.now
        if self.alive:
            self._go_on()

    def failed(self, error: Exception) -> None:
        """We have a bug: a temporary reply where one is waited for; the session goes on."""
        self._receiver.failed(error)
        if self._smtp.is_waiting:
            self._smtp.answer(OUR_FAULT)

    def _go_on(self) -> None:
        """Nothing is waited for any more: take what the client has sent meanwhile."""
        if self._paused_reading and not self._paused_writing:
            self._paused_reading = False
            self._transport.resume_reading()
        self._ahead = True
        self._pump()
        self._ahead = self._ending
        if self._leaving and self._task is None and not self._paused_writing and not self._ending:
            self._transport.close()  # it has begun what it cannot end any more

    def _begin_tls(self) -> None:
        """Answer 220 and take no more octets in clear: the next ones are the handshake's."""
        self._transport.pause_reading()
        self._smtp.answer()
        self._transport.write(self._smtp.data_to_send())
        self._task = self._connections.loop.create_task(self._start_tls())

    async def _start_tls(self) -> None:
        assert self._server_context is not None
        loop = self._connections.loop
        try:
            transport = await loop.start_tls(
                self._transport,
                self,
                self._server_context(),
                server_side=True,
                ssl_handshake_timeout=self._connections.timeouts.handshake,
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            self._receiver.handshake_failed(error)
            self._lose()
            return
        finally:
            self._task = None
        ssl_object = None if transport is None else transport.get_extra_info("ssl_object")
        if transport is None or ssl_object is None or not self.alive:  # the client left meanwhile
            self._lose()
            return
        self._transport = transport
        self._since = self._connections.now
        self._smtp.tls_started()
        self._receiver.tls_started(ssl_object)
        self._pump()

    def _lose(self) -> None:
        """The handshake came to nothing. The layer of TLS does not always tell us that the client is gone."""
        self.abort()
        self.connection_lost(None)

    # --- time and ends -----------------------------------------------------------------------------

    def tick(self, now: float, timeouts: Timeouts, draining: bool) -> None:
        """Look at the time; called once a second."""
        self._receiver.tick(now)
        waited = now - self._since
        if self._ending:
            if waited > LINGER or (self._leaving and self._has_left()):
                self.abort()
            return
        if self._paused_writing:
            if waited > timeouts.write:
                self.abort()
            return
        if self._task is not None:
            return
        state = self._smtp.state
        if state is DATA or state is BDAT or state is CHUNKS:
            if waited > timeouts.data or now - self._message_since > timeouts.message:
                self.end(TIMEOUT)
            return
        self._message_since = now  # a chunk may begin without an event: where it has no place
        if waited > timeouts.command:
            self.end(TIMEOUT)
        elif draining and waited > DRAIN_IDLE and (state is READY or state is START):
            self.end(SHUTTING_DOWN)

    def _has_left(self) -> bool:
        """True once a client that had closed its side has our answer, or has refused it."""
        if error := failure(self._transport):
            self.connection_lost(error)
            return True
        self._unread = has_unread(self._transport)
        return not self._unread

    def end(self, reply: Reply) -> None:
        """End the session with `reply`, if no task runs that will answer."""
        if self._task is None and not self._ending:
            self._smtp.answer(reply)
            self._smtp.close()
            octets = self._smtp.data_to_send()
            if octets and self.alive:
                self._transport.write(octets)
            self._finish()

    def abort(self) -> None:
        """Cut the connection."""
        self._ending = True
        self._transport.abort()

    def _linger(self) -> None:
        """Close our side; the client may still read, and octets it sends are dropped, not reset."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
