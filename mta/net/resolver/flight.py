"""One question on its way: who is asked, when somebody else is asked, and what the answer is worth.

A `Flight` is shared by all who ask the same question meanwhile. It lives in callbacks of the loop, without a
task of its own: a datagram comes, a server refuses, the time for an answer is over. Each server is asked in
turn until one answers; those asked before may still answer. A server that fails (SERVFAIL and other codes)
makes us ask the next one; when all failed, one that said SERVFAIL is asked again with checking disabled, and
only if it knows the answer then is the name BOGUS and not just FAIL.

An answer of a server that cannot vouch does not overrule the SERVFAIL of one that can: it counts only if that
one has no answer with checking disabled either. Nor does it count while one that can is still looking, for
`VOUCHING` seconds. Else only that answer would have to be forged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from mta.net.resolver import wire
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.server import Server, Ticket

RESEND = 1.0
"""Seconds without an answer after which the next server is asked, or the same again: a burst may overflow a
server's buffer. A resolver that is still looking is not disturbed by it."""
RESENDS = 4
"""Times that one server is asked at the most; what is not answered then waits for its deadline."""
VOUCHING = 3.0
"""Seconds for which a server that can vouch is waited for when one that cannot has answered. To find out that
a name does not validate takes longer than a second."""
MALFORMED = "malformed reply"
UNREACHABLE = "no resolver answers"
TIMEOUT = "no answer in time"

Landed = Callable[["Flight", Answer, int], None]
"""Told once: the answer, and its size on the wire (0 when it may not be kept)."""


class Flight:
    """A question that is being asked: `key` is the name in wire form and the number of the type."""

    __slots__ = (
        "_concluding",
        "_landed",
        "_loop",
        "_next",
        "_order",
        "_reason",
        "_spare",
        "_tasks",
        "_tickets",
        "_timer",
        "_tried",
        "_verdicts",
        "asked",
        "counters",
        "done",
        "key",
        "waiters",
    )

    def __init__(
        self,
        key: tuple[bytes, int],
        servers: Sequence[Server],
        landed: Landed,
        counters: dict[str, int],
    ) -> None:
        """Ask `servers` (at least one), the first one first; `start` begins.

        `landed` may be called before `start` returns; not after `abandon`.
        """
        self.key = key
        self.waiters: set[asyncio.Future[Answer]] = set()
        self.counters = counters
        self.done = False
        self._loop = asyncio.get_running_loop()
        self.asked = wire.question(*key)
        self._order = servers
        self._next = 0
        self._landed = landed
        self._tickets: list[tuple[Server, Ticket]] = []
        self._tried: list[Server] = []  # in the order of asking, over whatever transport
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._verdicts: dict[Server, bool] = {}  # those that failed; True where it was SERVFAIL
        self._concluding = False
        self._reason = ""
        self._spare: tuple[Answer, int] | None = None  # of a server that cannot vouch, after one that can

    def start(self) -> None:
        """Ask the first server."""
        self._ask_next()

    def abandon(self, *, late: bool) -> None:
        """Nobody waits any more: forget the query. `late`: servers had their time, and lose by it."""
        if not self.done:
            if late:
                for server in self._tried:
                    server.failed()
            self._clean()

    def _clean(self) -> None:
        self.done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for server, ticket in self._tickets:
            server.forget(ticket)
        self._tickets.clear()
        for task in self._tasks:
            task.cancel()

    def _land(self, answer: Answer, size: int) -> None:
        self._clean()
        self._landed(self, answer, size)

    def _ask_next(self) -> None:
        """Ask the next server in turn that has not failed; conclude when all have."""
        while len(self._verdicts) < len(self._order):
            server = self._order[self._next % len(self._order)]
            self._next += 1
            if server in self._verdicts:
                continue
            if self._send(server, check_disabled=False):
                if self._timer is None:
                    self._timer = self._loop.call_later(RESEND, self._late)
                return
            self._verdicts[server] = False
        self._conclude()

    def _late(self) -> None:
        self._timer = None
        self.counters["resent"] += 1
        if self._tried:
            self._tried[-1].failed()
        if self._next < RESENDS * len(self._order) and not self._concluding:
            self._ask_next()

    def _send(self, server: Server, *, check_disabled: bool) -> bool:
        if server.pinned is not None:
            self._tried.append(server)
            self.counters["sent"] += 1
            self._over_tcp(server, check_disabled)
            return True
        tail = wire.query_tail(self.asked, check_disabled=check_disabled)
        try:
            ticket = server.send(tail, _Asking(self, server, check_disabled))
        except OSError as error:
            server.failed()
            self._reason = self._reason or error.strerror or UNREACHABLE
            return False
        self.counters["sent"] += 1
        self._tried.append(server)
        self._tickets.append((server, ticket))
        return True

    def receive(self, server: Server, message: bytes, check_disabled: bool, *, over_tcp: bool) -> None:
        """A message that repeats our question came from `server`."""
        if self.done:
            return
        try:
            reply = wire.read_reply(message, self.asked)
        except wire.WireError:
            self.failed(server, MALFORMED, check_disabled)
            return
        server.answered()
        if reply.truncated:
            if over_tcp:
                self.failed(server, MALFORMED, check_disabled)
            else:
                self._over_tcp(server, check_disabled)
            return
        answered = reply.rcode in (wire.NOERROR, wire.NXDOMAIN)
        if check_disabled:
            # That it answers now says that only the validation had failed before.
            if answered:
                self._land(Answer(Status.BOGUS, reason=self._reason), len(message))
            else:
                self._give_up(self._reason, len(message))
        elif answered:
            secure = reply.authenticated and server.trusted
            answer = Answer(
                Status.SECURE if secure else Status.INSECURE,
                reply.records,
                reply.ttl,
                reply.error,
                reply.rcode != wire.NXDOMAIN,
                reply.canonical,
            )
            doubted = any(said and one.trusted for one, said in self._verdicts.items())
            awaited = self._awaited()
            if server.trusted or not (doubted or awaited):
                self._land(answer, len(message))
                return
            if self._spare is None and awaited:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self._loop.call_later(VOUCHING, self._not_vouched)
            self._spare = answer, len(message)
            if not awaited and not self._concluding:
                self._conclude()
        else:
            text = reply.rcode_text + (f" ({reply.error})" if reply.error else "")
            self.failed(server, text, check_disabled, servfail=reply.rcode == wire.SERVFAIL)

    def failed(self, server: Server, reason: str, check_disabled: bool, *, servfail: bool = False) -> None:
        """`server` has no answer for us: the next one is asked, and in the end it is found out why."""
        if self.done:
            return
        if self._concluding:
            if check_disabled:  # else it was asked before, and only the conclusion is waited for
                self._give_up(self._reason or reason)
            return
        if servfail or not self._reason:
            self._reason = reason
        self._verdicts[server] = servfail
        if self._spare is None:
            self._ask_next()
        elif not self._awaited():
            self._conclude()

    def _awaited(self) -> list[Server]:
        """Those who can vouch, were asked, and have said nothing yet."""
        return [one for one in self._tried if one.trusted and one not in self._verdicts]

    def _not_vouched(self) -> None:
        """Who can vouch has said nothing for long: what there is counts."""
        self._timer = None
        if not self._concluding:
            for server in self._awaited():
                server.failed()
            self._give_up(self._reason)

    def _conclude(self) -> None:
        """Nobody else is asked. One that said SERVFAIL is asked whether it is the validation that fails."""
        self._concluding = True
        for server, servfail in self._verdicts.items():
            if servfail and self._send(server, check_disabled=True):
                return
        self._give_up(self._reason)

    def _give_up(self, reason: str, size: int = 0) -> None:
        """Nobody who can vouch has an answer: what else there is counts, or nothing."""
        self._land(*(self._spare or (Answer(Status.FAIL, reason=reason), size)))

    def _over_tcp(self, server: Server, check_disabled: bool) -> None:
        task = self._loop.create_task(self._tcp(server, check_disabled))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tcp(self, server: Server, check_disabled: bool) -> None:
        self.counters["tcp"] += 1
        ident = server.ident()
        tail = wire.query_tail(self.asked, check_disabled=check_disabled)
        try:
            message = await server.ask_over_tcp(ident + tail)
        except (OSError, EOFError) as error:
            server.failed()
            self.failed(server, f"over TCP: {type(error).__name__}", check_disabled)
            return
        if message[:2] == ident and wire.is_reply(message, self.asked):
            # From the loop, so that landing does not cancel the task that it runs in.
            self._loop.call_soon(partial(self.receive, server, message, check_disabled, over_tcp=True))
        else:
            self.failed(server, MALFORMED, check_disabled)


class _Asking:
    """One query of a flight, as a server's sockets see it."""

    __slots__ = ("_check_disabled", "_flight", "_server")

    def __init__(self, flight: Flight, server: Server, check_disabled: bool) -> None:
        self._flight = flight
        self._server = server
        self._check_disabled = check_disabled

    def received(self, message: bytes) -> bool:
        flight = self._flight
        if not wire.is_reply(message, flight.asked):
            flight.counters["mismatched"] += 1
            return False
        flight.receive(self._server, message, self._check_disabled, over_tcp=False)
        return True

    def refused(self) -> None:
        self._flight.failed(self._server, "connection refused", self._check_disabled)
