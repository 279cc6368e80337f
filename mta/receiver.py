"""What is said in a session: every event of the server session meets the policy, the login and the mail here.

One `Receiver` a session; what all sessions of a listener share is in `Reception`. Events are answered at
once where that is possible; what has to wait (a question to a back end, a delay, a delivery) is a coroutine
that the connection runs.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from mta.afterwards import keep_running
from mta.content import MessageBuffer, SpillError
from mta.delivery.fold import Answer
from mta.envelope import Envelope
from mta.introduction import become, forget_client, take_forwarded
from mta.lastanswer import LastAnswer
from mta.login import LoginDialog
from mta.net.arrival import Arrival
from mta.net.connection import Connection
from mta.net.dialogue import Work
from mta.net.tls import served_certificate
from mta.net.tlsinfo import channel_bindings, tls_info
from mta.policy.verdict import Verdict, or_else
from mta.reception import Reception
from mta.reply import Reply
from mta.session import Session
from mta.smtp import events as ev
from mta.smtp.server import ServerSession
from mta.smtp.server_replies import NOT_IMPLEMENTED, UNKNOWN
from mta.trace import ReceivedTemplate
from mta.transaction import DISK_FULL, OUR_FAULT


class Receiver:
    """The decisions of one session (`mta.net.dialogue.Receiver`)."""

    __slots__ = (
        "_answered",
        "_arrival",
        "_connection",
        "_content",
        "_login",
        "_reception",
        "_smtp",
        "_spill_problem",
        "_trace",
        "session",
    )

    def __init__(self, reception: Reception, arrival: Arrival, connection: Connection) -> None:
        """Make the session of a client that was let in."""
        self._reception = reception
        self._arrival = arrival
        self._connection: Connection | None = connection
        self._content: MessageBuffer | None = None
        self._spill_problem: Reply | None = None
        self._login: LoginDialog | None = None
        self._trace: ReceivedTemplate | None = None
        self._answered: LastAnswer | None = None
        self.session = Session(
            reception.new_id(),
            reception.name,
            reception.protocol,
            arrival.client_address,
            arrival.client_port,
            arrival.server_address,
            arrival.server_port,
            arrival.proxied,
            tls=arrival.tls,
        )
        if reception.evaluator is not None:
            self.session.authentication = reception.evaluator.of(self.session)

    def begin(self, ssl_object: ssl.SSLObject | None) -> ServerSession:
        """The server session; `ssl_object` is that of implicit TLS."""
        reception, address = self._reception, self.session.client_address
        self._smtp = ServerSession(
            reception.settings,
            tls=ssl_object is not None or self.session.tls is not None,
            trusted_xclient=reception.trusts_xclient(address),
            trusted_xforward=reception.trusts_xforward(address),
        )
        self._smtp.asks_unknown = reception.policy.hears_unknown
        if reception.authenticator is not None:
            self._login = LoginDialog(
                reception.authenticator, self.session, self._smtp, self._logged_in, reception.policy.auth
            )
        reception.journal.connected(self.session)
        if ssl_object is not None:
            self.tls_started(ssl_object)
        return self._smtp

    # --- what the connection tells -----------------------------------------------------------------

    def handle(self, event: ev.Event) -> Work | None:
        """Answer an event, or return the coroutine that will."""
        return _HANDLERS[type(event)](self, event)

    def tls_started(self, ssl_object: ssl.SSLObject) -> None:
        """Note what is known of TLS; everything that was said before it is void (RFC 3207 section 4.2)."""
        session = self.session
        self._reception.policy.aborted(session)
        session.tls = tls_info(ssl_object)
        forget_client(session)
        self._trace = None
        if self._login is not None:
            self._login.bind(channel_bindings(ssl_object, served_certificate(ssl_object)))
        self._reception.journal.tls_started(session)

    def handshake_failed(self, error: Exception) -> None:
        """STARTTLS came to nothing."""
        self._reception.journal.handshake_failed(self.session, error)

    def failed(self, error: Exception) -> None:
        """What we did for an event failed; a message that it was about is over, with all that is known."""
        self._drop_content()
        if isinstance(self._smtp.waiting, ev.MailFrom | ev.DataStart | ev.DataEnd):
            self._message_over()
        self._reception.journal.failed(self.session, error)

    def lost(self, error: Exception | None) -> None:
        """The client is gone. If the last answer may not have reached it, remember what was delivered."""
        self._arrival.leave()
        if self._content is not None:
            size, envelope = self._content.size, self._smtp.envelope  # None when we have ended the session
            self._reception.journal.broken_off(self.session, envelope, size, error)
        self._drop_content()
        self._reception.transactions.left(self.session)
        if self._login is not None:
            self._login.cancel()
        self._connection = self._login = None  # the session is freed at once and not by the collector
        self.session.over = True
        self._reception.policy.ended(self.session)
        self._reception.journal.closed(self.session, error)
        if self._smtp.waiting is None:
            self._forget_sender()
        last, self._answered = self._answered, None
        if last is None or error is None or not last.may_be_unread(self._reception.clock()):
            return
        if delivered := last.delivered():
            remember = self._reception.transactions.remember
            keep_running(remember(self.session, last.envelope, last.content, last.transaction, delivered))

    # --- events ------------------------------------------------------------------------------------

    def _connected(self, event: ev.Connected) -> Work | None:
        delay = self._reception.greet_delay
        if delay:
            return self._greet_late(delay)
        return self._decide(self._reception.policy.connect(self.session), "connect", None, "")

    async def _greet_late(self, delay: float) -> None:
        await asyncio.sleep(delay)
        if not self.session.over:
            await self._decide_later(self._reception.policy.connect(self.session), "connect", None, "")

    def _hello(self, event: ev.Hello) -> Work | None:
        reception, session = self._reception, self.session
        session.helo = event.name
        session.esmtp = event.verb != "HELO"
        self._trace = None
        self._drop_content()
        reception.policy.aborted(session)
        if self._login is not None and not session.user:
            self._smtp.mechanisms = self._login.mechanisms()
        return self._decide(reception.policy.helo(session), "helo", None, event.name)

    def _mail(self, event: ev.MailFrom) -> Work | None:
        self._answer_is_read()
        session, envelope = self.session, event.envelope
        arrival = self._arrival
        if arrival.limits is not None and arrival.client is not None:
            refusal = arrival.limits.refuse_message(arrival.client)
            if refusal is not None:
                return self._decide(Verdict(refusal), "mail", envelope, "")
        session.transactions += 1
        if session.authentication is not None:
            session.authentication.begin(envelope)
        return self._decide(self._reception.policy.mail(session, envelope), "mail", envelope, "")

    def _rcpt(self, event: ev.RcptTo) -> Work | None:
        envelope, recipient = event.envelope, event.recipient
        text = recipient.address.text
        arrival = self._arrival
        if arrival.limits is not None and arrival.client is not None:
            refusal = arrival.limits.refuse_recipient(arrival.client)
            if refusal is not None:
                return self._decide(Verdict(refusal), "rcpt", envelope, text)
        verdict = self._reception.policy.rcpt(self.session, envelope, recipient)
        if isinstance(verdict, Verdict) and verdict.reply is None:
            foreseen = self._reception.transactions.foresee(self.session, envelope, recipient)
            if foreseen is not None:
                verdict = Verdict(foreseen, verdict.delay)
        return self._decide(verdict, "rcpt", envelope, text)

    def _data_start(self, event: ev.DataStart) -> Work | None:
        self._content = self._reception.transactions.new_content()
        self._spill_problem = None
        begun = self._reception.policy.begin(self.session, event.envelope)
        return self._decide(begun, "data", event.envelope, "")

    def _data_chunk(self, event: ev.DataChunk) -> None:
        if self._content is not None:
            try:
                self._content.append(event.data)
            except SpillError as error:
                self._spill_problem = replace(DISK_FULL, cause=str(error))
                self._drop_content()

    def _data_end(self, event: ev.DataEnd) -> Work | None:
        content, self._content = self._content, None
        problem, self._spill_problem = event.problem or self._spill_problem, None
        transaction = f"{self.session.id}.{self.session.transactions}"
        if problem is not None or content is None:
            size = content.size if content is not None else 0
            answer = self._reception.transactions.refused(
                self.session, event.envelope, transaction, size, problem or OUR_FAULT
            )
            self._answer_data(answer)
            return None
        content.plain = event.plain
        return self._complete(event.envelope, content, transaction)

    async def _complete(self, envelope: Envelope, content: MessageBuffer, transaction: str) -> None:
        reception = self._reception
        trace = self._trace
        if trace is None:
            hostname, client_name = reception.settings.hostname, self.session.client_name
            trace = self._trace = ReceivedTemplate(self.session, hostname, client_name=client_name)
        answer = await reception.transactions.complete(
            self.session, envelope, content, trace, transaction, self._is_there
        )
        self._answer_data(answer)
        if self._is_there():
            ahead, now = self._smtp.buffered > 0, reception.clock()
            self._answered = LastAnswer(envelope, content, transaction, answer, now, ahead)

    def _answer_data(self, answer: Answer) -> None:
        self._smtp.answer_data(answer.final, answer.each)
        self._message_over()

    def _message_over(self) -> None:
        self.session.forwarded.clear()  # XFORWARD is about one message
        self._forget_sender()
        self._reception.policy.aborted(self.session)

    def _forget_sender(self) -> None:
        """What was found out about a message keeps the message in memory, and about a session the session."""
        session = self.session
        if session.authentication is not None:
            session.authentication.transaction = None
            if session.over:
                session.authentication = None

    def tick(self, now: float) -> None:
        """Once a second: a client that had time enough to read the last answer has read it."""
        if self._answered is not None and not self._answered.may_be_unread(now):
            self._answered = None

    def _reset(self, event: ev.Reset) -> None:
        self._drop_content()
        self._message_over()

    def _unknown(self, event: ev.Unknown) -> Work | None:
        found = or_else(self._reception.policy.unknown(self.session, event.line), UNKNOWN)
        return self._decide(found, "", self._smtp.envelope, "")

    def _refused(self, event: ev.Refused) -> Work | None:
        what = event.what.decode("ascii", "backslashreplace")
        self._reception.journal.refused(self.session, event.verb, event.reply, self._smtp.envelope, what)
        return self._slow_down()

    def _closed(self, event: ev.Closed) -> None:
        self._answer_is_read()

    def _answer_is_read(self) -> None:
        """The client goes on: it has read the last answer, unless it had not waited for that."""
        if self._answered is not None and not self._answered.ahead:
            self._answered = None

    def _verify(self, event: ev.Verify) -> None:
        self._smtp.answer()

    def _etrn(self, event: ev.Etrn) -> None:
        etrn = self._reception.etrn
        self._smtp.answer(NOT_IMPLEMENTED if etrn is None else etrn(self.session, event.argument))

    # --- login -------------------------------------------------------------------------------------

    def _auth_start(self, event: ev.AuthStart) -> Work | None:
        assert self._login is not None  # mechanisms were offered
        return self._login.start(event.mechanism, event.initial)

    def _auth_response(self, event: ev.AuthResponse) -> Work | None:
        assert self._login is not None
        return self._login.respond(event.data)

    def _auth_cancelled(self, event: ev.AuthCancelled) -> Work | None:
        if self._login is not None:
            self._login.cancel()
        return self._slow_down()

    def _logged_in(self, mechanism: str, refusal: Reply | None) -> None:
        if refusal is None:
            self._trace = None
            self._reception.journal.logged_in(self.session)
        else:
            self._reception.journal.login_failed(self.session, mechanism, refusal)

    # --- trusted peers -----------------------------------------------------------------------------

    def _xclient(self, event: ev.Xclient) -> Work | None:
        """The session is somebody else's from now on."""
        self._reception.policy.ended(self.session)
        become(self.session, event.attributes)
        self._trace = None
        return self._decide(self._reception.policy.connect(self.session), "connect", None, "")

    def _xforward(self, event: ev.Xforward) -> None:
        take_forwarded(self.session, event.attributes)
        self._smtp.answer()

    # --- verdicts ----------------------------------------------------------------------------------

    def _decide(
        self, verdict: Verdict | Awaitable[Verdict], stage: str, envelope: Envelope | None, what: str
    ) -> Work | None:
        if isinstance(verdict, Verdict) and not verdict.delay:
            reply = verdict.reply
            if reply is None or reply.is_positive:
                self._smtp.answer(reply)
                return None
            return self._refuse(reply, stage, envelope, what)
        return self._decide_later(verdict, stage, envelope, what)

    async def _decide_later(
        self, verdict: Verdict | Awaitable[Verdict], stage: str, envelope: Envelope | None, what: str
    ) -> None:
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        if verdict.delay:
            await asyncio.sleep(verdict.delay)
        reply = verdict.reply
        if reply is None or reply.is_positive:
            self._smtp.answer(reply)
            return
        slow = self._refuse(reply, stage, envelope, what)
        if slow is not None:
            await slow

    def _refuse(self, reply: Reply, stage: str, envelope: Envelope | None, what: str) -> Work | None:
        self._reception.journal.refused(self.session, stage, reply, envelope, what)
        self._smtp.answer(reply)
        if stage in ("mail", "data"):  # there is no transaction any more
            self._message_over()
        return self._slow_down()

    def _slow_down(self) -> Work | None:
        """A client with many errors gets its refusals late; the connection sends them after the wait."""
        reception = self._reception
        errors = self.session.errors = self._smtp.errors
        if errors <= reception.errors_before_delay or not reception.error_delay:
            return None
        return asyncio.sleep(reception.error_delay)

    def _is_there(self) -> bool:
        """False once the client is gone: `lost` may come before the coroutine of a message has begun."""
        return self._connection is not None and self._connection.alive

    def _drop_content(self) -> None:
        if self._content is not None:
            self._content.close()
            self._content = None


_HANDLERS: dict[type, Callable[[Receiver, Any], Work | None]] = {
    ev.Connected: Receiver._connected,
    ev.Hello: Receiver._hello,
    ev.MailFrom: Receiver._mail,
    ev.RcptTo: Receiver._rcpt,
    ev.DataStart: Receiver._data_start,
    ev.DataChunk: Receiver._data_chunk,
    ev.DataEnd: Receiver._data_end,
    ev.Reset: Receiver._reset,
    ev.Refused: Receiver._refused,
    ev.Closed: Receiver._closed,
    ev.Verify: Receiver._verify,
    ev.Etrn: Receiver._etrn,
    ev.AuthStart: Receiver._auth_start,
    ev.AuthResponse: Receiver._auth_response,
    ev.AuthCancelled: Receiver._auth_cancelled,
    ev.Xclient: Receiver._xclient,
    ev.Xforward: Receiver._xforward,
    ev.Unknown: Receiver._unknown,
}
