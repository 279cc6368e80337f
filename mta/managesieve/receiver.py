"""What is said in a session of ManageSieve: logins, TLS, and the desk of whoever has logged in."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from mta.login import LoginDialog
from mta.managesieve.desk import Desk, Owner
from mta.managesieve.session import LoggedOut, ManageSieveSession, Request, SessionSettings
from mta.net.arrival import Arrival
from mta.net.connection import TIMEOUT, Connection, Timeouts
from mta.net.dialogue import Work
from mta.net.tls import served_certificate
from mta.net.tlsinfo import channel_bindings, tls_info
from mta.policy.verdict import Verdict
from mta.reception import Journal
from mta.reply import Reply
from mta.session import Session
from mta.smtp import events as ev
from mta.smtp.auth import Authenticator

LET_IN = Verdict()


@dataclass(slots=True, frozen=True)
class Counter:
    """What the sessions of a listener share."""

    name: str
    hostname: str
    settings: SessionSettings
    authenticator: Authenticator
    journal: Journal
    new_id: Callable[[], str]
    clock: Callable[[], float]
    """The loop's, in seconds."""
    login_timeout: float
    """Seconds for a login after the connection."""
    extensions: Callable[[str], tuple[str, ...]]
    """What scripts of a user may require; "" for somebody who has not logged in."""
    owner: Callable[[str], Owner]
    """The scripts of a user. Raises ValueError for one who cannot have any."""
    executor: Executor
    tell: Callable[[Session, Request, str], None]
    """Told what was done: the request and the answer."""


class PatientConnection(Connection):
    """A connection whose user may think for longer between two commands than a mail server does."""

    __slots__ = ("_idle",)

    def __init__(self, idle: float, *rest: Any) -> None:
        """`idle` is in seconds; the rest is the connection's."""
        super().__init__(*rest)
        self._idle = idle

    def tick(self, now: float, timeouts: Timeouts, draining: bool) -> None:
        """Look at the time; called once a second."""
        super().tick(now, replace(timeouts, command=self._idle), draining)


class ManageSieveReceiver:
    """The decisions of one session (`mta.net.dialogue.Receiver`)."""

    def __init__(self, counter: Counter, arrival: Arrival, connection: Connection) -> None:
        """Make the session of a client that was let in."""
        self._counter = counter
        self._arrival = arrival
        self._connection: Connection | None = connection
        self._desk: Desk | None = None
        self._since = counter.clock()
        self.session = Session(
            counter.new_id(),
            counter.name,
            "managesieve",
            arrival.client_address,
            arrival.client_port,
            arrival.server_address,
            arrival.server_port,
            arrival.proxied,
        )

    def begin(self, ssl_object: ssl.SSLObject | None) -> ManageSieveSession:
        """The server session; `ssl_object` is that of implicit TLS."""
        counter = self._counter
        self._sieve = sieve = ManageSieveSession(counter.settings, tls=ssl_object is not None)
        self._login = LoginDialog(counter.authenticator, self.session, sieve, self._logged_in, self._admit)
        counter.journal.connected(self.session)
        if ssl_object is not None:
            self._note_tls(ssl_object)
        self._greet()
        return sieve

    # --- what the connection tells -----------------------------------------------------------------

    def handle(self, event: object) -> Work | None:
        """Answer an event, or return the coroutine that will."""
        match event:
            case Request():
                return self._serve(event)
            case ev.AuthStart():
                return self._login.start(event.mechanism, event.initial)
            case ev.AuthResponse():
                return self._login.respond(event.data)
            case ev.AuthCancelled():
                self._login.cancel()
            case LoggedOut():
                self._forget()
                self._sieve.answer()
        return None

    def tls_started(self, ssl_object: ssl.SSLObject) -> None:
        """STARTTLS is done: what is offered is told again."""
        self._note_tls(ssl_object)
        self._greet()

    def handshake_failed(self, error: Exception) -> None:
        """STARTTLS came to nothing."""
        self._counter.journal.handshake_failed(self.session, error)

    def failed(self, error: Exception) -> None:
        """A coroutine of ours failed."""
        self._counter.journal.failed(self.session, error)

    def lost(self, error: Exception | None) -> None:
        """The client is gone."""
        self._arrival.leave()
        self._login.cancel()
        self._connection = None
        self.session.errors = self._sieve.errors
        self._counter.journal.closed(self.session, error)

    def tick(self, now: float) -> None:
        """Once a second: who does not log in makes room."""
        late = not self.session.user and now - self._since > self._counter.login_timeout
        if late and self._connection is not None:
            self._connection.end(TIMEOUT)

    # --- login and requests ------------------------------------------------------------------------

    def _note_tls(self, ssl_object: ssl.SSLObject) -> None:
        self.session.tls = tls_info(ssl_object)
        self._login.bind(channel_bindings(ssl_object, served_certificate(ssl_object)))
        self._counter.journal.tls_started(self.session)

    def _greet(self) -> None:
        self._offer("")
        self._sieve.greet(f"{self._counter.hostname} ManageSieve ready")

    def _offer(self, user: str) -> None:
        self._sieve.mechanisms = self._login.mechanisms()
        self._sieve.extensions = self._counter.extensions(user)

    def _admit(self, session: Session) -> Verdict:
        """Nobody comes in who cannot have scripts: that is the one answer (RFC 5804 section 4)."""
        try:
            self._desk = Desk(self._counter.owner(session.user))
        except ValueError as error:
            return Verdict(Reply(535, "5.7.8", str(error), close=True))
        return LET_IN

    def _logged_in(self, mechanism: str, refusal: Reply | None) -> None:
        session, counter = self.session, self._counter
        if refusal is not None:
            counter.journal.login_failed(session, mechanism, refusal)
            return
        counter.journal.logged_in(session)
        self._offer(session.user)
        self._sieve.logged_in(session.user)

    def _forget(self) -> None:
        session = self.session
        session.user = session.auth_mechanism = ""
        session.addresses = ()
        self._desk = None
        self._since = self._counter.clock()
        self._sieve.logged_in("")
        self._offer("")

    async def _serve(self, request: Request) -> None:
        assert self._desk is not None  # the session asks for a login first
        loop = asyncio.get_running_loop()
        answer, octets = await loop.run_in_executor(self._counter.executor, self._desk.do, request)
        self._counter.tell(self.session, request, f"{answer.kind} {answer.code}".strip())
        self._sieve.finish(answer, octets)
