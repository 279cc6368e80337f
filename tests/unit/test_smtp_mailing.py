"""One transaction against every kind of server, each dialog fed whole and octet by octet."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from mta.envelope import BodyType, DeliverBy, Envelope, OriginalRecipient, Recipient
from mta.smtp.client import Phase
from mta.smtp.dotstuff import BareLineEnd
from mta.smtp.mailing import ContentSizeError, Mailing
from mta.smtp.opening import ClientSettings
from mta.smtp.relaying import ContentFacts
from tests.unit.client_dialog import (
    CONTENT,
    LMTP,
    SMTP,
    STUFFED,
    Step,
    address,
    feed,
    mailing,
    opened,
    play,
)

PIPE = ("PIPELINING",)
CHUNK = ("PIPELINING", "CHUNKING")
PRDR = ("PIPELINING", "PRDR")
MAIL = b"MAIL FROM:<s@y.test>\r\n"
A = b"RCPT TO:<a@x.test>\r\n"
B = b"RCPT TO:<b@x.test>\r\n"
C = b"RCPT TO:<c@x.test>\r\n"
BDAT = b"BDAT 20 LAST\r\n" + CONTENT
ALL = MAIL + A + B + C
TWO = ["a@x.test", "b@x.test"]
THREE = [*TWO, "c@x.test"]

LOST = "lost"
"""In place of a reply: none came."""


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("settings", "offered", "recipients", "steps", "replies", "phase", "clean"),
    [
        pytest.param(
            SMTP,
            PIPE,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"), (STUFFED, b"250 2.0.0 queued\r\n")],
            ["250 2.0.0 queued"],
            Phase.READY,
            True,
            id="pipelined",
        ),
        pytest.param(
            SMTP,
            (),
            ["a@x.test"],
            [
                (MAIL, b"250 ok\r\n"),
                (A, b"250 ok\r\n"),
                (b"DATA\r\n", b"354 go\r\n"),
                (STUFFED, b"250 ok\r\n"),
            ],
            ["250 ok"],
            Phase.READY,
            True,
            id="one at a time",
        ),
        pytest.param(
            SMTP,
            PIPE,
            THREE,
            [
                (ALL + b"DATA\r\n", b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n451 4.2.0 later\r\n354 go\r\n"),
                (STUFFED, b"250 2.0.0 queued\r\n"),
            ],
            ["250 2.0.0 queued", "550 5.1.1 no", "451 4.2.0 later"],
            Phase.READY,
            True,
            id="mixed at RCPT",
        ),
        pytest.param(
            LMTP,
            PIPE,
            THREE,
            [
                (ALL + b"DATA\r\n", b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n"),
                (STUFFED, b"250 2.0.0 saved\r\n552 5.2.2 full\r\n"),
            ],
            ["250 2.0.0 saved", "550 5.1.1 no", "552 5.2.2 full"],
            Phase.READY,
            True,
            id="LMTP, one reply each",
        ),
        pytest.param(
            SMTP,
            PIPE,
            TWO,
            [(MAIL + A + B + b"DATA\r\n", b"550 5.7.1 go away\r\n503 no\r\n503 no\r\n503 no\r\n")],
            ["550 5.7.1 go away"] * 2,
            Phase.READY,
            False,
            id="MAIL refused, pipelined",
        ),
        pytest.param(
            SMTP,
            (),
            TWO,
            [(MAIL, b"451 4.7.1 greylisted\r\n")],
            ["451 4.7.1 greylisted"] * 2,
            Phase.READY,
            False,
            id="MAIL refused, one at a time",
        ),
        pytest.param(
            SMTP,
            (),
            TWO,
            [(MAIL, b"250 ok\r\n"), (A, b"550 no\r\n"), (B, b"551 no\r\n")],
            ["550 no", "551 no"],
            Phase.READY,
            False,
            id="all refused, DATA is not sent",
        ),
        pytest.param(
            SMTP,
            PIPE,
            TWO,
            [(MAIL + A + B + b"DATA\r\n", b"250 ok\r\n550 no\r\n551 no\r\n554 none\r\n")],
            ["550 no", "551 no"],
            Phase.READY,
            False,
            id="all refused, pipelined",
        ),
        pytest.param(
            SMTP,
            PIPE,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"250 ok\r\n550 no\r\n354 go on\r\n"), (b".\r\n", b"554 none\r\n")],
            ["550 no"],
            Phase.READY,
            False,
            id="all refused, yet 354",
        ),
        pytest.param(
            LMTP,
            PIPE,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"250 ok\r\n550 no\r\n354 go on\r\n")],
            ["550 no"],
            Phase.CLOSED,
            False,
            id="LMTP: all refused, yet 354",
        ),
        pytest.param(
            SMTP,
            PIPE,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"550 no\r\n250 ok\r\n354 go on\r\n")],
            ["550 no"],
            Phase.CLOSED,
            False,
            id="MAIL refused, yet 354",
        ),
        pytest.param(
            SMTP,
            PIPE,
            TWO,
            [(MAIL + A + B + b"DATA\r\n", b"250 a\r\n250 b\r\n250 c\r\n452 4.3.1 disk\r\n")],
            ["452 4.3.1 disk"] * 2,
            Phase.READY,
            False,
            id="DATA refused",
        ),
        pytest.param(
            SMTP,
            PIPE,
            TWO,
            [
                (MAIL + A + B + b"DATA\r\n", b"250 a\r\n250 b\r\n250 c\r\n354 go\r\n"),
                (STUFFED, b"554 5.6.0 spam\r\n"),
            ],
            ["554 5.6.0 spam"] * 2,
            Phase.READY,
            True,
            id="content refused",
        ),
        pytest.param(
            SMTP,
            CHUNK,
            ["a@x.test"],
            [(MAIL + A, b"250 ok\r\n250 ok\r\n"), (BDAT, b"250 2.0.0 ok\r\n")],
            ["250 2.0.0 ok"],
            Phase.READY,
            True,
            id="BDAT",
        ),
        pytest.param(
            SMTP,
            ("CHUNKING",),
            ["a@x.test"],
            [(MAIL, b"250 ok\r\n"), (A, b"250 ok\r\n"), (BDAT, b"250 2.0.0 ok\r\n")],
            ["250 2.0.0 ok"],
            Phase.READY,
            True,
            id="BDAT without pipelining",
        ),
        pytest.param(
            LMTP,
            CHUNK,
            TWO,
            [(MAIL + A + B, b"250 ok\r\n250 ok\r\n250 ok\r\n"), (BDAT, b"250 ok\r\n452 4.2.2 full\r\n")],
            ["250 ok", "452 4.2.2 full"],
            Phase.READY,
            False,
            id="LMTP BDAT",
        ),
        pytest.param(
            SMTP,
            CHUNK,
            ["a@x.test"],
            [(MAIL + A, b"250 ok\r\n550 no\r\n")],
            ["550 no"],
            Phase.READY,
            False,
            id="BDAT is not sent to nobody",
        ),
        pytest.param(
            SMTP,
            CHUNK,
            ["a@x.test"],
            [(MAIL + A, b"250 ok\r\n250 ok\r\n"), (BDAT, b"554 5.6.0 no\r\n")],
            ["554 5.6.0 no"],
            Phase.READY,
            False,
            id="BDAT refused: RSET is due",
        ),
        pytest.param(
            LMTP,
            CHUNK,
            TWO,
            [(MAIL + A + B, b"250 a\r\n250 b\r\n250 c\r\n"), (BDAT, b"503 5.5.1 what\r\n")],
            ["503 5.5.1 what"] * 2,
            Phase.CLOSED,
            False,
            id="LMTP: the BDAT command refused",
        ),
        pytest.param(
            SMTP,
            PRDR,
            TWO,
            [
                (
                    b"MAIL FROM:<s@y.test> PRDR\r\n" + A + B + b"DATA\r\n",
                    b"250 a\r\n250 b\r\n250 c\r\n354 go\r\n",
                ),
                (STUFFED, b"353 each\r\n250 yes\r\n550 5.7.1 spam\r\n250 2.0.0 done\r\n"),
            ],
            ["250 yes", "550 5.7.1 spam"],
            Phase.READY,
            True,
            id="PRDR",
        ),
        pytest.param(
            SMTP,
            PRDR,
            TWO,
            [
                (
                    b"MAIL FROM:<s@y.test> PRDR\r\n" + A + B + b"DATA\r\n",
                    b"250 a\r\n250 b\r\n250 c\r\n354 go\r\n",
                ),
                (STUFFED, b"353 each\r\n250 yes\r\n550 5.7.1 spam\r\n451 4.3.0 disk\r\n"),
            ],
            ["451 4.3.0 disk", "550 5.7.1 spam"],
            Phase.READY,
            True,
            id="PRDR overruled at the end",
        ),
        pytest.param(
            SMTP,
            PRDR,
            TWO,
            [
                (
                    b"MAIL FROM:<s@y.test> PRDR\r\n" + A + B + b"DATA\r\n",
                    b"250 a\r\n250 b\r\n250 c\r\n354 go\r\n",
                ),
                (STUFFED, b"353 each\r\n250 yes\r\n550 5.7.1 spam\r\n421 4.3.2 bye\r\n"),
            ],
            [LOST, "550 5.7.1 spam"],
            Phase.CLOSED,
            False,
            id="PRDR without its end",
        ),
        pytest.param(
            SMTP,
            PRDR,
            TWO,
            [
                (
                    b"MAIL FROM:<s@y.test> PRDR\r\n" + A + B + b"DATA\r\n",
                    b"250 a\r\n250 b\r\n250 c\r\n354 go\r\n",
                ),
                (STUFFED, b"250 2.0.0 all\r\n"),
            ],
            ["250 2.0.0 all"] * 2,
            Phase.READY,
            True,
            id="PRDR not used by the server",
        ),
        pytest.param(
            SMTP,
            PRDR,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"250 a\r\n250 b\r\n354 go\r\n"), (STUFFED, b"250 ok\r\n")],
            ["250 ok"],
            Phase.READY,
            True,
            id="no PRDR for one recipient",
        ),
        # 421 and nonsense at every point
        pytest.param(
            SMTP,
            PIPE,
            TWO,
            [(MAIL + A + B + b"DATA\r\n", b"421 4.3.2 bye\r\n")],
            [LOST, LOST],
            Phase.CLOSED,
            False,
            id="421 to MAIL",
        ),
        pytest.param(
            SMTP,
            PIPE,
            TWO,
            [(MAIL + A + B + b"DATA\r\n", b"250 ok\r\n550 no\r\n421 bye\r\n")],
            ["550 no", LOST],
            Phase.CLOSED,
            False,
            id="421 to RCPT",
        ),
        pytest.param(
            SMTP,
            PIPE,
            TWO,
            [(MAIL + A + B + b"DATA\r\n", b"250 ok\r\n550 no\r\n250 ok\r\n421 bye\r\n")],
            ["550 no", LOST],
            Phase.CLOSED,
            False,
            id="421 to DATA",
        ),
        pytest.param(
            SMTP,
            PIPE,
            TWO,
            [
                (MAIL + A + B + b"DATA\r\n", b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
                (STUFFED, b"421 4.3.2 bye\r\n"),
            ],
            ["451 4.3.2 bye"] * 2,
            Phase.CLOSED,
            False,
            id="421 to the content is its reply",
        ),
        pytest.param(
            LMTP,
            PIPE,
            TWO,
            [
                (MAIL + A + B + b"DATA\r\n", b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
                (STUFFED, b"250 saved\r\n421 4.3.2 bye\r\n"),
            ],
            ["250 saved", "451 4.3.2 bye"],
            Phase.CLOSED,
            False,
            id="LMTP: 421 to one of the replies",
        ),
        pytest.param(
            SMTP,
            PIPE,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"354 what\r\n")],
            [LOST],
            Phase.CLOSED,
            False,
            id="354 to MAIL",
        ),
        pytest.param(
            SMTP,
            PIPE,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"250 ok\r\n334 what\r\n")],
            [LOST],
            Phase.CLOSED,
            False,
            id="334 to RCPT",
        ),
        pytest.param(
            SMTP,
            PIPE,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"250 ok\r\n250 ok\r\n250 what\r\n")],
            [LOST],
            Phase.CLOSED,
            False,
            id="250 to DATA",
        ),
        pytest.param(
            SMTP,
            PIPE,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"), (STUFFED, b"354 what\r\n")],
            [LOST],
            Phase.CLOSED,
            False,
            id="354 to the content",
        ),
        pytest.param(
            SMTP,
            PIPE,
            ["a@x.test"],
            [(MAIL + A + b"DATA\r\n", b"garbage\r\n")],
            [LOST],
            Phase.CLOSED,
            False,
            id="garbage",
        ),
        pytest.param(
            SMTP,
            PIPE,
            ["a@x.test"],
            [
                (MAIL + A + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"),
                (STUFFED, b"250 ok\r\n250 once more\r\n"),
            ],
            ["250 ok"],
            Phase.CLOSED,
            True,
            id="a reply too many",
        ),
    ],
)
def test_dialog(
    settings: ClientSettings,
    offered: tuple[str, ...],
    recipients: list[str],
    steps: list[Step],
    replies: list[str],
    phase: Phase,
    clean: bool,
    step: int,
) -> None:
    session = opened(settings, *offered)
    message = mailing(recipients)
    session.begin_mailing(message)
    play(session, steps, step)
    assert session.bytes_to_send() == b""
    assert [LOST if reply is None else str(reply) for reply in message.replies] == replies
    assert session.phase is phase
    assert session.peer.needs_reset is not clean
    if phase is Phase.CLOSED:
        assert session.failure is not None
        assert session.failure.code == 451
        assert session.failure.cause
    content_sent = any(STUFFED in sent or CONTENT in sent for sent, _ in steps)
    assert message.sent is content_sent


def test_too_many_recipients_is_never_for_good() -> None:
    """RFC 5321 section 4.5.3.1.10. Where nobody was accepted, another transaction would not help."""
    session = opened(SMTP, "PIPELINING")
    message = mailing(["a@x.test", "b@x.test", "c@x.test", "d@x.test"])
    session.begin_mailing(message)
    session.bytes_to_send()
    session.receive_data(
        b"250 ok\r\n552 5.5.3 too many\r\n250 ok\r\n552 5.5.3 too many\r\n552 5.2.2 full\r\n354 go\r\n"
    )
    session.receive_data(b"250 in\r\n")
    said = ["552 5.5.3 too many", "250 in", "452 4.5.3 too many", "552 5.2.2 full"]
    assert [str(reply) for reply in message.replies] == said


@pytest.mark.parametrize("code", [452, 552])
def test_too_many_recipients_without_an_enhanced_code(code: int) -> None:
    """Exim says no more than the code that RFC 5321 has for it."""
    session = opened(SMTP, "PIPELINING")
    message = mailing(["a@x.test", "b@x.test", "c@x.test"])
    session.begin_mailing(message)
    session.bytes_to_send()
    session.receive_data(
        b"250 ok\r\n%d first\r\n250 ok\r\n%d too many recipients\r\n354 go\r\n" % (code, code)
    )
    session.receive_data(b"250 in\r\n")
    assert [str(reply) for reply in message.replies] == [
        f"{code} first",
        "250 in",
        "452 4.5.3 too many recipients",
    ]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("settings", "recipients", "answer", "replies", "phase"),
    [
        (SMTP, ["a@x.test"], b"250 ok\r\n250 ok\r\n250 2.0.0 in\r\n", ["250 2.0.0 in"], Phase.READY),
        (SMTP, ["a@x.test"], b"250 ok\r\n550 no\r\n554 nobody\r\n", ["550 no"], Phase.READY),
        (SMTP, ["a@x.test"], b"550 no\r\n503 x\r\n503 x\r\n", ["550 no"], Phase.READY),
        (SMTP, ["a@x.test"], b"250 ok\r\n550 no\r\n250 what\r\n", ["550 no"], Phase.CLOSED),
        (SMTP, ["a@x.test"], b"250 ok\r\n550 no\r\n421 bye\r\n", ["550 no"], Phase.CLOSED),
        (
            LMTP,
            TWO,
            b"250 a\r\n250 a\r\n250 b\r\n250 in\r\n452 full\r\n",
            ["250 in", "452 full"],
            Phase.READY,
        ),
        (LMTP, TWO, b"250 a\r\n550 no\r\n250 b\r\n250 in\r\n", ["550 no", "250 in"], Phase.READY),
        (LMTP, TWO, b"250 a\r\n550 no\r\n551 no\r\n503 nobody\r\n", ["550 no", "551 no"], Phase.READY),
    ],
)
def test_eager_bdat_is_one_write(
    settings: ClientSettings,
    recipients: list[str],
    answer: bytes,
    replies: list[str],
    phase: Phase,
    step: int,
) -> None:
    session = opened(settings, *CHUNK)
    message = mailing(recipients, eager=True)
    session.begin_mailing(message)
    assert message.sent
    commands = MAIL + (A if len(recipients) == 1 else A + B)
    play(session, [(commands + BDAT, answer)], step)
    assert [str(reply) for reply in message.replies] == replies
    assert session.phase is phase


def test_eager_needs_pipelining_and_chunking() -> None:
    for offered in (PIPE, ("CHUNKING",), ()):
        session = opened(SMTP, *offered)
        message = mailing(eager=True)
        session.begin_mailing(message)
        assert not message.sent
        assert CONTENT not in session.bytes_to_send()


def test_the_next_message_begins_with_rset_only_when_one_is_due() -> None:
    session = opened(SMTP, *PIPE)
    session.begin_mailing(mailing())
    play(session, [(MAIL + A + b"DATA\r\n", b"250 ok\r\n550 no\r\n554 no\r\n")])
    second = mailing()
    session.begin_mailing(second)
    play(
        session,
        [
            (b"RSET\r\n" + MAIL + A + b"DATA\r\n", b"250 flushed\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
            (STUFFED, b"250 one\r\n"),
        ],
    )
    assert str(second.replies[0]) == "250 one"
    session.begin_mailing(mailing())
    assert session.bytes_to_send() == MAIL + A + b"DATA\r\n"


def test_rset_refused_ends_the_session_before_anything_is_sent() -> None:
    session = opened(SMTP)
    session.peer.needs_reset = True
    message = mailing()
    session.begin_mailing(message)
    play(session, [(b"RSET\r\n", b"500 what\r\n")])
    assert session.phase is Phase.CLOSED
    assert message.replies == [None]
    assert not message.sent


# Streaming.


@pytest.mark.parametrize("offered", [PIPE, CHUNK])
def test_streamed(offered: tuple[str, ...]) -> None:
    session = opened(SMTP, *offered)
    message = mailing(content=None, size=len(CONTENT))
    session.begin_mailing(message)
    data = offered is PIPE
    play(
        session,
        [
            (
                MAIL + A + (b"DATA\r\n" if data else b""),
                b"250 ok\r\n250 ok\r\n" + (b"354 go\r\n" if data else b""),
            )
        ],
    )
    assert session.phase.value == "content"
    out = b"".join(session.content(CONTENT[i : i + 3]) for i in range(0, len(CONTENT), 3))
    sent = [message.sent]
    out += session.end_of_content()
    assert [*sent, message.sent] == [False, True]
    assert out == (STUFFED if data else BDAT)
    feed(session, b"250 ok\r\n", 1)
    assert str(message.replies[0]) == "250 ok"
    assert session.phase is Phase.READY


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (b"552 5.3.4 too big\r\n", "552 5.3.4 too big"),
        (b"451 4.3.1 disk\r\n", "451 4.3.1 disk"),
        (b"421 4.3.2 bye\r\n", LOST),
        (b"250 what\r\n", LOST),
        (b"354 what\r\n", LOST),
        (b"garbage\r\n", LOST),
    ],
)
@pytest.mark.parametrize("offered", [PIPE, CHUNK])
def test_early_reply(answer: bytes, reply: str, offered: tuple[str, ...]) -> None:
    session = opened(SMTP, *offered)
    message = mailing(content=None, size=1000)
    session.begin_mailing(message)
    session.bytes_to_send()
    session.receive_data(b"250 ok\r\n250 ok\r\n" + (b"354 go\r\n" if offered is PIPE else b""))
    session.content(b"a\r\n")
    session.receive_data(answer)
    assert session.phase is Phase.CLOSED
    assert (str(message.replies[0]) if message.replies[0] else LOST) == reply
    assert not message.sent


def test_streamed_content_of_another_size_never_ends() -> None:
    for total in (19, 21):
        session = opened(SMTP, *CHUNK)
        session.begin_mailing(mailing(content=None, size=20))
        session.bytes_to_send()
        session.receive_data(b"250 ok\r\n250 ok\r\n")
        with pytest.raises(ContentSizeError):  # noqa: PT012 - either call may notice
            session.content(b"x" * total)
            session.end_of_content()


def test_streamed_bare_line_end() -> None:
    for offered in (PIPE, CHUNK):
        session = opened(SMTP, *offered)
        session.begin_mailing(mailing(content=None, size=20))
        session.bytes_to_send()
        session.receive_data(
            b"250 ok\r\n250 ok\r\n354 go\r\n" if offered is PIPE else b"250 ok\r\n250 ok\r\n"
        )
        with pytest.raises(BareLineEnd):
            session.content(b"a\nb")


@pytest.mark.parametrize("offered", [PIPE, CHUNK])
def test_bare_line_end_is_not_sent(offered: tuple[str, ...]) -> None:
    session = opened(SMTP, *offered)
    message = mailing(content=b"a\r\n.\n\r\nMAIL FROM:<>\r\n")
    session.begin_mailing(message)
    assert session.bytes_to_send() == b""
    assert str(message.replies[0]).startswith("554 5.6.0 ")
    assert session.phase is Phase.READY


def test_binary_content_goes_by_bdat_as_it_is() -> None:
    session = opened(replace(SMTP, chunking=False), *CHUNK, "BINARYMIME", "8BITMIME")
    envelope = Envelope(address("s@y.test"), body=BodyType.BINARY_MIME)
    message = mailing(content=b"\0\n\r.\xff", envelope=envelope)
    session.begin_mailing(message)
    steps = [
        (b"MAIL FROM:<s@y.test> BODY=BINARYMIME\r\n" + A, b"250 ok\r\n250 ok\r\n"),
        (b"BDAT 5 LAST\r\n\0\n\r.\xff", b"250 ok\r\n"),
    ]
    play(session, steps)
    assert str(message.replies[0]) == "250 ok"


# What may not be sent to this server.


@pytest.mark.parametrize(
    ("settings", "offered", "change", "reply"),
    [
        (SMTP, ("SIZE 10",), {}, "552 5.3.4"),
        (LMTP, ("SIZE 10",), {}, "552 5.3.4"),
        (SMTP, (), {"body": BodyType.BINARY_MIME}, "554 5.6.3"),
        (SMTP, ("BINARYMIME",), {"body": BodyType.BINARY_MIME}, "554 5.6.3"),
        (SMTP, (), {"require_tls": True}, "550 5.7.30"),
        (SMTP, (), {"deliver_by": DeliverBy(60, "R", False)}, "554 5.3.3"),
        (SMTP, (), {"smtputf8": True, "sender": address("é@y.test")}, "553 5.6.7"),
        (LMTP, (), {"sender": address("é@y.test")}, "553 5.6.7"),
    ],
)
def test_refused_before_anything_is_sent(
    settings: ClientSettings, offered: tuple[str, ...], change: dict[str, object], reply: str
) -> None:
    session = opened(settings, *offered)
    envelope = Envelope(address("s@y.test"))
    for name, value in change.items():
        setattr(envelope, name, value)
    message = mailing(TWO, envelope=envelope)
    session.begin_mailing(message)
    assert session.bytes_to_send() == b""
    assert session.phase is Phase.READY
    assert [str(r).startswith(reply + " ") for r in message.replies] == [True, True]
    assert not message.sent


@pytest.mark.parametrize(
    ("settings", "offered", "facts", "refused"),
    [
        (SMTP, (), {"has_8bit": True}, False),
        (replace(SMTP, eight_bit_anyway=False), (), {"has_8bit": True}, True),
        (replace(SMTP, eight_bit_anyway=False), ("8BITMIME",), {"has_8bit": True}, False),
        (SMTP, (), {"utf8_header": True}, True),
        (LMTP, (), {"utf8_header": True}, False),
        (SMTP, ("SMTPUTF8",), {"utf8_header": True}, False),
    ],
)
def test_content_that_needs_an_extension(
    settings: ClientSettings, offered: tuple[str, ...], facts: dict[str, bool], refused: bool
) -> None:
    session = opened(settings, *offered)
    envelope = Envelope(address("s@y.test"), smtputf8="utf8_header" in facts)
    message = mailing(envelope=envelope, **facts)  # type: ignore[arg-type]
    session.begin_mailing(message)
    assert (session.bytes_to_send() == b"") is refused


def test_require_tls_needs_a_verified_certificate() -> None:
    envelope = Envelope(address("s@y.test"), require_tls=True)
    secure = opened(SMTP, "REQUIRETLS", encrypted=True)
    secure.begin_mailing(mailing(envelope=envelope))
    assert secure.bytes_to_send() == b"MAIL FROM:<s@y.test> REQUIRETLS\r\n"
    clear = opened(SMTP, "REQUIRETLS")
    message = mailing(envelope=envelope)
    clear.begin_mailing(message)
    assert str(message.replies[0]).startswith("550 5.7.30 ")


def test_a_utf8_recipient_alone_is_refused_or_downgraded() -> None:
    session = opened(LMTP, *PIPE)
    message = mailing(["a@x.test", "é@x.test", "b@bücher.test"])
    session.begin_mailing(message)
    steps = [
        (MAIL + A + b"RCPT TO:<b@xn--bcher-kva.test>\r\nDATA\r\n", b"250 ok\r\n250 a\r\n250 b\r\n354 go\r\n"),
        (STUFFED, b"250 for a\r\n250 for b\r\n"),
    ]
    play(session, steps)
    assert [str(r)[:9] for r in message.replies] == ["250 for a", "553 5.6.7", "250 for b"]


def test_utf8_where_it_is_offered() -> None:
    session = opened(LMTP, *PIPE, "SMTPUTF8", "8BITMIME")
    session.begin_mailing(mailing(["é@bücher.test"], sender="ü@y.test", has_8bit=True))
    expected = "MAIL FROM:<ü@y.test> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<é@bücher.test>\r\nDATA\r\n"
    assert session.bytes_to_send() == expected.encode()


@pytest.mark.parametrize(
    ("recipients", "sender", "expected"),
    [
        (["b@bücher.test"], "s@y.test", "MAIL FROM:<s@y.test>\r\nRCPT TO:<b@xn--bcher-kva.test>\r\n"),
        (["a@x.test"], "s@bücher.test", "MAIL FROM:<s@xn--bcher-kva.test>\r\nRCPT TO:<a@x.test>\r\n"),
        (["é@x.test"], "s@y.test", "MAIL FROM:<s@y.test> SMTPUTF8\r\nRCPT TO:<é@x.test>\r\n"),
        (
            ["b@bücher.test", "é@bücher.test"],
            "s@y.test",
            "MAIL FROM:<s@y.test> SMTPUTF8\r\nRCPT TO:<b@xn--bcher-kva.test>\r\nRCPT TO:<é@bücher.test>\r\n",
        ),
    ],
)
def test_addresses_that_a_message_has_got_here(recipients: list[str], sender: str, expected: str) -> None:
    """By an administrator, or a milter: the message itself came without SMTPUTF8."""
    session = opened(SMTP, *PIPE, "SMTPUTF8")
    session.begin_mailing(mailing(recipients, sender=sender))
    assert session.bytes_to_send() == expected.encode() + b"DATA\r\n"


def test_parameters_are_relayed_where_they_are_offered() -> None:
    envelope = Envelope(
        address("s@y.test"), ret="HDRS", envid="a b", deliver_by=DeliverBy(120, "N", True), priority=3
    )
    recipient = Recipient(
        address("a@x.test"),
        notify=frozenset({"FAILURE", "DELAY"}),
        original=OriginalRecipient("rfc822", "o+x@z.test"),
    )
    facts = ContentFacts(len(CONTENT))
    session = opened(SMTP, *PIPE, "SIZE 99999", "DSN", "DELIVERBY", "MT-PRIORITY")
    session.begin_mailing(Mailing(envelope, [recipient], facts, CONTENT))
    assert session.bytes_to_send() == (
        b"MAIL FROM:<s@y.test> SIZE=20 RET=HDRS ENVID=a+20b BY=120;NT MT-PRIORITY=3\r\n"
        b"RCPT TO:<a@x.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;o+2Bx@z.test\r\nDATA\r\n"
    )
    plain = opened(SMTP, *PIPE)
    plain.begin_mailing(Mailing(envelope, [recipient], facts, CONTENT))
    assert plain.bytes_to_send() == MAIL + A + b"DATA\r\n"


def test_no_control_character_is_ever_sent() -> None:
    for text in (
        "a\r\nRSET@x.test",
        "a\nb@x.test",
        "a\0b@x.test",
        "a\x7f@x.test",
        "a>@x.test",
        "a\x85@x.test",
    ):
        bad = structs.replace(address("a@x.test"), text=text)
        session = opened(SMTP, *PIPE, "SMTPUTF8")
        message = Mailing(
            Envelope(address("s@y.test")), [Recipient(bad)], ContentFacts(len(CONTENT)), CONTENT
        )
        session.begin_mailing(message)
        assert session.bytes_to_send() == b""
        assert message.replies[0] is not None
        assert message.replies[0].code == 553


def test_an_overlong_command_is_not_sent() -> None:
    for sender, to in ((3000, 1), (1, 3000)):
        envelope = Envelope(structs.replace(address("s@y.test"), text="s" * sender + "@y.test"))
        recipient = Recipient(structs.replace(address("a@x.test"), text="a" * to + "@x.test"))
        session = opened(SMTP, *PIPE)
        message = Mailing(envelope, [recipient], ContentFacts(len(CONTENT)), CONTENT)
        session.begin_mailing(message)
        assert session.bytes_to_send() == b""
        assert message.replies[0] is not None
        assert message.replies[0].code == 553


# Who our client is.


def test_xforward_goes_with_each_message() -> None:
    session = opened(replace(SMTP, xforward=True), *PIPE, "XFORWARD NAME ADDR HELO")
    message = mailing(attributes={"ADDR": "2001:db8::1", "HELO": "c.test", "PORT": "99"})
    session.begin_mailing(message)
    forward = b"XFORWARD ADDR=IPV6:2001:db8::1 HELO=c.test\r\n"
    steps = [
        (forward + MAIL + A + b"DATA\r\n", b"550 not you\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
        (STUFFED, b"250 ok\r\n"),
    ]
    play(session, steps)
    assert str(message.replies[0]) == "250 ok", "a server that does not want to know still gets the mail"


def test_xclient_begins_the_session_anew_for_another_client() -> None:
    session = opened(replace(LMTP, xclient=True), *PIPE, "XCLIENT ADDR HELO")
    session.begin_mailing(mailing(attributes={"ADDR": "192.0.2.1"}))
    hello = b"250-srv.test\r\n250-PIPELINING\r\n250 XCLIENT ADDR HELO\r\n"
    mail: list[Step] = [(MAIL + A + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"), (STUFFED, b"250 ok\r\n")]
    play(session, [(b"XCLIENT ADDR=192.0.2.1\r\n", b"220 again\r\n"), (b"LHLO mx.test\r\n", hello), *mail])
    session.begin_mailing(mailing(attributes={"ADDR": "192.0.2.1"}))
    play(session, mail)
    session.begin_mailing(mailing(attributes={"HELO": "c.test"}))
    play(
        session,
        [
            (b"XCLIENT ADDR=[UNAVAILABLE] HELO=c.test\r\n", b"220 again\r\n"),
            (b"LHLO mx.test\r\n", hello),
            *mail,
        ],
    )
    assert session.phase is Phase.READY


def test_xclient_is_not_sent_in_the_transaction_that_came_to_nothing() -> None:
    session = opened(replace(LMTP, xclient=True), *PIPE, "XCLIENT ADDR")
    hello = b"250-srv.test\r\n250-PIPELINING\r\n250 XCLIENT ADDR\r\n"
    session.begin_mailing(mailing(attributes={"ADDR": "192.0.2.1"}))
    refused = (MAIL + A + b"DATA\r\n", b"250 ok\r\n550 no\r\n503 no recipients\r\n")
    play(session, [(b"XCLIENT ADDR=192.0.2.1\r\n", b"220 again\r\n"), (b"LHLO mx.test\r\n", hello), refused])
    session.begin_mailing(mailing(attributes={"ADDR": "192.0.2.2"}))
    play(
        session,
        [
            (b"RSET\r\n", b"250 ok\r\n"),
            (b"XCLIENT ADDR=192.0.2.2\r\n", b"220 again\r\n"),
            (b"LHLO mx.test\r\n", hello),
            (MAIL + A + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"),
            (STUFFED, b"250 ok\r\n"),
        ],
    )
    assert session.phase is Phase.READY


def test_xclient_to_a_server_that_reads_no_ipv6() -> None:
    """As Postfix with inet_protocols = ipv4: the client is one without an address, and not we."""
    session = opened(replace(SMTP, xclient=True), *PIPE, "XCLIENT ADDR PORT")
    session.begin_mailing(mailing(attributes={"ADDR": "2001:db8::7", "PORT": "1"}))
    mail: list[Step] = [(MAIL + A + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"), (STUFFED, b"250 ok\r\n")]
    steps: list[Step] = [
        (b"XCLIENT ADDR=IPV6:2001:db8::7 PORT=1\r\n", b"501 5.5.4 Bad ADDR syntax: IPV6:2001:db8::7\r\n"),
        (b"XCLIENT ADDR=[UNAVAILABLE] PORT=1\r\n", b"220 again\r\n"),
        (b"EHLO mx.test\r\n", b"250-srv.test\r\n250 PIPELINING\r\n"),
    ]
    play(session, [*steps, *mail])


@pytest.mark.parametrize("refusal", [b"501 5.5.4 no\r\n", b"550 5.7.0 no\r\n"])
def test_xclient_that_is_refused(refusal: bytes) -> None:
    """Nothing is sent in our own name."""
    session = opened(replace(SMTP, xclient=True), *PIPE, "XCLIENT ADDR")
    session.begin_mailing(mailing(attributes={"ADDR": "192.0.2.1"}))
    play(session, [(b"XCLIENT ADDR=192.0.2.1\r\n", refusal)])
    assert session.failure is not None
    assert session.failure.code == 451


def test_xclient_takes_our_name_back_and_binds_a_session_that_takes_no_other() -> None:
    """As with Postfix: a name that is not told stays, and whom it was told of may send no XCLIENT."""
    session = opened(replace(SMTP, xclient=True), *PIPE, "XCLIENT NAME ADDR REVERSE_NAME LOGIN")
    first = {"ADDR": "192.0.2.1", "PORT": "1"}
    assert not session.peer.is_bound(first)
    session.begin_mailing(mailing(attributes=first))
    mail: list[Step] = [(MAIL + A + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"), (STUFFED, b"250 ok\r\n")]
    told = b"XCLIENT ADDR=192.0.2.1 NAME=[TEMPUNAVAIL] REVERSE_NAME=[TEMPUNAVAIL]\r\n"
    hello = b"250-srv.test\r\n250 PIPELINING\r\n"
    play(session, [(told, b"220 again\r\n"), (b"EHLO mx.test\r\n", hello), *mail])
    assert not session.peer.is_bound(dict(first))
    assert session.peer.is_bound({"ADDR": "192.0.2.1", "PORT": "2"})
    assert session.peer.is_bound(None)
