"""Which command in which state: the transitions of a server session as one table.

Theory of operation. A session is in exactly one state:

  GREETING   connected, not yet greeted: anything the client says now is an early talker's
  EARLY      it has talked: it is told so, and sent away
  START      greeted, or TLS just started: EHLO, HELO or LHLO must come first
  READY      introduced: a mail transaction, AUTH, STARTTLS or XCLIENT may begin
  MAIL       MAIL was accepted (RFC 5321 section 3.3)
  RCPT       at least one RCPT was accepted
  DATA       octets of the message follow, up to CRLF "." CRLF
  BDAT       a chunk of the message follows, counted (RFC 3030)
  CHUNKS     between two chunks: only BDAT or the end of the transaction
  FINAL      the message is complete and waits for its answer
  AUTH       lines of a SASL exchange follow (RFC 4954)
  TLS        STARTTLS was answered 220: the next octets are a handshake
  CLOSED     nothing is read any more

`COMMANDS` gives, for each verb, the states in which it is legal and how it behaves in a pipelined group.
All changes of state happen in `server.py`; nothing else assigns one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from mta.reply import Reply


class State(Enum):
    """The state of a server session."""

    GREETING = auto()
    EARLY = auto()
    START = auto()
    READY = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    BDAT = auto()
    CHUNKS = auto()
    FINAL = auto()
    AUTH = auto()
    TLS = auto()
    CLOSED = auto()

    __hash__ = object.__hash__  # Enum's is a Python function, and each command looks its state up


# Names of their own: before Python 3.12 a look at an Enum's attribute goes through a hook of its class.
GREETING, EARLY, START, READY, MAIL, RCPT, DATA, BDAT, CHUNKS, FINAL, AUTH, TLS, CLOSED = State

_ANY = frozenset({START, READY, MAIL, RCPT, CHUNKS})
_INTRODUCED = _ANY - {START}
READING = _ANY | {FINAL, AUTH}
"""States in which lines are read."""

NEED_HELO = Reply(503, "5.5.1", "introduce yourself first: EHLO")
NEED_LHLO = Reply(503, "5.5.1", "introduce yourself first: LHLO")
NESTED_MAIL = Reply(503, "5.5.1", "a mail transaction is already under way")
NEED_MAIL = Reply(503, "5.5.1", "MAIL comes first")
NEED_RCPT = Reply(554, "5.5.1", "no valid recipients")
LMTP_NEED_RCPT = Reply(503, "5.5.1", "no valid recipients")  # RFC 2033 section 4.2
IN_CHUNKS = Reply(503, "5.5.1", "only BDAT or RSET may come between the chunks of a message")
IN_TRANSACTION = Reply(503, "5.5.1", "not during a mail transaction")


@dataclass(slots=True, frozen=True)
class CommandRule:
    """One verb: where it is legal, and what it means for the rest of a pipelined group.

    `last` - the command must be the last of a group (RFC 2920 section 3.1, RFC 4954 section 4, RFC 3207
    section 4): octets behind it are a protocol violation. `idle` - it moves no mail and counts against
    the limit of such commands. `plain` - it is allowed before TLS on a listener that requires TLS.
    """

    states: frozenset[State]
    last: bool = False
    idle: bool = False
    plain: bool = False


COMMANDS: dict[str, CommandRule] = {
    "EHLO": CommandRule(_ANY, last=True, idle=True, plain=True),
    "HELO": CommandRule(_ANY, last=True, idle=True, plain=True),
    "LHLO": CommandRule(_ANY, last=True, idle=True, plain=True),
    "MAIL": CommandRule(frozenset({READY})),
    "RCPT": CommandRule(frozenset({MAIL, RCPT})),
    "DATA": CommandRule(frozenset({RCPT}), last=True),
    "BDAT": CommandRule(frozenset({RCPT, CHUNKS})),
    "RSET": CommandRule(_ANY, idle=True),
    "NOOP": CommandRule(_ANY, last=True, idle=True, plain=True),
    "QUIT": CommandRule(_ANY, last=True, plain=True),
    "VRFY": CommandRule(_INTRODUCED, last=True, idle=True),
    "EXPN": CommandRule(_INTRODUCED, last=True, idle=True),
    "HELP": CommandRule(_ANY, last=True, idle=True, plain=True),
    "ETRN": CommandRule(frozenset({READY}), last=True, idle=True),
    "AUTH": CommandRule(frozenset({READY}), last=True),
    "STARTTLS": CommandRule(frozenset({READY}), last=True, plain=True),
    "XCLIENT": CommandRule(frozenset({START, READY}), last=True),
    "XFORWARD": CommandRule(frozenset({READY})),
}
"""Every verb that the engine knows."""

OBSOLETE = frozenset({"SEND", "SOML", "SAML", "TURN", "ATRN"})
"""Verbs of RFC 821 and others that are known and not implemented: 502, not 500."""

FOREIGN = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE"})
"""Verbs of HTTP: a browser is being abused to talk to us; the session ends at once."""


def out_of_order(verb: str, state: State, lmtp: bool) -> Reply:
    """The reply to a known verb that is not legal in `state`."""
    if state is START:
        return NEED_LHLO if lmtp else NEED_HELO
    if state is CHUNKS:
        return IN_CHUNKS
    if verb == "MAIL":
        return NESTED_MAIL
    if verb == "RCPT":
        return NEED_MAIL
    if verb in ("DATA", "BDAT"):
        if state is READY:
            return NEED_MAIL
        return LMTP_NEED_RCPT if lmtp else NEED_RCPT
    return IN_TRANSACTION
