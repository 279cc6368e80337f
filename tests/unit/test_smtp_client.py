"""The client session: opening, STARTTLS, AUTH, what is unasked, and that nothing a server says raises."""

from __future__ import annotations

import binascii
from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.address import NULL
from mta.smtp.auth import AuthenticationProtocolError, ClientExchange, NoMechanismError
from mta.smtp.checking import RecipientCheck
from mta.smtp.client import ClientSession, Phase
from mta.smtp.opening import ClientSettings, StartTls, is_put_off, is_sent_away
from tests.fuzz import fuzz_client
from tests.unit.client_dialog import LMTP, SMTP, Step, address, feed, mailing, opened, play

EHLO = b"EHLO mx.test\r\n"
LHLO = b"LHLO mx.test\r\n"
HELO = b"HELO mx.test\r\n"
GREET = b"220 srv.test\r\n"
MAY = replace(SMTP, starttls=StartTls.MAY)
REQUIRE = replace(SMTP, starttls=StartTls.REQUIRE)
OFFERS_TLS = b"250-srv.test\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"
REPLY = b"250 srv.test\r\n"


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("settings", "steps", "phase", "failure"),
    [
        (SMTP, [(b"", GREET), (EHLO, REPLY)], Phase.READY, ""),
        (LMTP, [(b"", GREET), (LHLO, REPLY)], Phase.READY, ""),
        (SMTP, [(b"", b"220-a\r\n220 b\r\n"), (EHLO, REPLY)], Phase.READY, ""),
        (SMTP, [(b"", GREET), (EHLO, b"502 what\r\n"), (HELO, REPLY)], Phase.READY, ""),
        (SMTP, [(b"", GREET), (EHLO, b"502 what\r\n"), (HELO, b"550 no\r\n")], Phase.CLOSED, "451 4.3.2"),
        (SMTP, [(b"", GREET), (EHLO, b"421 bye\r\n")], Phase.CLOSED, "451 4.3.2"),
        (SMTP, [(b"", GREET), (EHLO, b"451 later\r\n")], Phase.CLOSED, "451 4.3.2"),
        (LMTP, [(b"", GREET), (LHLO, b"500 what\r\n")], Phase.CLOSED, "451 4.3.2"),
        (SMTP, [(b"", b"554 no service\r\n")], Phase.CLOSED, "451 4.3.2"),
        (SMTP, [(b"", b"421 busy\r\n")], Phase.CLOSED, "451 4.3.2"),
        (SMTP, [(b"", b"250 odd\r\n")], Phase.CLOSED, "451 4.3.2"),
        (SMTP, [(b"", b"SSH-2.0-OpenSSH\r\n")], Phase.CLOSED, "451 4.5.0"),
        (SMTP, [(b"", GREET + GREET)], Phase.CLOSED, "451 4.3.2"),
        (MAY, [(b"", GREET), (EHLO, REPLY)], Phase.READY, ""),
        (MAY, [(b"", GREET), (EHLO, OFFERS_TLS), (b"STARTTLS\r\n", b"454 no\r\n")], Phase.READY, ""),
        (
            MAY,
            [(b"", GREET), (EHLO, OFFERS_TLS), (b"STARTTLS\r\n", b"421 no\r\n")],
            Phase.CLOSED,
            "451 4.3.2",
        ),
        (
            REQUIRE,
            [(b"", GREET), (EHLO, OFFERS_TLS), (b"STARTTLS\r\n", b"421 no\r\n")],
            Phase.CLOSED,
            "451 4.3.2",
        ),
        (REQUIRE, [(b"", GREET), (EHLO, REPLY)], Phase.CLOSED, "451 4.7.4"),
        (REQUIRE, [(b"", GREET), (EHLO, b"500 x\r\n"), (HELO, REPLY)], Phase.CLOSED, "451 4.7.4"),
        (
            REQUIRE,
            [(b"", GREET), (EHLO, OFFERS_TLS), (b"STARTTLS\r\n", b"454 x\r\n")],
            Phase.CLOSED,
            "451 4.7.4",
        ),
        (REQUIRE, [(b"", GREET), (EHLO, OFFERS_TLS), (b"STARTTLS\r\n", b"220 go\r\n")], Phase.STARTTLS, ""),
    ],
)
def test_opening(settings: ClientSettings, steps: list[Step], phase: Phase, failure: str, step: int) -> None:
    session = ClientSession(settings)
    play(session, steps, step)
    assert session.phase is phase
    assert str(session.failure or "").startswith(failure)
    assert bool(session.failure) is bool(failure)
    assert session.waiting is False


def test_starttls_forgets_what_was_said_in_the_clear() -> None:
    session = ClientSession(REQUIRE)
    play(session, [(b"", GREET), (EHLO, OFFERS_TLS), (b"STARTTLS\r\n", b"220 go\r\n")])
    assert session.bytes_to_send() == b""
    session.tls_started(verified=True, channel_bindings={})
    play(session, [(EHLO, b"250-srv\r\n250 SIZE 5\r\n")])
    assert session.peer.offered == {"SIZE": "5"}
    assert session.peer.encrypted
    assert session.peer.verified
    assert session.phase is Phase.READY


@pytest.mark.parametrize(
    "answer",
    [
        b"220 go\r\n250 injected\r\n",
        b"220 go\r\n2",
        b"220 go\r\n\x16\x03\x01",
        b"220-go\r\n220 on\r\n250-x\r\n",
    ],
)
def test_octets_after_the_220_are_an_injection(answer: bytes) -> None:
    session = ClientSession(REQUIRE)
    play(session, [(b"", GREET), (EHLO, OFFERS_TLS), (b"STARTTLS\r\n", answer)])
    assert session.phase is Phase.CLOSED
    assert session.failure is not None
    assert session.failure.code == 451


def test_octets_before_the_handshake_are_an_injection() -> None:
    session = ClientSession(REQUIRE)
    play(session, [(b"", GREET), (EHLO, OFFERS_TLS), (b"STARTTLS\r\n", b"220 go\r\n")])
    session.receive_data(b"250 injected\r\n")
    assert session.phase is Phase.CLOSED
    with pytest.raises(RuntimeError):
        session.tls_started(verified=True, channel_bindings={})


# AUTH.


class Exchange:
    """A mechanism that answers each challenge with itself in upper case."""

    name = "UPPER"

    def __init__(self, initial: bytes | None, *, complete: bool = True) -> None:
        self._initial = initial
        self.complete = complete

    def initial(self) -> bytes | None:
        return self._initial

    def respond(self, challenge: bytes) -> bytes:
        if challenge == b"evil":
            raise AuthenticationProtocolError("proof is wrong")
        return challenge.upper()


def with_auth(exchange: Exchange) -> ClientSettings:
    def choose(offered: Collection[str], bindings: Mapping[str, bytes], encrypted: bool) -> ClientExchange:
        if "UPPER" not in offered:
            raise NoMechanismError("offered: " + " ".join(offered))
        return exchange

    return replace(SMTP, authenticate=choose)


def b64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


LONG = b"x" * 600


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("exchange", "offer", "steps", "phase"),
    [
        (Exchange(b"hi"), b"auth upper", [(b"AUTH UPPER aGk=\r\n", b"235 ok\r\n")], Phase.READY),
        (Exchange(b""), b"AUTH UPPER", [(b"AUTH UPPER =\r\n", b"235 ok\r\n")], Phase.READY),
        (
            Exchange(None),
            b"AUTH UPPER",
            [(b"AUTH UPPER\r\n", b"334 " + b64(b"a") + b"\r\n"), (b64(b"A") + b"\r\n", b"235 ok\r\n")],
            Phase.READY,
        ),
        (
            Exchange(LONG),
            b"AUTH UPPER",
            [(b"AUTH UPPER\r\n", b"334 \r\n"), (b64(LONG) + b"\r\n", b"235 ok\r\n")],
            Phase.READY,
        ),
        (Exchange(b"hi"), b"AUTH UPPER", [(b"AUTH UPPER aGk=\r\n", b"535 5.7.8 no\r\n")], Phase.CLOSED),
        (Exchange(b"hi"), b"AUTH UPPER", [(b"AUTH UPPER aGk=\r\n", b"421 bye\r\n")], Phase.CLOSED),
        (
            Exchange(b"hi", complete=False),
            b"AUTH UPPER",
            [(b"AUTH UPPER aGk=\r\n", b"235 ok\r\n")],
            Phase.CLOSED,
        ),
        (
            Exchange(b"hi"),
            b"AUTH UPPER",
            [(b"AUTH UPPER aGk=\r\n", b"334 ###\r\n"), (b"*\r\n", b"501 x\r\n")],
            Phase.CLOSED,
        ),
        (
            Exchange(b"hi"),
            b"AUTH UPPER",
            [(b"AUTH UPPER aGk=\r\n", b"334 " + b64(b"evil") + b"\r\n"), (b"*\r\n", b"501 x\r\n")],
            Phase.CLOSED,
        ),
        (Exchange(b"hi"), b"AUTH PLAIN", [], Phase.CLOSED),
        (Exchange(b"hi"), b"SIZE", [], Phase.CLOSED),
    ],
)
def test_auth(exchange: Exchange, offer: bytes, steps: list[Step], phase: Phase, step: int) -> None:
    session = ClientSession(with_auth(exchange))
    play(session, [(b"", GREET), (EHLO, b"250-srv\r\n250 " + offer + b"\r\n"), *steps], step)
    assert session.phase is phase
    if phase is Phase.CLOSED:
        assert session.failure is not None
        assert session.failure.code == 451, "a wrong password of ours must not bounce mail"
        assert "UPPER" in session.failure.cause or "AUTH" in session.failure.cause


def test_challenges_without_end() -> None:
    session = ClientSession(with_auth(Exchange(None)))
    play(session, [(b"", GREET), (EHLO, b"250-srv\r\n250 AUTH UPPER\r\n")])
    for _ in range(50):
        session.receive_data(b"334 " + b64(b"a") + b"\r\n")
    assert session.phase is Phase.CLOSED


# What is unasked.


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (b"421 4.4.2 idle too long\r\n", "451 4.4.2 idle too long"),
        (b"250 what\r\n", "451 4.5.0"),
        (b"garbage\r\n", "451 4.5.0"),
    ],
)
def test_idle(data: bytes, failure: str) -> None:
    session = opened(SMTP)
    feed(session, data, 0)
    assert session.phase is Phase.CLOSED
    assert str(session.failure).startswith(failure)


def test_half_a_reply_is_waited_for() -> None:
    session = opened(SMTP)
    session.receive_data(b"42")
    assert session.phase is Phase.READY


def test_out_of_turn_is_our_own_fault() -> None:
    session = opened(SMTP)
    with pytest.raises(RuntimeError):
        session.content(b"x")
    session.begin_mailing(mailing())
    with pytest.raises(RuntimeError):
        session.begin_mailing(mailing())
    with pytest.raises(RuntimeError):
        session.begin(RecipientCheck(NULL, address("a@x.test")))


def test_quit() -> None:
    session = opened(SMTP)
    session.quit()
    assert session.bytes_to_send() == b"QUIT\r\n"
    session.receive_data(b"221 bye\r\n")
    assert session.phase is Phase.CLOSED
    busy = opened(SMTP)
    busy.begin_mailing(mailing())
    busy.quit()
    assert busy.phase is Phase.CLOSED
    assert busy.bytes_to_send() == b""


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"554-5.7.1 blocked\r\n554 5.7.1 see https://list.test\r\n", ": blocked / see https://list.test"),
        (GREET + b"450 not you\r\n", ": not you"),
        (GREET + b"500 what\r\n550 HELO is wrong\r\n", ": HELO is wrong"),
        (b"554 \r\n", ""),
        (b"250 odd\r\n", ""),
    ],
)
def test_why_a_server_takes_nothing_from_us_is_passed_on(said: bytes, text: str) -> None:
    """Senders read it in the report: that our address is on a list, and where."""
    session = ClientSession(SMTP)
    session.receive_data(said)
    assert session.failure is not None
    assert session.failure.text == f"The next server does not accept mail at the moment{text}"


@pytest.mark.parametrize(
    ("settings", "said", "sent_away", "put_off"),
    [
        (SMTP, b"421 busy\r\n", True, True),
        (SMTP, b"450 not now\r\n", False, True),
        (SMTP, b"554 blocked\r\n", False, False),
        (SMTP, GREET + b"421 busy\r\n", True, True),
        (LMTP, GREET + b"421 busy\r\n", True, True),
        (LMTP, GREET + b"550 no\r\n", False, False),
        (MAY, GREET + OFFERS_TLS + b"421 busy\r\n", True, True),
        (REQUIRE, GREET + OFFERS_TLS + b"454 not now\r\n", False, True),
        (REQUIRE, GREET + REPLY, False, False),
        (SMTP, GREET + REPLY + b"421 4.4.2 idle\r\n", True, True),
    ],
)
def test_what_the_server_has_said_is_recognised(
    settings: ClientSettings, said: bytes, sent_away: bool, put_off: bool
) -> None:
    session = ClientSession(settings)
    session.receive_data(said)
    assert session.failure is not None
    assert (is_sent_away(session.failure), is_put_off(session.failure)) == (sent_away, put_off)


@pytest.mark.parametrize(
    ("settings", "said", "cause"),
    [
        (SMTP, GREET + b"550 go away\r\n", "closed after EHLO: 550 go away"),
        (MAY, GREET + OFFERS_TLS + b"550 no\r\n", "closed after STARTTLS: 550 no"),
        (SMTP, GREET + b"550 go away\r\n250 well\r\n", "closed"),
        (MAY, GREET + OFFERS_TLS + b"550 no\r\n250 ok\r\n", "closed"),
        (SMTP, GREET, "closed"),
    ],
)
def test_a_refusal_before_the_close_is_told(settings: ClientSettings, said: bytes, cause: str) -> None:
    """Exim's `drop` refuses and closes: that we went on with HELO, or in clear, does not make it unsaid."""
    session = ClientSession(settings)
    for reply in said.splitlines(keepends=True):
        session.receive_data(reply)
        if session.phase is Phase.READY and session.messages == 0:
            session.begin_mailing(mailing(["a@x.test"]))
    session.receive_end("closed")
    assert session.failure is not None
    assert session.failure.cause == cause


def test_connection_lost_keeps_answers_and_leaves_the_rest_open() -> None:
    session = opened(LMTP, "PIPELINING")
    message = mailing(["a@x.test", "b@x.test"])
    session.begin_mailing(message)
    session.receive_data(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    session.receive_data(b"250 2.0.0 saved\r\n250 2.0")
    session.receive_end("reset by peer")
    assert str(message.replies[0]) == "250 2.0.0 saved"
    assert message.replies[1] is None
    assert message.sent
    assert session.failure is not None
    assert session.failure.cause == "reset by peer"
    assert "peer" not in session.failure.text


def test_a_refusal_within_the_content_is_for_this_message_only() -> None:
    session = opened(SMTP, "PIPELINING")
    message = mailing(content=None, size=100)
    session.begin_mailing(message)
    session.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
    session.content(b"Subject: x\r\n")
    session.receive_data(b"552 5.3.4 too large\r\n")
    assert str(message.replies[0]) == "552 5.3.4 too large"
    assert session.phase is Phase.CLOSED
    assert session.failure is not None
    assert session.failure.is_temporary
    assert "552 5.3.4 too large" in session.failure.cause


# Recipient checks.

CHECK = b"MAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nRSET\r\n"


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("offered", "steps", "reply", "phase"),
    [
        (("PIPELINING",), [(CHECK, b"250 ok\r\n550 5.1.1 no\r\n250 ok\r\n")], "550 5.1.1 no", Phase.READY),
        (("PIPELINING",), [(CHECK, b"250 ok\r\n250 2.1.5 yes\r\n250 ok\r\n")], "250 2.1.5 yes", Phase.READY),
        (("PIPELINING",), [(CHECK, b"451 4.7.1 no\r\n503 x\r\n250 ok\r\n")], "451 4.7.1 no", Phase.READY),
        (("PIPELINING",), [(CHECK, b"250 ok\r\n421 bye\r\n")], "None", Phase.CLOSED),
        (("PIPELINING",), [(CHECK, b"250 ok\r\n250 yes\r\n500 what\r\n")], "250 yes", Phase.CLOSED),
        (
            (),
            [
                (b"MAIL FROM:<>\r\n", b"250 ok\r\n"),
                (b"RCPT TO:<a@x.test>\r\n", b"250 yes\r\n"),
                (b"RSET\r\n", b"250 ok\r\n"),
            ],
            "250 yes",
            Phase.READY,
        ),
    ],
)
def test_check(offered: tuple[str, ...], steps: list[Step], reply: str, phase: Phase, step: int) -> None:
    session = opened(LMTP, *offered)
    check = RecipientCheck(NULL, address("a@x.test"))
    session.begin(check)
    play(session, steps, step)
    assert str(check.reply) == reply
    assert session.phase is phase
    assert session.peer.needs_reset is (phase is Phase.CLOSED)


# Anything at all.

_WORDS = st.sampled_from(
    [
        b"220 a\r\n",
        b"250 ok\r\n",
        b"250-x\r\n",
        b"250 PIPELINING\r\n",
        b"250-CHUNKING\r\n",
        b"354 go\r\n",
        b"421 bye\r\n",
        b"550 5.1.1 no\r\n",
        b"353 each\r\n",
        b"x",
        b"\r\n",
        b"334 YQ==\r\n",
        b"235 in\r\n",
        b"452 4.5.3 n\r\n",
    ]
)
_STREAM = st.one_of(st.lists(_WORDS, max_size=14).map(b"".join), st.binary(max_size=60))


@given(way=st.binary(min_size=3, max_size=3), stream=_STREAM)
@settings(max_examples=400, deadline=None)
def test_nothing_a_server_says_raises(way: bytes, stream: bytes) -> None:
    fuzz_client.check(way + stream)
