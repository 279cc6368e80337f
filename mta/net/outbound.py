"""The asyncio shell of a client session: one connection to a next hop, from greeting to QUIT.

`OutboundConnection` moves octets between a transport and a `ClientSession`, keeps the time and streams large
content. It starts no task: `send` and `check` wait on one future, small messages need a single wake-up of
the caller. A connection has one timer that is moved only when it fires; each state has a time limit
(RFC 5321 section 4.5.3.2), and the caller's deadline comes first.

Back-pressure: the write buffer of the transport is kept under `WRITE_HIGH` (and the kernel's); the loop gets
its turn after at most `TURN` octets. A server that answers or leaves in the middle of the content is
noticed at once, the rest is not sent.

A server that has the whole message at the caller's deadline is overdue: `send` returns, and the replies that
still come are noted in the `Mailing` (`on_late`).

Nothing raises for what the server or the network does: after `send` the replies of the `Mailing` say what
happened and `usable` whether another message may follow. A caller that is cancelled closes the connection.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from mta.content import AbandonedError, Content, SpillError
from mta.net.tlsfailure import FailureType
from mta.reply import Reply
from mta.smtp.client import ClientSession, Exchange, Phase
from mta.smtp.dotstuff import BareLineEnd
from mta.smtp.mailing import BARE_LINE_END, ContentSizeError, Mailing

WRITE_HIGH = 128 * 1024
"""Octets in the write buffer at which streaming pauses: two pieces, so that the next is ready in time."""
PIECE = 64 * 1024
"""Octets framed and written at a time: some 30 µs of work."""
TURN = 256 * 1024
"""Octets after which the loop gets its turn even if the server takes all: about 1 ms of work."""
LATE_TIME = 90.0
"""Seconds for which a server that has the whole message is listened to when nobody waits for it any more. The
queue does not try the message again before that."""
CANCELLED = Reply(451, "4.4.2", "The delivery was given up", "cancelled")
UNREADABLE = "The message could not be read for sending it on"
QUIT_TIME = 5.0
"""Seconds for the 221 to QUIT. Nothing depends on it; the connection is closed after it."""


@dataclass(slots=True, frozen=True)
class Timeouts:
    """Seconds allowed in each state; the deadline of a delivery comes first when it is shorter.

    The minima of RFC 5321 section 4.5.3.2 (2 to 10 minutes) are for a client that nobody waits for; here
    the sender's server waits, and a slow next hop is better left to a later try. Not so once it may have the
    message: whoever gives up too early then sends it twice.
    """

    connect: float = 3.0
    """Connection and TLS handshake, each."""
    greeting: float = 10.0
    command: float = 10.0
    """For the reply to a command or to a pipelined group."""
    block: float = 300.0
    """For the next hop to take a block of content."""
    final: float = 300.0
    """For the reply to the end of content."""


# Looked up several times for each message; a global is cheaper than an attribute of an Enum.
_COMMAND = Phase.COMMAND
_CONTENT = Phase.CONTENT
_FINAL = Phase.FINAL
_OPENING = Phase.OPENING
_CLOSED = Phase.CLOSED
_READY = Phase.READY


class OutboundConnection(asyncio.Protocol):
    """One connection to one server."""

    __slots__ = (
        "_deadline",
        "_expires",
        "_loop",
        "_paused",
        "_rings",
        "_timeouts",
        "_timer",
        "_transport",
        "_waiter",
        "domains",
        "idle_since",
        "is_overdue",
        "note",
        "on_closed",
        "on_late",
        "on_part",
        "peer_name",
        "session",
        "tls_detail",
        "tls_failure",
    )

    def __init__(
        self, session: ClientSession, peer_name: str, timeouts: Timeouts, loop: asyncio.AbstractEventLoop
    ) -> None:
        """`peer_name` is the endpoint as outcomes and log name it."""
        self.session = session
        self.peer_name = peer_name
        self.on_closed: Callable[[OutboundConnection], None] | None = None
        """Called once when the connection is gone."""
        self.on_late: Callable[[], None] | None = None
        """Called once when a connection that was overdue has all its replies or is gone."""
        self.on_part: Callable[[], None] | None = None
        """Called when some of the replies to a message have come, and not all."""
        self.is_overdue = False
        """True after a `send` that ended at the deadline while the server had the whole message."""
        self.idle_since = 0.0
        """When the last transaction ended, in the loop's time."""
        self.domains: set[str] = set()
        """Recipient domains named in this session, for RCPTDOMAINMAX."""
        self.note: object = None
        """What whoever opened it keeps with it."""
        self.tls_failure: FailureType | None = None
        """What went wrong with TLS on the way to this session, where that did not matter (level `may`)."""
        self.tls_detail = ""
        """More about it, for log and TLS reports."""
        self._loop = loop
        self._timeouts = timeouts
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.Handle | None = None  # in uvloop no TimerHandle when the time has come
        self._rings = math.inf
        self._deadline = math.inf
        self._expires = math.inf
        self._paused = False

    @property
    def usable(self) -> bool:
        """True when a transaction may begin."""
        return self.session.phase is _READY

    @property
    def transport(self) -> asyncio.Transport:
        """The transport. Raises RuntimeError when there is none any more."""
        if self._transport is None:
            raise RuntimeError("the connection has no transport")
        return self._transport

    # What callers use.

    async def wait_open(self, deadline: float) -> None:
        """Wait while the server opens the session: until it is READY, CLOSED or wants STARTTLS."""
        self._deadline = deadline
        await self._wait_turn()
        self._rest()

    def tls_started(
        self, transport: asyncio.Transport, *, verified: bool, bindings: Mapping[str, bytes]
    ) -> None:
        """STARTTLS succeeded: go on over this transport."""
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.session.tls_started(verified=verified, channel_bindings=bindings)
        self._flush()

    async def send(self, mailing: Mailing, content: Content | None, deadline: float) -> None:
        """One transaction; what happened is in `mailing`, and in `failure` when the session ended.

        `content` is needed when the mailing has none of its own. `deadline` is in the loop's time. Raises
        CancelledError only; RuntimeError when the connection is not usable.
        """
        session = self.session
        self._deadline = deadline
        session.begin_mailing(mailing)
        transport = self._transport
        out = session.bytes_to_send()
        if out and transport is not None:
            transport.write(out)
        if session.waiting:
            await self._wait_turn()
        if content is not None and session.phase is _CONTENT:
            await self._stream(mailing, content)
        if self.is_overdue and session.waiting:
            return
        self.is_overdue = False  # the replies came in the same moment
        self._expires = math.inf
        self.idle_since = self._loop.time()

    def overdue(self) -> Reply:
        """What is to be said of a message whose reply has not come by the deadline."""
        return self._late_reply("deadline")

    async def check(self, exchange: Exchange, deadline: float) -> None:
        """An exchange without content. Raises as `send` does."""
        self._deadline = deadline
        self.session.begin(exchange)
        self._flush()
        await self._wait_turn()
        self._rest()

    def quit(self) -> None:
        """End politely: QUIT, and close when it is answered or after `QUIT_TIME`."""
        self.session.quit()
        if self._transport is None:
            return
        if self.session.phase is Phase.QUITTING:
            self._flush()
            self._deadline = self._loop.time() + QUIT_TIME
            self._limit()
        else:
            self._transport.close()

    def abort(self, reply: Reply) -> None:
        """End at once; `reply` is why."""
        self.session.fail(reply)
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the connection stands."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        """Asyncio: octets have come."""
        session = self.session
        session.receive_data(data)
        transport = self._transport
        if transport is None:
            return
        out = session.bytes_to_send()
        if out:
            transport.write(out)
        if session.waiting:
            if self.on_part is not None and session.phase is _FINAL:
                self.on_part()
            self._limit()
            return
        if session.phase is _CLOSED:
            # What is still in the write buffer has lost its meaning; the server may never read it.
            transport.abort()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        elif self.on_late is not None:
            self._end_late()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the connection is gone."""
        self._transport = None
        self.session.receive_end(str(exc) if exc else "closed by the next server")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()
        if self.on_closed is not None:
            self.on_closed(self)

    def pause_writing(self) -> None:
        """Asyncio: the write buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Asyncio: the write buffer has room."""
        self._paused = False
        self._wake()

    # Inside.

    def _flush(self) -> None:
        out = self.session.bytes_to_send()
        if out and self._transport is not None:
            self._transport.write(out)

    async def _wait_turn(self) -> None:
        session = self.session
        while session.waiting and not self.is_overdue:
            self._limit()
            await self._sleep()

    async def _wait_room(self) -> None:
        """Wait until the write buffer has room or the session is over."""
        while self._paused and self.session.phase is _CONTENT:
            await self._sleep()

    async def _sleep(self) -> None:
        """Wait until the loop has something to tell; cancelled, the connection is closed."""
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        except asyncio.CancelledError:
            self.abort(CANCELLED)
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        elif self.on_late is not None and not self.session.waiting:
            self._end_late()

    def _end_late(self) -> None:
        heard, self.on_late = self.on_late, None
        self.is_overdue = False
        self._rest()
        if heard is not None:
            heard()

    def _rest(self) -> None:
        self._expires = math.inf
        self.idle_since = self._loop.time()

    async def _stream(self, mailing: Mailing, content: Content) -> None:
        session = self.session
        try:
            since_turn = 0
            for chunk in content.chunks():
                for start in range(0, len(chunk), PIECE):
                    piece = chunk if len(chunk) <= PIECE else chunk[start : start + PIECE]
                    self.transport.write(session.content(piece))
                    since_turn += len(piece)
                    self._limit()
                    if self._paused:
                        since_turn = 0
                        await self._wait_room()
                    if since_turn >= TURN:
                        since_turn = 0
                        await self._turn()
                    if session.phase is not _CONTENT:
                        return
            if not content.is_wanted():  # the last moment
                raise AbandonedError("nobody waits for it any more")
            self.transport.write(session.end_of_content())
        except BareLineEnd as error:
            mailing.decide(Reply(554, BARE_LINE_END.enhanced, BARE_LINE_END.text, str(error)))
            self.abort(BARE_LINE_END)
        except (SpillError, ContentSizeError) as error:
            reply = Reply(451, "4.3.0", UNREADABLE, str(error))
            mailing.decide(reply)
            self.abort(reply)
        await self._wait_turn()

    async def _turn(self) -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.abort(CANCELLED)
            raise

    # Time.

    def _limit(self) -> None:
        """Start the time of the present state."""
        phase = self.session.phase
        if phase is _FINAL:
            seconds = self._timeouts.final
        elif phase is _COMMAND:
            seconds = self._timeouts.command
        elif phase is _CONTENT:
            seconds = self._timeouts.block
        elif phase is _OPENING:
            opened = self.session.replied
            seconds = self._timeouts.command if opened else self._timeouts.greeting
        else:
            seconds = QUIT_TIME
        now = self._loop.time()
        self._expires = expires = min(self._deadline, now + seconds)
        timer = self._timer
        if timer is None or self._rings > expires:
            if timer is not None:
                timer.cancel()
            self._timer, self._rings = self._loop.call_at(expires, self._on_timer), expires

    def _on_timer(self) -> None:
        self._timer = None
        if self._expires == math.inf or self._transport is None:
            return
        now = self._loop.time()
        if now < self._expires - 0.001:
            self._timer, self._rings = self._loop.call_at(self._expires, self._on_timer), self._expires
            return
        why = "deadline" if self._expires >= self._deadline else "timeout"
        if why == "deadline" and self.session.phase is _FINAL and not self.is_overdue:
            self.is_overdue = True
            self._deadline = now + LATE_TIME
            self._limit()
            self._wake()
            return
        self.abort(self._late_reply(why))

    def _late_reply(self, why: str) -> Reply:
        cause = f"{why} in state {self.session.phase.value} at {self.peer_name}"
        return Reply(451, "4.4.2", "The next server did not answer in time", cause)
