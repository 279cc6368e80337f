"""The server session: SMTP, submission and LMTP, sans-IO (RFC 5321, 6409, 2033).

Feed it with `receive_data`, take events with `next_event` until it returns None, answer those that ask,
send what `data_to_send` yields. No clock, no socket, no DNS: timeouts, TLS and decisions are the driver's.

Promises: one command is in work at a time and answers come in the order of commands (RFC 2920); nothing
that was received before STARTTLS is seen after it (RFC 3207 section 5); a message ends only where
`mta.smtp.wire` says; whatever the client sends, no exception comes out. The session refuses by itself
what is wrong by syntax, order or limit and informs the driver by `Refused`.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence

from mta.envelope import Envelope
from mta.reply import Reply
from mta.smtp import events as ev
from mta.smtp import server_replies as replies
from mta.smtp.answers import ANSWERS
from mta.smtp.inbound_message import SMALL_CHUNK, MessageReader
from mta.smtp.server_settings import ServerSettings
from mta.smtp.state import (
    AUTH,
    BDAT,
    CHUNKS,
    CLOSED,
    COMMANDS,
    DATA,
    EARLY,
    FINAL,
    FOREIGN,
    GREETING,
    MAIL,
    OBSOLETE,
    READING,
    READY,
    START,
)
from mta.smtp.syntax import SyntaxProblem, split_command
from mta.smtp.verbs import HANDLERS, auth_line, auth_line_problem, length_problem, misplaced, tls_problem

MAX_COMMAND_LINE = 2048
"""Octets of a command line. RFC 5321 asks for 512 and each extension for more; 2048 holds them all."""
NAMING = frozenset({"HELO", "EHLO", "LHLO", "MAIL", "RCPT"})
"""Commands whose argument is no secret: of AUTH it may be a password."""


class ServerSession:
    """One session, seen from the server."""

    __slots__ = (
        "_buffer",
        "_idle",
        "_out",
        "_position",
        "_too_long",
        "_waiting",
        "asks_unknown",
        "authenticated",
        "envelope",
        "errors",
        "excused",
        "group_failed",
        "keywords",
        "mechanisms",
        "message",
        "more",
        "settings",
        "state",
        "tls",
        "transactions",
        "trusted_xclient",
        "trusted_xforward",
    )

    def __init__(
        self,
        settings: ServerSettings,
        *,
        tls: bool = False,
        trusted_xclient: bool = False,
        trusted_xforward: bool = False,
    ) -> None:
        """`tls` is True for implicit TLS; the trusted flags offer XCLIENT and XFORWARD to this peer."""
        self.settings = settings
        self.state = GREETING
        self.tls = tls
        self.trusted_xclient = trusted_xclient
        self.trusted_xforward = trusted_xforward
        self.mechanisms: tuple[str, ...] = ()
        """SASL mechanisms to offer; set by the driver before it answers `Hello`."""
        self.authenticated = False
        self.keywords: frozenset[str] = frozenset()
        self.envelope: Envelope | None = None
        self.asks_unknown = False
        """Whether the driver is asked about lines that are no command; set by it."""
        self.errors = 0
        self.excused = 0
        self.transactions = 0
        self._idle = 0
        self._buffer = b""
        self._position = 0
        self._too_long: Reply | None = None
        self.group_failed = False
        self.message: MessageReader | None = None
        self.more = True
        """False when after the answer to the last event more octets are needed for another one."""
        self._waiting: ev.Event | None = None
        self._out: list[bytes] = []

    # --- octets ------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take octets from the client."""
        if self._position < len(self._buffer):
            self._buffer = self._buffer[self._position :] + data
        else:
            self._buffer = data
        self._position = 0

    @property
    def buffered(self) -> int:
        """Octets received and not yet used: the driver stops reading when they grow."""
        return len(self._buffer) - self._position

    @property
    def takes_leave(self) -> bool:
        """True when the last that waits to be read is QUIT."""
        return self._buffer[self._position :][-7:].upper() in (b"QUIT\r\n", b"\nQUIT\r\n")

    @property
    def is_waiting(self) -> bool:
        """True while an event that asks has no answer."""
        return self._waiting is not None

    @property
    def waiting(self) -> ev.Event | None:
        """The event that asks and has no answer yet."""
        return self._waiting

    def data_to_send(self) -> bytes:
        """Octets for the client since the last call."""
        out = self._out
        if not out:
            return b""
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    # --- events ------------------------------------------------------------------------------------

    def next_event(self) -> ev.Event | None:
        """The next event, None when more octets or an answer are needed."""
        if self._waiting is not None:
            return None
        while True:
            state = self.state
            event: ev.Event | None
            line: bytes | Reply | None
            if state in READING:
                buffer, start = self._buffer, self._position
                if start >= len(buffer):
                    return None
                end = buffer.find(b"\n", start)
                if end <= start or end - start >= MAX_COMMAND_LINE or self._too_long or buffer[end - 1] != 13:
                    line = self._read_odd_line(end)
                    if line is None:
                        return None
                else:
                    self._position = end + 1
                    line = buffer[start : end - 1]
                if isinstance(line, Reply):
                    event = auth_line_problem(self, line) if state is AUTH else self.refuse(line, "")
                else:
                    event = auth_line(self, line) if state is AUTH else self._command(line)
                # The chunk that begins a message may be empty.
                self.more = self._position < len(self._buffer) or self.message is not None
            elif state is DATA or state is BDAT:
                event = self._read_message()
                if event is None and self.state is state:
                    return None
                self.more = True
            elif state is GREETING:
                event = ev.Connected()
            elif state is EARLY:
                event = self.refuse(tls_problem(self, self._buffer) or replies.SYNCHRONISATION, "")
            else:
                return None
            if event is not None:
                if event.asks:
                    self._waiting = event
                return event

    def _read_odd_line(self, end: int) -> bytes | Reply | None:
        """A line that is not simply sound, or what is wrong with it; `end` is where its LF is, negative while
        that is still to come, and then there is None."""
        buffer, start = self._buffer, self._position
        if problem := tls_problem(self, buffer[start : start + 2]):
            return problem
        size = (end + 1 if end >= 0 else len(buffer)) - start
        if size > MAX_COMMAND_LINE and self._too_long is None:
            self._too_long = length_problem(self, buffer[start : start + 5], size)
        if end < 0:
            if self._too_long is not None:
                self._position = len(buffer)
            return None
        self._position = end + 1
        if self._too_long is not None:
            problem, self._too_long = self._too_long, None
            return problem
        if end == start or buffer[end - 1] != 13:
            return replies.BARE_LF
        return buffer[start : end - 1]

    def _command(self, line: bytes) -> ev.Event | None:
        verb, argument = split_command(line)
        rule = COMMANDS.get(verb)
        if rule is None:
            if verb in FOREIGN:
                return self.refuse(replies.FOREIGN, verb)
            if verb in OBSOLETE:
                return self.refuse(replies.NOT_IMPLEMENTED, verb)
            if problem := tls_problem(self, line):
                return self.refuse(problem, "")
            if self.asks_unknown:
                return ev.Unknown(line)
            return self.refuse(replies.UNKNOWN, "")  # what a client made up is nobody's name for anything
        hasty = self._position < len(self._buffer) and verb != "QUIT"
        if hasty and (rule.last or ("CHUNKING" if verb == "BDAT" else "PIPELINING") not in self.keywords):
            # It did not wait for a reply where it must (RFC 2920 section 3.1); a chunk waits for none.
            return self.refuse(replies.SYNCHRONISATION, verb)
        if self.settings.require_tls and not self.tls and not rule.plain:
            return self.refuse(replies.NEED_TLS, verb)
        if self.state not in rule.states:
            return misplaced(self, verb, argument)
        if rule.idle and self._too_idle():
            return self.refuse(replies.TOO_MANY_IDLE, verb)
        try:
            return HANDLERS[verb](self, argument)
        except SyntaxProblem as error:
            if verb == "MAIL":
                self.group_failed = True
            return self.refuse(error.reply, verb, argument if verb in NAMING else b"")

    def refuse(self, reply: Reply, verb: str, what: bytes = b"") -> ev.Event:
        """Refuse a command without asking the driver; too many of them end the session."""
        return ev.Refused(self.put_refusal(reply), verb, what)

    def put(self, reply: Reply) -> None:
        """Queue a reply; one with `close` ends the session."""
        self._out.append(reply.octets or reply.encode())
        if reply.close:
            self.close()

    def put_refusal(self, reply: Reply) -> Reply:
        """Queue a refusal and count it; returns what is sent: one refusal too many becomes a 421."""
        self.errors += 1
        if self.errors > self.settings.max_errors and not reply.close:
            reply = replies.TOO_MANY_ERRORS
        self.put(reply)
        return reply

    def close(self) -> None:
        """Read nothing more; what is queued is still sent."""
        self.state = CLOSED
        self._buffer = b""
        self._position = 0
        self.envelope = None
        self.message = None

    def begin_transaction(self, envelope: Envelope) -> None:
        """MAIL was accepted."""
        self.envelope = envelope
        self.state = MAIL
        self.transactions += 1
        self._idle = 0

    def reset(self) -> ev.Event | None:
        """Give up the transaction, if there is one."""
        had = self.envelope is not None
        self.envelope = None
        self.message = None
        if self.state is not START:
            self.state = READY
        return ev.Reset() if had else None

    # --- message -----------------------------------------------------------------------------------

    def _read_message(self) -> ev.Event | None:
        """The next event of a message; None with the state unchanged asks for more octets."""
        message = self.message
        assert message is not None
        if not message.done and not message.chunk_done:
            if self._position == len(self._buffer):
                return None
            data = self._buffer[self._position :] if self._position else self._buffer
            octets = message.feed(data)
            self._buffer = message.rest
            self._position = 0
            message.rest = b""
            if octets:
                return ev.DataChunk(octets)
            if not message.chunk_done:
                return None
        if message.swallowed is not None:
            reply, self.state = message.swallowed
            self.message = None
            return self.refuse(reply, "BDAT")
        if message.done:
            octets = message.finish()
            if octets:
                return ev.DataChunk(octets)
            self.state = FINAL
            assert self.envelope is not None
            return ev.DataEnd(self.envelope, message.problem, message.plain)
        if message.problem is not None:
            self.put_refusal(message.problem)
            return self.reset()
        self.state = CHUNKS
        if message.chunk_size < SMALL_CHUNK and self._too_idle():
            return self.refuse(replies.TOO_MANY_IDLE, "BDAT")
        self.put(Reply(250, "2.0.0", f"{message.chunk_size} octets received"))
        return None

    def _too_idle(self) -> bool:
        self._idle += 1
        return self._idle > self.settings.max_idle_commands

    # --- answers -----------------------------------------------------------------------------------

    def answer(self, reply: Reply | None = None) -> None:
        """Answer the event that asked; None is the usual positive reply.

        A reply with `close` ends the session. For AUTH a positive reply means success.
        """
        event, self._waiting = self._waiting, None
        if self.state is CLOSED:
            return
        if event is not None:
            ANSWERS[type(event)](self, event, reply)
        elif reply is not None:  # the driver ends the session between two commands: timeout, shutdown
            self.put(reply)

    def challenge(self, data: bytes) -> None:
        """Answer `AuthStart` or `AuthResponse` with one more challenge (334)."""
        self._waiting = None
        self.state = AUTH
        self._out.append(b"334 " + binascii.b2a_base64(data, newline=False) + b"\r\n")

    def answer_data(self, final: Reply, each: Sequence[Reply] | None = None) -> None:
        """Answer `DataEnd`.

        `each` holds one reply per accepted recipient, in order; it is sent in LMTP (RFC 2033 section
        4.2), and in SMTP when the client asked for PRDR and the replies differ. Otherwise `final` alone
        answers.
        """
        event, self._waiting = self._waiting, None
        if self.state is not CLOSED and type(event) is ev.DataEnd:
            self.finish_data(event.envelope, final, each)

    def finish_data(self, envelope: Envelope, final: Reply, each: Sequence[Reply] | None = None) -> None:
        """What `answer_data` does once the event is taken back."""
        if self.settings.protocol == "lmtp":
            for reply in each if each is not None else [final] * len(envelope.recipients):
                self._out.append(reply.encode())
        elif envelope.prdr and each is not None and len({reply.code // 100 for reply in each}) > 1:
            self.put(replies.PRDR_FOLLOWS)
            for reply in each:
                self._out.append(reply.encode())
            self.put(final)
        else:
            self.put(final)
        if final.close:
            self.close()
        else:
            self.reset()

    def tls_started(self) -> None:
        """The handshake is done: start as after connecting, without a greeting (RFC 3207 section 4.2)."""
        self.tls = True
        self.forget_client()
        self.state = START

    def forget_client(self) -> None:
        """Drop what the client said so far, as before its EHLO."""
        self.envelope = None
        self.message = None
        self.keywords = frozenset()
        self.mechanisms = ()
        self.authenticated = False
        self._buffer = b""
        self._position = 0
