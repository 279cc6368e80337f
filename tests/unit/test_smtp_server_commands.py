"""Every command in every state, and in a group with another one behind it, against tables of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mta.smtp.extensions import EXTENSIONS
from mta.smtp.server import ServerSession
from mta.smtp.state import COMMANDS, State
from tests.unit.smtp_dialog import SETTINGS, Driver, codes

ALL = replace(SETTINGS, offered=frozenset(extension.keyword for extension in EXTENSIONS), starttls=True)

TO_STATE = {
    State.START: [],
    State.READY: [b"EHLO x.test\r\n"],
    State.MAIL: [b"EHLO x.test\r\n", b"MAIL FROM:<a@x.test>\r\n"],
    State.RCPT: [b"EHLO x.test\r\n", b"MAIL FROM:<a@x.test>\r\n", b"RCPT TO:<b@y.test>\r\n"],
    State.CHUNKS: [
        b"EHLO x.test\r\n",
        b"MAIL FROM:<a@x.test>\r\n",
        b"RCPT TO:<b@y.test>\r\n",
        b"BDAT 1\r\nx",
    ],
}
"""What a client has said in each of the states in which commands are read."""

LINES = {
    "EHLO": b"EHLO x.test",
    "HELO": b"HELO x.test",
    "LHLO": b"LHLO x.test",
    "MAIL": b"MAIL FROM:<c@x.test>",
    "RCPT": b"RCPT TO:<c@y.test>",
    "DATA": b"DATA",
    "BDAT": b"BDAT 0",
    "RSET": b"RSET",
    "NOOP": b"NOOP",
    "QUIT": b"QUIT",
    "VRFY": b"VRFY b",
    "EXPN": b"EXPN b",
    "HELP": b"HELP",
    "ETRN": b"ETRN x.test",
    "AUTH": b"AUTH PLAIN",
    "STARTTLS": b"STARTTLS",
    "XCLIENT": b"XCLIENT ADDR=192.0.2.1",
    "XFORWARD": b"XFORWARD ADDR=192.0.2.1",
}

# The reply, and the state after it. One that is alone in its cell leaves the session as it was.
ORDER = """
          | START             | READY             | MAIL            | RCPT            | CHUNKS
EHLO      | 250 READY         | 250 READY         | 250 READY       | 250 READY       | 250 READY
HELO      | 250 READY         | 250 READY         | 250 READY       | 250 READY       | 250 READY
LHLO      | 250 READY         | 250 READY         | 250 READY       | 250 READY       | 250 READY
MAIL      | 503 5.5.1         | 250 2.1.0 MAIL    | 503 5.5.1       | 503 5.5.1       | 503 5.5.1
RCPT      | 503 5.5.1         | 503 5.5.1         | 250 2.1.5 RCPT  | 250 2.1.5 RCPT  | 503 5.5.1
DATA      | 503 5.5.1         | 503 5.5.1         | 554 5.5.1       | 354 DATA        | 503 5.5.1
BDAT      | 503 5.5.1         | 503 5.5.1         | 554 5.5.1       | 250 2.0.0 CHUNKS| 250 2.0.0
RSET      | 250 2.0.0         | 250 2.0.0         | 250 2.0.0 READY | 250 2.0.0 READY | 250 2.0.0 READY
NOOP      | 250 2.0.0         | 250 2.0.0         | 250 2.0.0       | 250 2.0.0       | 250 2.0.0
QUIT      | 221 2.0.0 CLOSED  | 221 2.0.0 CLOSED  | 221 2.0.0 CLOSED| 221 2.0.0 CLOSED| 221 2.0.0 CLOSED
VRFY      | 503 5.5.1         | 252 2.5.2         | 252 2.5.2       | 252 2.5.2       | 252 2.5.2
EXPN      | 503 5.5.1         | 502 5.5.1         | 502 5.5.1       | 502 5.5.1       | 502 5.5.1
HELP      | 214 2.0.0         | 214 2.0.0         | 214 2.0.0       | 214 2.0.0       | 214 2.0.0
ETRN      | 503 5.5.1         | 250 2.0.0         | 503 5.5.1       | 503 5.5.1       | 503 5.5.1
AUTH      | 503 5.5.1         | 334 AUTH          | 503 5.5.1       | 503 5.5.1       | 503 5.5.1
STARTTLS  | 503 5.5.1         | 220 2.0.0 TLS     | 503 5.5.1       | 503 5.5.1       | 503 5.5.1
XCLIENT   | 220               | 220 START         | 503 5.5.1       | 503 5.5.1       | 503 5.5.1
XFORWARD  | 503 5.5.1         | 250 2.0.0         | 503 5.5.1       | 503 5.5.1       | 503 5.5.1
"""

MAY_GO_ON = {"MAIL", "RCPT", "BDAT", "RSET", "XFORWARD"}
"""Commands behind which another one may be sent at once. Of all others the client has to read the reply
first: those of RFC 2920 section 3.1 (EHLO, DATA, VRFY, EXPN, QUIT, NOOP), what changes who speaks to whom
(AUTH, STARTTLS, XCLIENT), and those that no RFC gives leave to."""

BEFORE_TLS = {"EHLO", "HELO", "LHLO", "NOOP", "QUIT", "HELP", "STARTTLS"}
"""Commands that are served before TLS where TLS is required (RFC 3207 section 4, and HELP)."""


def _cells() -> list[tuple[str, State, str]]:
    head, *rows = ORDER.strip("\n").splitlines()
    states = [State[name.strip()] for name in head.split("|")[1:]]
    cells = []
    for row in rows:
        verb, *found = (cell.strip() for cell in row.split("|"))
        cells += [(verb, state, cell) for state, cell in zip(states, found, strict=True)]
    return cells


def _in_state(state: State, verb: str) -> Driver:
    settings = replace(ALL, protocol="lmtp") if verb == "LHLO" else ALL
    session = ServerSession(settings, trusted_xclient=True, trusted_xforward=True)
    driver = Driver(session=session, mechanisms=("PLAIN",))
    driver.pump()
    for group in TO_STATE[state]:
        driver.say(group.replace(b"EHLO", b"LHLO") if verb == "LHLO" else group)
    assert session.state is state
    return driver


@pytest.mark.parametrize(("verb", "state", "expected"), _cells())
def test_every_command_in_every_state(verb: str, state: State, expected: str) -> None:
    driver = _in_state(state, verb)
    *reply, last = expected.split()
    after = State[last] if last.isalpha() else state
    assert codes(driver.say(LINES[verb] + b"\r\n")) == [" ".join(reply) if last.isalpha() else expected]
    assert driver.session.state is after


@pytest.mark.parametrize("verb", LINES)
def test_what_may_be_sent_behind_a_command(verb: str) -> None:
    cells = [(state, cell) for named, state, cell in _cells() if named == verb and state is not State.START]
    driver = _in_state(next(state for state, cell in cells if not cell.startswith(("503", "554"))), verb)
    answers = codes(driver.say(LINES[verb] + b"\r\nRSET\r\n"))
    if verb in MAY_GO_ON:
        assert len(answers) == 2
        assert answers[1] == "250 2.0.0"
    else:
        # Of QUIT the reply is the last there is, whatever follows.
        assert answers == ["221 2.0.0" if verb == "QUIT" else "554 5.5.0"]
        assert driver.session.state is State.CLOSED


@pytest.mark.parametrize("verb", LINES)
def test_what_is_served_before_tls_where_it_is_required(verb: str) -> None:
    settings = replace(ALL, require_tls=True, protocol="lmtp" if verb == "LHLO" else "submission")
    session = ServerSession(settings, trusted_xclient=True, trusted_xforward=True)
    driver = Driver(session=session, mechanisms=("PLAIN",))
    driver.pump()
    driver.say(LINES["LHLO" if verb == "LHLO" else "EHLO"] + b"\r\n")
    (answer,) = codes(driver.say(LINES[verb] + b"\r\n"))
    assert (answer[0] == "2") is (verb in BEFORE_TLS)
    assert answer == "530 5.7.0" or verb in BEFORE_TLS


def test_the_tables_have_every_command() -> None:
    assert set(LINES) == {verb for verb, _, _ in _cells()} == set(COMMANDS)
