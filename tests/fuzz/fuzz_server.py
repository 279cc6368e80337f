"""Invariant: whatever a client sends, nothing raises, replies are well formed and do not depend on the cuts.

Run ``python -m tests.fuzz.fuzz_server [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with
generated octets by the unit tests. No exception is allowed. A client sends groups and waits for the answers
after each. Fed whole, octet by octet, in pieces, and with answers that come late, a session tells its driver
the same and says the same, until the client breaks a rule of pipelining (RFC 2920 section 3.1), which only
some of these can notice. A message is complete only after MAIL, RCPT and DATA or BDAT were accepted for it.
Nothing that follows STARTTLS in clear is ever seen (RFC 3207 section 5).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from mta.envelope import Envelope, Recipient
from mta.reply import MAX_REPLY_LINE, Reply
from mta.smtp import events as ev
from mta.smtp.extensions import EXTENSIONS
from mta.smtp.server import ServerSession
from mta.smtp.server_replies import SYNCHRONISATION
from mta.smtp.server_settings import ServerSettings
from mta.smtp.state import State
from mta.smtp.verbs import MAX_AUTH_LINE
from tests.fuzz.fuzz_wire import cuts

WAIT = 0xFF
"""The client waits for all answers before it goes on."""
TOKENS = (
    b"EHLO c.test\r\n", b"HELO c.test\r\n", b"LHLO c.test\r\n", b"MAIL FROM:<a@x.test>\r\n",
    b"MAIL FROM:<> BODY=BINARYMIME SMTPUTF8\r\n", b"MAIL FROM:<a@x.test> PRDR SIZE=9\r\n",
    b"RCPT TO:<b@y.test>\r\n", b"RCPT TO:<postmaster>\r\n", b"DATA\r\n", b"BDAT 4\r\n", b"BDAT 5 LAST\r\n",
    b"BDAT 0 LAST\r\n", b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n", b"VRFY b\r\n", b"EXPN b\r\n", b"HELP\r\n",
    b"ETRN @x.test\r\n", b"AUTH PLAIN YQ==\r\n", b"AUTH LOGIN\r\n", b"AUTH X-Y =\r\n", b"YWJj\r\n", b"*\r\n",
    b"STARTTLS\r\n", b"XCLIENT ADDR=192.0.2.1 NAME=a.test\r\n", b"XFORWARD ADDR=192.0.2.1\r\n", b"\r\n.\r\n",
    b".\r\n", b"\r\n..", b"abc\r\n", b"\r\n", b"\r", b"\n", b"\0", b"x" * 600, b"x" * 2100, b"A" * 12300,
    b"BDAT 99999\r\n", b"BDAT", b" LAST", b"MAIL FROM:", b"RCPT TO:", b" SIZE=", b"<", b">", b"\xc3\xa9",
    b"GET / HTTP/1.1\r\n", b"TURN\r\n", b"\xff",
)  # fmt: skip
"""What octets from 128 on stand for, so that a short input goes far into a session."""

REPLIES = (
    None,
    None,
    None,
    Reply(250, "2.6.0", "an answer of its own\nin two lines"),
    Reply(450, "4.2.0", "later"),
    Reply(550, "5.7.1", "no"),
    Reply(421, "4.3.2", "go away", close=True),
)
"""What the driver may answer; None is the usual positive reply."""

SETTINGS = tuple(
    ServerSettings(
        "mx.test",
        protocol=protocol,
        max_size=2000,
        max_recipients=3,
        max_transactions=4,
        max_errors=6,
        max_idle_commands=8,
        normalise_line_ends=mend,
        strip_nul=mend,
        offered=frozenset(extension.keyword for extension in EXTENSIONS),
        starttls=True,
        require_tls=require_tls,
    )
    for protocol in ("smtp", "submission", "lmtp")
    for mend in (False, True)
    for require_tls in (False, True)
)


@dataclass(slots=True)
class Run:
    """A session and what has come of it."""

    session: ServerSession
    answers: bytes
    """Each octet chooses an answer, over and over."""
    late: bool
    """Answers come when all of a group has been received."""
    asked: int = 0
    events: list[ev.Event] = field(default_factory=list)
    content: bytes = b""
    said: list[bytes] = field(default_factory=list)
    """What was said in answer to each group."""
    broken: bool = False
    """A rule of pipelining was broken."""
    sound: int = 0
    """Groups before that."""
    envelope: Envelope | None = None
    """Of the MAIL that was accepted and is not over."""
    recipients: list[Recipient] = field(default_factory=list)
    started: bool = False
    """The message was asked for."""

    def play(self, pieces: Sequence[bytes]) -> None:
        """Send a group and take all answers."""
        session = self.session
        for piece in pieces:
            session.receive_data(piece)
            if not self.late:
                self._pump()
        self._pump()
        if session.state is State.TLS:
            session.tls_started()
            assert session.buffered == 0
            assert session.next_event() is None
        self.said.append(session.data_to_send())
        self.sound += not self.broken
        assert session.buffered <= MAX_AUTH_LINE or session.state is State.CLOSED
        _well_formed(self.said[-1])

    def _pump(self) -> None:
        session = self.session
        while (event := session.next_event()) is not None:
            assert session.state is not State.TLS
            match event:
                case ev.DataChunk():
                    self.content += event.data
                    continue
                case ev.Refused():
                    self.broken |= event.reply == SYNCHRONISATION
                case ev.Reset():
                    assert self.envelope is not None
                    self._over()
                case ev.DataEnd():
                    self._complete(event)
                case _ if session.is_waiting:
                    self._answer(event)
            assert not session.is_waiting
            self.events.append(event)

    def _answer(self, event: ev.Event) -> None:
        choice = self._choice()
        session = self.session
        if isinstance(event, ev.Hello):
            session.mechanisms = ("PLAIN", "LOGIN", "X-Y")
        if isinstance(event, ev.AuthStart | ev.AuthResponse) and choice & 8:
            session.challenge(b"more")
        else:
            reply = REPLIES[choice & 7] if choice & 7 < len(REPLIES) else None
            connected_broken = isinstance(event, ev.Connected) and reply is None and session.buffered
            self.broken |= bool(connected_broken)
            if reply is None or reply.is_positive:
                self._accepted(event)
            elif isinstance(event, ev.DataStart | ev.Hello):
                self._over()
            session.answer(reply)

    def _accepted(self, event: ev.Event) -> None:
        match event:
            case ev.MailFrom():
                assert self.envelope is None
                self.envelope = event.envelope
            case ev.RcptTo():
                assert event.envelope is self.envelope
                self.recipients.append(event.recipient)
            case ev.DataStart():
                assert event.envelope is self.envelope
                assert not self.started
                self.started = True
            case ev.Hello() | ev.Xclient():
                self._over()

    def _over(self) -> None:
        self.envelope, self.recipients, self.started, self.content = None, [], False, b""

    def _complete(self, event: ev.DataEnd) -> None:
        """The message is complete: hold it to what the session promises, and answer."""
        assert event.envelope is self.envelope
        assert event.envelope.recipients == self.recipients != []
        assert self.started
        content = self.content
        self._over()
        if event.problem is None:
            assert len(content) <= self.session.settings.max_size
            if event.envelope.body != "BINARYMIME":
                assert content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
                assert b"\0" not in content
            assert not (event.plain and b"\n." in b"\n" + content)
            self.events.append(ev.DataChunk(content))
        choice = self._choice()
        each = [Reply(250, "2.0.0", "stored") if choice & 16 else Reply(550, "5.1.1", "no such user")]
        each += [Reply(450, "4.2.0", "later")] * (len(event.envelope.recipients) - 1)
        reply = event.problem or (REPLIES[choice & 7] if choice & 7 < len(REPLIES) else None)
        self.session.answer_data(reply or Reply(250, "2.0.0", "delivered"), each if choice & 8 else None)

    def _choice(self) -> int:
        self.asked += 1
        return self.answers[self.asked % len(self.answers)]


def check(data: bytes) -> None:
    """Take the way from the first octets and what the client sends from the rest."""
    if len(data) < 10:
        return
    settings = SETTINGS[data[0] % len(SETTINGS)]
    flags, sizes, answers = data[1], data[2:4], data[4:10]
    groups = [expand(group) for group in data[10:].split(bytes((WAIT,)))]
    early, groups = (groups[0], groups[1:]) if flags & 8 else (b"", groups)
    runs = []
    for late, size in ((False, b""), (True, b"\1"), (False, b"\1"), (False, sizes)):
        session = ServerSession(
            settings, tls=bool(flags & 1), trusted_xclient=bool(flags & 2), trusted_xforward=bool(flags & 4)
        )
        run = Run(session, answers, late)
        session.receive_data(early)
        for group in [b"", *groups]:
            run.play([group] if not size else list(cuts(group, size)))
        runs.append(run)
        _end(run)
    _agree(runs)


def expand(group: bytes) -> bytes:
    return b"".join(
        [TOKENS[octet - 128] if 128 <= octet < 128 + len(TOKENS) else bytes((octet,)) for octet in group]
    )


def _agree(runs: Sequence[Run]) -> None:
    """All ways to cut and answer come to the same, until a rule is broken."""
    whole = runs[0]
    for run in runs[1:]:
        sound = min(run.sound, whole.sound)
        assert run.said[:sound] == whole.said[:sound]
        assert run.events == whole.events or run.broken or whole.broken


def _end(run: Run) -> None:
    """The driver ends the session, as by a timeout; then nothing more comes of it."""
    session = run.session
    session.answer(Reply(421, "4.4.2", "too slow", close=True))
    session.data_to_send()
    session.receive_data(b"NOOP\r\n")
    assert session.next_event() is None
    assert session.data_to_send() == b""


def _well_formed(octets: bytes) -> None:
    """RFC 5321 section 4.2: each line has a code, all lines of a reply the same one."""
    assert octets == b"" or octets.endswith(b"\r\n")
    code = b""
    for line in octets.split(b"\r\n")[:-1]:
        assert b"\r" not in line
        assert b"\n" not in line
        assert len(line) + 2 <= MAX_REPLY_LINE
        assert line[:3].isdigit()
        assert line[:1] in b"2345"
        assert line[3:4] in (b"-", b" ")
        assert code in (b"", line[:3])
        code = line[:3] if line[3:4] == b"-" else b""
    assert code == b""


def main() -> None:
    """Fuzz until a failure or the end of ``-runs`` or ``-max_total_time``."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
