"""What the session does with the driver's answer, one function for each event that asks.

A reply of None is the usual positive one. `ServerSession.answer` has already taken the event back, so
that the session goes on with the next command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mta.reply import Reply
from mta.smtp import events as ev
from mta.smtp import server_replies as replies
from mta.smtp.extensions import Conditions, Numbers, offer
from mta.smtp.inbound_message import BdatReader, DataReader
from mta.smtp.state import BDAT, CLOSED, DATA, EARLY, RCPT, READY, START, TLS

if TYPE_CHECKING:
    from mta.smtp.server import ServerSession
    from mta.smtp.server_settings import ServerSettings


def _connected(session: ServerSession, event: ev.Connected, reply: Reply | None) -> None:
    if reply is None and session.buffered:
        session.state = EARLY
        return
    session.state = START
    session.put(reply or _greeting(session))
    if reply is not None and not reply.is_positive:
        session.close()


def _greeting(session: ServerSession) -> Reply:
    return session.settings.greeting_reply


def _hello(session: ServerSession, event: ev.Hello, reply: Reply | None) -> None:
    session.reset()  # whatever the answer is: the driver has been told that the message is over
    if reply is not None and not reply.is_positive:
        session.put_refusal(reply)
        return
    settings = session.settings
    session.state = READY
    # Where TLS comes first, a client that is offered AUTH before would give its password away.
    no_login = session.authenticated or (settings.require_tls and not session.tls)
    conditions = (
        None
        if event.verb == "HELO"
        else Conditions(
            session.tls,
            settings.starttls,
            () if no_login else session.mechanisms,
            session.trusted_xclient,
            session.trusted_xforward,
        )
    )
    made = settings.answers.get(conditions)
    if made is None:
        made = settings.answers[conditions] = _introduce(settings, conditions)
    answer, session.keywords = made
    session.put(reply or answer)


def _introduce(settings: ServerSettings, conditions: Conditions | None) -> tuple[Reply, frozenset[str]]:
    if conditions is None:
        return Reply(250, "", settings.hostname), frozenset()
    numbers = Numbers(
        settings.max_size, settings.max_recipients, settings.max_transactions, settings.parameter_limits
    )
    # In LMTP each recipient has its reply in any case.
    enabled = settings.offered - {"PRDR"} if settings.protocol == "lmtp" else settings.offered
    lines, keywords = offer(enabled, numbers, conditions)
    return Reply(250, "", "\n".join((settings.hostname, *lines))), keywords


def _mail(session: ServerSession, event: ev.MailFrom, reply: Reply | None) -> None:
    if reply is None or reply.is_positive:
        session.begin_transaction(event.envelope)
        session.put(reply or replies.SENDER_OK)
    else:
        session.group_failed = True
        session.put_refusal(reply)


def _rcpt(session: ServerSession, event: ev.RcptTo, reply: Reply | None) -> None:
    if reply is None or reply.is_positive:
        event.envelope.recipients.append(event.recipient)
        session.state = RCPT
        session.put(reply or replies.RECIPIENT_OK)
    else:
        session.put_refusal(reply)


def _data_start(session: ServerSession, event: ev.DataStart, reply: Reply | None) -> None:
    chunk = session.message
    if reply is None or reply.is_positive:
        if chunk is not None:
            session.state = BDAT
        else:
            session.message = DataReader(session.settings)
            session.state = DATA
            session.put(reply or replies.GO_AHEAD)
    elif isinstance(chunk, BdatReader) and not reply.close:
        session.envelope = None
        session.message = BdatReader.swallow(chunk.chunk_size, reply, READY)
        session.state = BDAT
    else:
        session.put_refusal(reply)
        if session.state is not CLOSED:
            session.group_failed = True
            session.reset()


def _auth(session: ServerSession, event: ev.AuthStart | ev.AuthResponse, reply: Reply | None) -> None:
    session.state = READY
    if reply is None or reply.is_positive:
        session.authenticated = True
        session.put(reply or replies.AUTHENTICATED)
    else:
        session.put_refusal(reply)


def _starttls(session: ServerSession, event: ev.StartTls, reply: Reply | None) -> None:
    if reply is None or reply.is_positive:
        session.put(reply or replies.READY_FOR_TLS)
        session.state = TLS
    else:
        session.put_refusal(reply)


def _xclient(session: ServerSession, event: ev.Xclient, reply: Reply | None) -> None:
    if reply is None or reply.is_positive:
        session.forget_client()
        session.state = START
        session.put(reply or _greeting(session))
    else:
        session.put_refusal(reply)


def _verify(session: ServerSession, event: ev.Verify, reply: Reply | None) -> None:
    session.put(reply or replies.VRFY)


def _unknown(session: ServerSession, event: ev.Unknown, reply: Reply | None) -> None:
    session.put_refusal(reply or replies.UNKNOWN)


def _data_end(session: ServerSession, event: ev.DataEnd, reply: Reply | None) -> None:
    session.finish_data(event.envelope, reply or replies.OK)


def _other(session: ServerSession, event: ev.Event, reply: Reply | None) -> None:
    session.put(reply or replies.OK)


ANSWERS: dict[type, Callable[[ServerSession, Any, Reply | None], None]] = {
    ev.Connected: _connected,
    ev.Hello: _hello,
    ev.MailFrom: _mail,
    ev.RcptTo: _rcpt,
    ev.DataStart: _data_start,
    ev.DataEnd: _data_end,
    ev.AuthStart: _auth,
    ev.AuthResponse: _auth,
    ev.StartTls: _starttls,
    ev.Xclient: _xclient,
    ev.Xforward: _other,
    ev.Verify: _verify,
    ev.Etrn: _other,
    ev.Unknown: _unknown,
}
"""For each event that asks, what its answer does; `DataEnd` has `ServerSession.answer_data`."""
