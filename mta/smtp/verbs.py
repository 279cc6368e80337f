"""The verbs of the server session, one function each: argument in, event or refusal out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mta.envelope import Envelope, Recipient
from mta.reply import Reply
from mta.smtp import events as ev
from mta.smtp import server_replies as replies
from mta.smtp.inbound_message import TOO_LARGE, BdatReader
from mta.smtp.parameters import apply_mail_parameters, apply_rcpt_parameters
from mta.smtp.state import AUTH, BDAT, COMMANDS, READY, out_of_order
from mta.smtp.syntax import (
    SyntaxProblem,
    parse_auth_argument,
    parse_auth_response,
    parse_bdat_argument,
    parse_etrn_argument,
    parse_helo_argument,
    parse_lookup_argument,
    parse_mail,
    parse_rcpt,
)
from mta.smtp.xclient import parse_xclient, parse_xforward

if TYPE_CHECKING:
    from mta.smtp.server import ServerSession

MAX_AUTH_LINE = 12288
"""Octets of a line of a SASL exchange, AUTH itself included (RFC 4954 section 4)."""
TLS_HANDSHAKE = b"\x16\x03"
"""Type and major version of the record with which a handshake of TLS begins, whatever its version."""


def _hello(session: ServerSession, verb: str, argument: bytes) -> ev.Event:
    lmtp = session.settings.protocol == "lmtp"
    if (verb == "LHLO") is not lmtp:
        wanted = "LHLO" if lmtp else "EHLO"
        return session.refuse(Reply(500, "5.5.1", f"this server wants {wanted}"), verb)
    return ev.Hello(verb, parse_helo_argument(argument))


def _ehlo(session: ServerSession, argument: bytes) -> ev.Event:
    return _hello(session, "EHLO", argument)


def _helo(session: ServerSession, argument: bytes) -> ev.Event:
    return _hello(session, "HELO", argument)


def _lhlo(session: ServerSession, argument: bytes) -> ev.Event:
    return _hello(session, "LHLO", argument)


def _mail(session: ServerSession, argument: bytes) -> ev.Event:
    keywords = session.keywords
    session.group_failed = False
    session.excused = 0
    domain = session.settings.qualify_domain
    address, parameters = parse_mail(argument, smtputf8_ok="SMTPUTF8" in keywords, qualify_domain=domain)
    envelope = Envelope(address)
    if parameters:
        apply_mail_parameters(envelope, parameters, keywords, session.settings.parameter_limits)
        envelope.parameters = parameters
    if 0 < session.settings.max_transactions <= session.transactions:
        return session.refuse(replies.TOO_MANY_MESSAGES, "MAIL")
    if envelope.size > session.settings.max_size:
        session.group_failed = True
        return session.refuse(TOO_LARGE, "MAIL")
    return ev.MailFrom(envelope)


def _rcpt(session: ServerSession, argument: bytes) -> ev.Event | None:
    envelope = session.envelope
    assert envelope is not None
    domain = session.settings.qualify_domain
    address, parameters = parse_rcpt(argument, smtputf8_ok=envelope.smtputf8, qualify_domain=domain)
    recipient = Recipient(address)
    if parameters:
        apply_rcpt_parameters(recipient, parameters, session.keywords)
        recipient.parameters = parameters
    if len(envelope.recipients) >= session.settings.max_recipients:
        # Not an error of the client: it sends the rest in another transaction (RFC 5321 4.5.3.1.10).
        return _excuse(session, replies.TOO_MANY_RECIPIENTS, "RCPT")
    return ev.RcptTo(envelope, recipient)


def _data(session: ServerSession, argument: bytes) -> ev.Event:
    envelope = session.envelope
    assert envelope is not None
    if argument:
        return session.refuse(Reply(501, "5.5.4", "DATA takes no argument"), "DATA")
    if envelope.body == "BINARYMIME":
        return session.refuse(replies.BINARY_NEEDS_BDAT, "DATA")
    return ev.DataStart(envelope)


def _swallow(session: ServerSession, size: int, reply: Reply) -> None:
    """Read a chunk that has no place, then say why."""
    session.message = BdatReader.swallow(size, reply, session.state)
    session.state = BDAT


def _bdat(session: ServerSession, argument: bytes) -> ev.Event | None:
    envelope = session.envelope
    assert envelope is not None
    size, last = parse_bdat_argument(argument)
    if "CHUNKING" not in session.keywords:
        _swallow(session, size, replies.NOT_IMPLEMENTED)
        return None
    if session.message is None:
        session.message = BdatReader(session.settings, binary=envelope.body == "BINARYMIME")
        session.message.begin_chunk(size, last)
        return ev.DataStart(envelope)
    assert isinstance(session.message, BdatReader)
    session.message.begin_chunk(size, last)
    session.state = BDAT
    return None


def _rset(session: ServerSession, argument: bytes) -> ev.Event | None:
    if argument:
        return session.refuse(Reply(501, "5.5.4", "RSET takes no argument"), "RSET")
    session.put(replies.OK)
    return session.reset()


def _noop(session: ServerSession, argument: bytes) -> ev.Event | None:
    session.put(replies.OK)
    return None


def _quit(session: ServerSession, argument: bytes) -> ev.Event:
    session.put(replies.BYE)
    return ev.Closed()


def _vrfy(session: ServerSession, argument: bytes) -> ev.Event:
    text, _ = parse_lookup_argument(argument, smtputf8_ok="SMTPUTF8" in session.keywords)
    return ev.Verify(text)


def _expn(session: ServerSession, argument: bytes) -> ev.Event:
    return session.refuse(replies.NOT_IMPLEMENTED, "EXPN")


def _help(session: ServerSession, argument: bytes) -> ev.Event | None:
    verbs = " ".join(sorted(verb for verb in COMMANDS if _is_served(session, verb)))
    session.put(Reply(214, "2.0.0", f"commands: {verbs}"))
    return None


def _is_served(session: ServerSession, verb: str) -> bool:
    """Whether a verb leads anywhere in this session: what HELP names."""
    if verb in ("EHLO", "HELO", "LHLO"):
        return (verb == "LHLO") is (session.settings.protocol == "lmtp")
    keyword = _KEYWORDS.get(verb)
    return verb != "EXPN" and (keyword is None or keyword in session.keywords)


_KEYWORDS = {"BDAT": "CHUNKING"} | {
    verb: verb for verb in ("AUTH", "ETRN", "STARTTLS", "XCLIENT", "XFORWARD")
}
"""The extensions that have verbs of their own."""


def _etrn(session: ServerSession, argument: bytes) -> ev.Event:
    if "ETRN" not in session.keywords:
        return session.refuse(replies.NOT_IMPLEMENTED, "ETRN")
    etrn = parse_etrn_argument(argument)
    return ev.Etrn(etrn.prefix + etrn.name)


def _auth(session: ServerSession, argument: bytes) -> ev.Event:
    if session.authenticated:
        return session.refuse(replies.AUTH_TWICE, "AUTH")
    if session.mechanisms and not session.keywords:  # a scanner of the last century
        return session.refuse(replies.AUTH_NEEDS_EHLO, "AUTH")
    if "AUTH" not in session.keywords:
        refuse = (
            replies.AUTH_NEEDS_TLS
            if session.settings.starttls and not session.tls
            else replies.NOT_IMPLEMENTED
        )
        return session.refuse(refuse, "AUTH")
    mechanism, initial = parse_auth_argument(argument)
    if mechanism not in session.mechanisms:
        return session.refuse(replies.NO_MECHANISM, "AUTH")
    return ev.AuthStart(mechanism, initial)


def auth_line(session: ServerSession, line: bytes) -> ev.Event:
    """A line of a SASL exchange (RFC 4954 section 4)."""
    try:
        response = parse_auth_response(line)
    except SyntaxProblem as problem:
        return auth_line_problem(session, problem.reply)
    if response is None:
        return auth_line_problem(session, replies.AUTH_CANCELLED)
    return ev.AuthResponse(response)


def auth_line_problem(session: ServerSession, reply: Reply) -> ev.Event:
    """A line that is no response ends the exchange."""
    session.state = READY
    session.put_refusal(reply)
    return ev.AuthCancelled()


def _excuse(session: ServerSession, reply: Reply, verb: str) -> ev.Event | None:
    """Refuse what is no error of the client's, told once a transaction.

    It becomes an error when there are more of them than a message may have recipients.
    """
    session.excused += 1
    if session.excused > session.settings.max_recipients:
        return session.refuse(reply, verb)
    session.put(reply)
    return ev.Refused(reply, verb) if session.excused == 1 else None


def tls_problem(session: ServerSession, beginning: bytes) -> Reply | None:
    """The reply to a line that begins a handshake: a program is set to TLS from the first octet."""
    if session.tls or session.state is AUTH or not beginning.startswith(TLS_HANDSHAKE):
        return None
    return replies.TLS_TOO_EARLY


def length_problem(session: ServerSession, beginning: bytes, size: int) -> Reply | None:
    """What is wrong with a line of `size` octets, longer than other commands may be, with this beginning."""
    # Clients send their token with the command, though RFC 4954 wants 512 octets kept.
    if session.state is AUTH or (session.mechanisms and beginning.upper() == b"AUTH "):
        return replies.AUTH_LINE_TOO_LONG if size > MAX_AUTH_LINE else None
    return replies.LINE_TOO_LONG


def misplaced(session: ServerSession, verb: str, argument: bytes) -> ev.Event | None:
    """Refuse a command that is not legal in the session's state."""
    reply = out_of_order(verb, session.state, session.settings.protocol == "lmtp")
    if verb == "BDAT":
        # The chunk comes whatever we answer (RFC 3030 section 2).
        try:
            size, _ = parse_bdat_argument(argument)
        except SyntaxProblem as problem:
            return session.refuse(problem.reply, verb)
        _swallow(session, size, reply)
        return None
    if session.group_failed and verb in ("RCPT", "DATA"):
        return _excuse(session, reply, verb)  # the rest of a pipelined group: no fault of its own
    return session.refuse(reply, verb)


def _starttls(session: ServerSession, argument: bytes) -> ev.Event:
    if argument:
        return session.refuse(Reply(501, "5.5.4", "STARTTLS takes no argument"), "STARTTLS")
    if session.tls:
        return session.refuse(replies.TLS_ACTIVE, "STARTTLS")
    if not session.settings.starttls:
        return session.refuse(replies.NOT_IMPLEMENTED, "STARTTLS")
    return ev.StartTls()


def _xclient(session: ServerSession, argument: bytes) -> ev.Event:
    if not session.trusted_xclient:
        return session.refuse(Reply(550, "5.7.0", "insufficient authorization"), "XCLIENT")
    return ev.Xclient(parse_xclient(argument))


def _xforward(session: ServerSession, argument: bytes) -> ev.Event:
    if not session.trusted_xforward:
        return session.refuse(Reply(550, "5.7.0", "insufficient authorization"), "XFORWARD")
    return ev.Xforward(parse_xforward(argument))


HANDLERS: dict[str, Callable[[ServerSession, bytes], ev.Event | None]] = {
    "EHLO": _ehlo,
    "HELO": _helo,
    "LHLO": _lhlo,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _data,
    "BDAT": _bdat,
    "RSET": _rset,
    "NOOP": _noop,
    "QUIT": _quit,
    "VRFY": _vrfy,
    "EXPN": _expn,
    "HELP": _help,
    "ETRN": _etrn,
    "AUTH": _auth,
    "STARTTLS": _starttls,
    "XCLIENT": _xclient,
    "XFORWARD": _xforward,
}
"""What to do for each verb of `mta.smtp.state.COMMANDS`."""
