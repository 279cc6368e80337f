"""The server session: each dialog is fed whole and octet by octet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mta.envelope import BodyType
from mta.reply import Reply
from mta.smtp import events as ev
from mta.smtp.extensions import DEFAULT_OFFER, EXTENSIONS
from mta.smtp.parameters import ParameterLimits
from mta.smtp.server import MAX_COMMAND_LINE, ServerSession
from mta.smtp.server_settings import ServerSettings
from mta.smtp.state import State
from tests.fuzz import fuzz_server
from tests.unit.smtp_dialog import SETTINGS, Driver, codes, dialog

EHLO = (b"EHLO client.test\r\n", ["250"])
MAIL = (b"MAIL FROM:<a@x.test>\r\n", ["250 2.1.0"])
RCPT = (b"RCPT TO:<b@y.test>\r\n", ["250 2.1.5"])
DATA = (b"DATA\r\n", ["354"])
TEXT = (b"Subject: hi\r\n\r\nhello\r\n.\r\n", ["250 2.0.0"])
QUIT = (b"QUIT\r\n", ["221 2.0.0"])
ALL = replace(SETTINGS, offered=frozenset(extension.keyword for extension in EXTENSIONS))

DIALOGS = {
    "one message": [EHLO, MAIL, RCPT, DATA, TEXT, QUIT],
    "two messages": [EHLO, MAIL, RCPT, DATA, TEXT, MAIL, RCPT, DATA, TEXT, QUIT],
    "HELO": [(b"HELO client\r\n", ["250"]), MAIL, RCPT, DATA, TEXT, QUIT],
    "lower case": [
        (b"ehlo client.test\r\n", ["250"]),
        (b"mail from:<a@x.test>\r\n", ["250 2.1.0"]),
        (b"rcpt to:<b@y.test>\r\n", ["250 2.1.5"]),
        (b"data\r\n", ["354"]),
        TEXT,
    ],
    "pipelined": [
        EHLO,
        (
            b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<c@y.test>\r\nDATA\r\n",
            ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354"],
        ),
        (
            b"hello\r\n.\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nQUIT\r\n",
            ["250 2.0.0", "250 2.1.0", "250 2.1.5", "221 2.0.0"],
        ),
    ],
    "null sender and postmaster": [
        EHLO,
        (b"MAIL FROM:<>\r\n", ["250 2.1.0"]),
        (b"RCPT TO:<postmaster>\r\n", ["250 2.1.5"]),
        DATA,
        TEXT,
    ],
    "nothing before EHLO": [
        (b"MAIL FROM:<a@x.test>\r\n", ["503 5.5.1"]),
        (b"RCPT TO:<b@y.test>\r\n", ["503 5.5.1"]),
        (b"DATA\r\n", ["503 5.5.1"]),
        (b"VRFY x\r\n", ["503 5.5.1"]),
        (b"NOOP\r\n", ["250 2.0.0"]),
        (b"RSET\r\n", ["250 2.0.0"]),
        (b"HELP\r\n", ["214 2.0.0"]),
        QUIT,
    ],
    "order": [
        EHLO,
        (b"RCPT TO:<b@y.test>\r\n", ["503 5.5.1"]),
        (b"DATA\r\n", ["503 5.5.1"]),
        MAIL,
        (b"DATA\r\n", ["554 5.5.1"]),
        (b"MAIL FROM:<a@x.test>\r\n", ["503 5.5.1"]),
        RCPT,
        (b"AUTH PLAIN\r\n", ["503 5.5.1"]),
        (b"STARTTLS\r\n", ["503 5.5.1"]),
        (b"RSET\r\n", ["250 2.0.0"]),
        (b"RCPT TO:<b@y.test>\r\n", ["503 5.5.1"]),
    ],
    "EHLO resets": [EHLO, MAIL, RCPT, EHLO, (b"DATA\r\n", ["503 5.5.1"]), MAIL, RCPT, DATA, TEXT],
    "syntax": [
        (b"EHLO\r\n", ["501 5.5.4"]),
        EHLO,
        (b"FOO\r\n", ["500 5.5.1"]),
        (b"SOML FROM:<a@x.test>\r\n", ["502 5.5.1"]),
        (b"EXPN list\r\n", ["502 5.5.1"]),
        (b"ETRN x.test\r\n", ["502 5.5.1"]),
        (b"VRFY b@y.test\r\n", ["252 2.5.2"]),
        (b"MAIL TO:<a@x.test>\r\n", ["501 5.5.4"]),
        (b"MAIL FROM:<a@@x.test>\r\n", ["501 5.1.7"]),
        (b"MAIL FROM:<a@x.test> NONSENSE=1\r\n", ["555 5.5.4"]),
        (b"MAIL FROM:<a@x.test> RET=FULL\r\n", ["555 5.5.4"]),
        (b"MAIL FROM:<a@x.test> SIZE=100001\r\n", ["552 5.3.4"]),
        (b"MAIL FROM:<a@x.test> SIZE=x\r\n", ["501 5.5.4"]),
        (b"RSET now\r\n", ["501 5.5.4"]),
        (b"STARTTLS now\r\n", ["501 5.5.4"]),
        (b"\r\n", ["500 5.5.1"]),
        MAIL,
        (b"RCPT TO:<>\r\n", ["501 5.1.3"]),
        (b"RCPT TO:<b@y.test> NOTIFY=NEVER\r\n", ["555 5.5.4"]),
        RCPT,
        (b"DATA now\r\n", ["501 5.5.4"]),
    ],
    "bare LF command": [(b"EHLO client.test\n", ["500 5.5.2"]), EHLO],
    "line too long": [
        (b"EHLO " + b"x" * 5000 + b"\r\n", ["500 5.5.2"]),
        EHLO,
        (b"NOOP " + b"x" * (MAX_COMMAND_LINE + 1) + b"\r\n", ["500 5.5.2"]),
        MAIL,
    ],
    "dots": [
        EHLO,
        MAIL,
        RCPT,
        DATA,
        (b".\r\n", ["250 2.0.0"]),
        MAIL,
        RCPT,
        DATA,
        (b"..\r\n.\r\n", ["250 2.0.0"]),
    ],
    "bare line ends refused": [
        EHLO,
        MAIL,
        RCPT,
        DATA,
        (b"a\n.\nMAIL FROM:<evil@x.test>\nb\r\n.\r\n", ["550 5.6.0"]),
        MAIL,
        RCPT,
        DATA,
        (b"a\r\n\x00.\r\nb\r\n.\r\n", ["550 5.6.0"]),
        MAIL,
    ],
    "too large": [EHLO, MAIL, RCPT, DATA, (b"x" * 100_001 + b"\r\n.\r\n", ["552 5.3.4"]), MAIL],
    "chunks": [
        EHLO,
        MAIL,
        RCPT,
        (b"BDAT 5\r\nhello", ["250 2.0.0"]),
        (b"BDAT 2\r\n\r\nBDAT 0 LAST\r\n", ["250 2.0.0", "250 2.0.0"]),
        MAIL,
        RCPT,
        (b"BDAT 7 LAST\r\nhello\r\nMAIL FROM:<a@x.test>\r\n", ["250 2.0.0", "250 2.1.0"]),
    ],
    "chunks in one group": [
        EHLO,
        (
            b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nBDAT 3\r\nabcBDAT 3 LAST\r\nd\r\n",
            ["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0"],
        ),
    ],
    "a misplaced chunk is swallowed": [
        EHLO,
        (b"BDAT 6 LAST\r\nQUIT\r\n", ["503 5.5.1"]),
        MAIL,
        (b"BDAT 6\r\nQUIT\r\n", ["554 5.5.1"]),
        RCPT,
        (b"BDAT x\r\n", ["501 5.5.4"]),
        (b"BDAT 1\r\nx", ["250 2.0.0"]),
        (b"RCPT TO:<c@y.test>\r\n", ["503 5.5.1"]),
        (b"NOOP\r\n", ["250 2.0.0"]),
        (b"BDAT 0 LAST\r\n", ["250 2.0.0"]),
    ],
    "a chunk too large": [
        EHLO,
        MAIL,
        RCPT,
        (b"BDAT 100001\r\n" + b"x" * 100_001, ["552 5.3.4"]),
        (b"BDAT 1 LAST\r\nx", ["503 5.5.1"]),
        MAIL,
    ],
    "a bare CR at the end of chunks": [
        EHLO,
        MAIL,
        RCPT,
        (b"BDAT 2\r\na\r", ["250 2.0.0"]),
        (b"BDAT 0 LAST\r\n", ["550 5.6.0"]),
        MAIL,
        RCPT,
        (b"BDAT 2\r\na\r", ["250 2.0.0"]),
        (b"BDAT 1 LAST\r\n\n", ["250 2.0.0"]),
    ],
    "no STARTTLS, no AUTH": [EHLO, (b"STARTTLS\r\n", ["502 5.5.1"]), (b"AUTH PLAIN\r\n", ["502 5.5.1"])],
    "XCLIENT and XFORWARD from strangers": [
        EHLO,
        (b"XCLIENT ADDR=127.0.0.1\r\n", ["550 5.7.0"]),
        (b"XFORWARD ADDR=127.0.0.1\r\n", ["550 5.7.0"]),
    ],
}


@pytest.mark.parametrize("name", DIALOGS)
def test_dialog(name: str) -> None:
    dialog(DIALOGS[name])


@pytest.mark.parametrize(
    "group",
    [
        b"EHLO client.test\r\nMAIL FROM:<a@x.test>\r\n",
        b"HELO client.test\r\nMAIL FROM:<a@x.test>\r\n",
        b"NOOP\r\nNOOP\r\n",
    ],
)
def test_a_client_that_does_not_wait_for_the_reply_is_sent_away(group: bytes) -> None:
    driver = Driver()
    driver.pump()
    assert codes(driver.say(group)) == ["554 5.5.0"]
    assert driver.session.state is State.CLOSED
    assert driver.say(b"QUIT\r\n") == b""


def test_unoffered_pipelining_after_helo_is_refused() -> None:
    driver = Driver()
    driver.pump()
    driver.say(b"HELO client.test\r\n")
    assert codes(driver.say(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n")) == ["554 5.5.0"]


def test_pipelining_that_is_switched_off_is_refused() -> None:
    driver = Driver(replace(SETTINGS, offered=SETTINGS.offered - {"PIPELINING"}))
    driver.pump()
    driver.say(EHLO[0])
    assert codes(driver.say(MAIL[0] + RCPT[0])) == ["554 5.5.0"]


def test_early_talker() -> None:
    driver = Driver()
    driver.session.receive_data(b"EHLO x\r\n")
    assert codes(driver.pump()) == ["554 5.5.0"]
    assert driver.session.state is State.CLOSED


@pytest.mark.parametrize("verb", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"CONNECT x:25 HTTP/1.1"])
def test_a_browser_is_sent_away(verb: bytes) -> None:
    driver = Driver()
    driver.pump()
    assert codes(driver.say(verb + b"\r\nHost: x\r\n\r\nMAIL FROM:<a@x.test>\r\n")) == ["500 5.5.1"]
    assert driver.session.state is State.CLOSED


def test_what_the_message_is() -> None:
    driver = dialog([EHLO, MAIL, RCPT, DATA, (b"..a\r\n.b\r\n.\r\n", ["250 2.0.0"])])
    assert driver.messages == [b".a\r\nb\r\n"]
    end = next(event for event in driver.events if isinstance(event, ev.DataEnd))
    assert end.envelope.sender.text == "a@x.test"
    assert [recipient.address.text for recipient in end.envelope.recipients] == ["b@y.test"]


def test_refused_recipients_are_not_in_the_envelope() -> None:
    def decide(event: ev.Event) -> Reply | None:
        if isinstance(event, ev.RcptTo) and event.recipient.address.local == "no":
            return Reply(550, "5.1.1", "no such user")
        return None

    driver = dialog(
        [
            EHLO,
            MAIL,
            (b"RCPT TO:<no@y.test>\r\n", ["550 5.1.1"]),
            (b"DATA\r\n", ["554 5.5.1"]),
            RCPT,
            DATA,
            TEXT,
        ],
        decide=decide,
    )
    end = next(event for event in driver.events if isinstance(event, ev.DataEnd))
    assert [recipient.address.text for recipient in end.envelope.recipients] == ["b@y.test"]


def test_a_group_whose_mail_is_refused_costs_one_error() -> None:
    def decide(event: ev.Event) -> Reply | None:
        return Reply(550, "5.7.1", "no") if isinstance(event, ev.MailFrom) else None

    group = b"MAIL FROM:<a@x.test>\r\n" + b"RCPT TO:<b@y.test>\r\n" * 50 + b"DATA\r\n"
    driver = dialog([EHLO, (group, ["550 5.7.1", *["503 5.5.1"] * 51]), QUIT], decide=decide)
    assert driver.session.errors == 1


def test_refused_data_before_the_message() -> None:
    def decide(event: ev.Event) -> Reply | None:
        return Reply(451, "4.7.1", "later") if isinstance(event, ev.DataStart) else None

    dialog([EHLO, MAIL, RCPT, (b"DATA\r\n", ["451 4.7.1"]), MAIL], decide=decide)
    dialog(
        [EHLO, MAIL, RCPT, (b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n", ["451 4.7.1", "503 5.5.1"]), MAIL],
        decide=decide,
    )


def test_a_refused_ehlo_ends_the_transaction() -> None:
    """The driver was told of EHLO, so the message is over for all who heard of it."""
    answers = iter([None, None, None, None, Reply(450, "4.2.0", "later")])
    driver = Driver(SETTINGS, lambda event: next(answers, None))
    driver.pump()
    for command, code in ((EHLO, "250"), (MAIL, "250"), (RCPT, "250"), (EHLO, "450"), (MAIL, "250")):
        assert driver.say(command[0]).startswith(code.encode())


def test_too_many_errors_end_the_session() -> None:
    driver = Driver(replace(SETTINGS, max_errors=3))
    driver.pump()
    driver.say(b"EHLO x.test\r\n")
    assert codes(driver.say(b"FOO\r\n" * 10)) == ["500 5.5.1"] * 3 + ["421 4.7.0"]
    assert driver.session.state is State.CLOSED


@pytest.mark.parametrize(
    ("settings", "hello", "verbs"),
    [
        (SETTINGS, b"EHLO x.test\r\n", "BDAT DATA EHLO HELO HELP MAIL NOOP QUIT RCPT RSET VRFY"),
        (SETTINGS, b"HELO x.test\r\n", "DATA EHLO HELO HELP MAIL NOOP QUIT RCPT RSET VRFY"),
        (replace(SETTINGS, protocol="lmtp"), b"LHLO x.test\r\n",
         "BDAT DATA HELP LHLO MAIL NOOP QUIT RCPT RSET VRFY"),
        (replace(SETTINGS, starttls=True), b"EHLO x.test\r\n",
         "BDAT DATA EHLO HELO HELP MAIL NOOP QUIT RCPT RSET STARTTLS VRFY"),
    ],
)  # fmt: skip
def test_help_names_what_leads_anywhere(settings: ServerSettings, hello: bytes, verbs: str) -> None:
    driver = Driver(settings)
    driver.pump()
    driver.say(hello)
    assert driver.say(b"HELP\r\n") == f"214 2.0.0 commands: {verbs}\r\n".encode()


def test_harvesting_ends_the_session() -> None:
    def decide(event: ev.Event) -> Reply | None:
        return Reply(550, "5.1.1", "no such user") if isinstance(event, ev.RcptTo) else None

    driver = Driver(replace(SETTINGS, max_errors=3), decide)
    driver.pump()
    driver.say(EHLO[0])
    out = driver.say(MAIL[0] + RCPT[0] * 9)
    assert codes(out) == ["250 2.1.0", *["550 5.1.1"] * 3, "421 4.7.0"]


def test_too_many_idle_commands() -> None:
    driver = Driver(replace(SETTINGS, max_idle_commands=3))
    driver.pump()
    assert [codes(driver.say(b"NOOP\r\n"))[0] for _ in range(4)] == ["250 2.0.0"] * 3 + ["421 4.7.0"]


def test_too_many_small_chunks() -> None:
    """They cost as much as commands that do nothing; large ones are as many as the message needs."""
    driver = Driver(replace(SETTINGS, max_idle_commands=3))
    driver.pump()
    for group in (EHLO, MAIL, RCPT):
        driver.say(group[0])
    large = b"BDAT 600\r\n" + b"x" * 598 + b"\r\n"
    assert [codes(driver.say(large))[0] for _ in range(6)] == ["250 2.0.0"] * 6
    found = [codes(driver.say(b"BDAT 1\r\nx"))[0] for _ in range(4)]
    assert found == ["250 2.0.0"] * 3 + ["421 4.7.0"]


def test_too_many_messages_and_recipients() -> None:
    settings = replace(SETTINGS, max_transactions=1, max_recipients=2)
    dialog([EHLO, MAIL, RCPT, RCPT, (RCPT[0], ["452 4.5.3"]), DATA, TEXT, (MAIL[0], ["421 4.7.0"])], settings)


EXPECTED_OFFER = {
    "default": (SETTINGS, ["PIPELINING", "SIZE 100000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES",
                           "CHUNKING", "BINARYMIME", "PRDR", "LIMITS RCPTMAX=1000 MAILMAX=1000", "VRFY",
                           "HELP"]),
    "LMTP": (
        replace(SETTINGS, protocol="lmtp", offered=frozenset({"PRDR", "PIPELINING"})), ["PIPELINING"],
    ),
    "starttls": (replace(SETTINGS, starttls=True, offered=frozenset({"STARTTLS"})), ["STARTTLS"]),
    "future release and deliver by": (
        replace(
            SETTINGS,
            offered=frozenset({"FUTURERELEASE", "DELIVERBY"}),
            parameter_limits=ParameterLimits(3600, datetime(2030, 1, 1, tzinfo=UTC), min_by_seconds=30),
        ),
        ["DELIVERBY 30", "FUTURERELEASE 3600 2030-01-01T00:00:00Z"],
    ),
    "future release without its bounds": (replace(SETTINGS, offered=frozenset({"FUTURERELEASE"})), []),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED_OFFER)
def test_offer(name: str) -> None:
    settings, lines = EXPECTED_OFFER[name]
    driver = Driver(settings)
    driver.pump()
    hello = b"LHLO" if settings.protocol == "lmtp" else b"EHLO"
    answer = driver.say(hello + b" x.test\r\n").decode().splitlines()
    assert [line[4:] for line in answer] == ["mx.test", *lines]


def test_every_parameter_reaches_the_envelope() -> None:
    mail = (
        b"MAIL FROM:<a@x.test> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=q+2B1 AUTH=<> BY=60;NT "
        b"MT-PRIORITY=3 PRDR HOLDFOR=60\r\n"
    )
    rcpt = b"RCPT TO:<b@y.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@y.test\r\n"
    settings = replace(
        ALL, parameter_limits=ParameterLimits(3600, datetime(2030, 1, 1, tzinfo=UTC), min_by_seconds=30)
    )
    driver = dialog(
        [EHLO, (mail, ["250 2.1.0"]), (rcpt, ["250 2.1.5"]), DATA, TEXT], settings, mechanisms=("PLAIN",)
    )
    envelope = next(event for event in driver.events if isinstance(event, ev.DataEnd)).envelope
    assert (envelope.size, envelope.body, envelope.smtputf8) == (10, BodyType.EIGHT_BIT_MIME, True)
    assert (envelope.ret, envelope.envid, envelope.priority, envelope.prdr) == ("HDRS", "q+1", 3, True)
    assert (envelope.deliver_by, envelope.hold_for) == ((60, "N", True), 60)
    recipient = envelope.recipients[0]
    assert recipient.notify == frozenset({"SUCCESS", "DELAY"})
    assert recipient.original == ("rfc822", "b+c@y.test")


def test_binarymime_needs_bdat_and_keeps_octets() -> None:
    mail = (b"MAIL FROM:<a@x.test> BODY=BINARYMIME\r\n", ["250 2.1.0"])
    driver = dialog(
        [EHLO, mail, RCPT, (b"DATA\r\n", ["503 5.5.1"]), (b"BDAT 4 LAST\r\n\r\x00\n\n", ["250 2.0.0"])], ALL
    )
    assert driver.messages == [b"\r\x00\n\n"]
    dialog([EHLO, (mail[0], ["555 5.5.4"])], replace(SETTINGS, offered=DEFAULT_OFFER - {"BINARYMIME"}))


LMTP = replace(SETTINGS, protocol="lmtp")
LHLO = (b"LHLO client.test\r\n", ["250"])


def test_lmtp_answers_each_recipient() -> None:
    driver = Driver(LMTP)
    driver.pump()
    driver.each = [Reply(250, "2.0.0", "ok"), Reply(552, "5.2.2", "full")]
    driver.say(LHLO[0])
    driver.say(MAIL[0] + RCPT[0] * 2)
    driver.say(DATA[0])
    assert codes(driver.say(TEXT[0])) == ["250 2.0.0", "552 5.2.2"]


def test_lmtp_wants_lhlo_and_smtp_does_not() -> None:
    dialog([(b"EHLO x.test\r\n", ["500 5.5.1"]), LHLO], LMTP)
    dialog([(b"LHLO x.test\r\n", ["500 5.5.1"]), EHLO])


def test_prdr_answers_each_recipient_only_when_they_differ() -> None:
    driver = Driver()
    driver.pump()
    driver.say(EHLO[0])
    for each, expected in (
        (
            [Reply(250, "2.0.0", "ok"), Reply(552, "5.2.2", "full")],
            ["353", "250 2.0.0", "552 5.2.2", "250 2.0.0"],
        ),
        ([Reply(250, "2.0.0", "ok"), Reply(250, "2.1.5", "ok")], ["250 2.0.0"]),
    ):
        driver.each = each
        driver.say(b"MAIL FROM:<a@x.test> PRDR\r\n" + RCPT[0] * 2)
        driver.say(DATA[0])
        assert codes(driver.say(TEXT[0])) == expected


def test_smtp_without_prdr_has_one_answer() -> None:
    driver = Driver()
    driver.pump()
    driver.each = [Reply(250, "2.0.0", "ok"), Reply(552, "5.2.2", "full")]
    for group in (EHLO, MAIL, RCPT, RCPT, DATA):
        driver.say(group[0])
    assert codes(driver.say(TEXT[0])) == ["250 2.0.0"]


TLS = replace(SETTINGS, starttls=True)


def test_starttls_forgets_everything() -> None:
    driver = Driver(TLS, mechanisms=("PLAIN",))
    driver.pump()
    assert b"STARTTLS" in driver.say(EHLO[0])
    assert codes(driver.say(b"STARTTLS\r\n")) == ["220 2.0.0"]
    assert driver.session.state is State.TLS
    driver.session.authenticated = True
    driver.session.tls_started()
    assert not driver.session.authenticated
    assert not driver.session.keywords
    assert codes(driver.say(MAIL[0])) == ["503 5.5.1"]
    answer = driver.say(EHLO[0])
    assert b"STARTTLS" not in answer
    assert codes(driver.say(b"STARTTLS\r\n")) == ["503 5.5.1"]


def test_octets_after_starttls_are_never_commands() -> None:
    driver = Driver(TLS)
    driver.pump()
    driver.say(EHLO[0])
    assert codes(driver.say(b"STARTTLS\r\n")) == ["220 2.0.0"]
    driver.session.receive_data(b"MAIL FROM:<evil@x.test>\r\n")
    assert driver.pump() == b""
    driver.session.tls_started()
    assert driver.session.buffered == 0
    assert driver.pump() == b""


def test_requiretls_is_offered_inside_tls_only() -> None:
    mail = b"MAIL FROM:<a@x.test> REQUIRETLS\r\n"
    dialog([EHLO, (mail, ["555 5.5.4"])])
    driver = Driver(session=ServerSession(SETTINGS, tls=True))
    driver.pump()
    assert b"REQUIRETLS" in driver.say(EHLO[0])
    assert codes(driver.say(mail)) == ["250 2.1.0"]
    assert driver.session.envelope is not None
    assert driver.session.envelope.require_tls


def test_tls_required() -> None:
    settings = replace(TLS, require_tls=True)
    dialog(
        [
            EHLO,
            (MAIL[0], ["530 5.7.0"]),
            (b"AUTH PLAIN\r\n", ["530 5.7.0"]),
            (b"NOOP\r\n", ["250 2.0.0"]),
            (b"STARTTLS\r\n", ["220 2.0.0"]),
        ],
        settings,
    )


def test_no_password_is_asked_for_where_tls_comes_first() -> None:
    driver = Driver(replace(TLS, require_tls=True), mechanisms=("PLAIN",))
    driver.pump()
    assert b"AUTH" not in driver.say(b"EHLO c\r\n")
    assert codes(driver.say(b"AUTH PLAIN AGEAYg==\r\n")) == ["530 5.7.0"]
    driver = Driver(TLS, mechanisms=("PLAIN",))
    driver.pump()
    assert b"AUTH PLAIN" in driver.say(b"EHLO c\r\n")


def test_auth() -> None:
    dialog(
        [
            EHLO,
            (b"AUTH NTLM\r\n", ["504 5.5.4"]),
            (b"AUTH PLAIN !!!\r\n", ["501 5.5.2"]),
            (b"AUTH PLAIN\r\n", ["334"]),
            (b"*\r\n", ["501 5.7.0"]),
            (b"AUTH PLAIN\r\n", ["334"]),
            (b"%%%\r\n", ["501 5.5.2"]),
            (b"AUTH PLAIN\r\n", ["334"]),
            (b"AGEAYg==\r\n", ["235 2.7.0"]),
            (b"AUTH PLAIN AGEAYg==\r\n", ["503 5.5.1"]),
            MAIL,
        ],
        mechanisms=("PLAIN",),
    )


def test_auth_line_limit_is_larger_than_a_commands() -> None:
    dialog(
        [EHLO, (b"AUTH PLAIN\r\n", ["334"]), (b"QUJD" * 3000 + b"\r\n", ["235 2.7.0"])], mechanisms=("PLAIN",)
    )
    dialog(
        [EHLO, (b"AUTH PLAIN\r\n", ["334"]), (b"QUJD" * 3100 + b"\r\n", ["500 5.5.6"]), MAIL],
        mechanisms=("PLAIN",),
    )


def test_auth_before_tls() -> None:
    dialog([EHLO, (b"AUTH PLAIN\r\n", ["538 5.7.11"])], TLS)


def test_xclient_and_xforward_from_trusted_peers() -> None:
    session = ServerSession(SETTINGS, trusted_xclient=True, trusted_xforward=True)
    driver = Driver(session=session)
    driver.pump()
    answer = driver.say(EHLO[0])
    assert b"XCLIENT NAME ADDR" in answer
    assert b"XFORWARD NAME ADDR" in answer
    assert codes(driver.say(b"XFORWARD ADDR=192.0.2.1 HELO=spike.test\r\n")) == ["250 2.0.0"]
    session.authenticated = True
    assert codes(driver.say(b"XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE]\r\n")) == ["220"]
    assert not session.authenticated
    assert not session.keywords
    assert codes(driver.say(MAIL[0])) == ["503 5.5.1"]
    assert isinstance(driver.events[-2], ev.Xclient)


def test_a_refused_greeting_closes() -> None:
    driver = Driver(decide=lambda event: Reply(554, "5.7.1", "go away"))
    assert codes(driver.pump()) == ["554 5.7.1"]
    assert driver.session.state is State.CLOSED


def test_the_driver_may_end_the_session_between_commands() -> None:
    driver = dialog([EHLO], bytewise=False)
    driver.session.answer(Reply(421, "4.4.2", "timeout", close=True))
    assert codes(driver.session.data_to_send()) == ["421 4.4.2"]
    assert driver.pump() == b""


# fmt: off
VOCABULARY = st.sampled_from(
    [
        b"EHLO x.test\r\n", b"HELO x\r\n", b"MAIL FROM:<a@x.test>\r\n", b"RCPT TO:<b@y.test>\r\n",
        b"DATA\r\n", b"text\r\n.\r\n", b".\r\n", b"BDAT 3\r\n", b"BDAT 0 LAST\r\n", b"abc",
        b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n", b"AGEAYg==\r\n",
        b"*\r\n", b"\r\n", b"\n", b"\x00", b"\xff\r\n", b"VRFY x\r\n", b"XCLIENT ADDR=192.0.2.1\r\n",
        b"MAIL FROM:<> BODY=BINARYMIME\r\n", b"BDAT 99999999999 LAST\r\n",
    ]
)
# fmt: on


@given(st.lists(VOCABULARY, max_size=25), st.integers(0, 7), st.booleans())
def test_whatever_a_client_says_the_session_stands(groups: list[bytes], step: int, trusted: bool) -> None:
    session = ServerSession(replace(ALL, starttls=True, max_errors=5), trusted_xclient=trusted)
    driver = Driver(session=session, step=step, mechanisms=("PLAIN",))
    out = driver.pump()
    for group in groups:
        out += driver.say(group)
        if session.state is State.TLS:
            session.tls_started()
    for line in out.split(b"\r\n")[:-1]:
        assert line[:3].isdigit()
        assert line[3:4] in (b" ", b"-")
        assert len(line) <= 510


@given(st.binary(max_size=200), st.integers(0, 3))
def test_garbage(octets: bytes, step: int) -> None:
    driver = Driver(step=step)
    out = driver.pump() + driver.say(octets)
    assert out.startswith(b"220 ")


def test_default_offer_has_nothing_that_is_not_honoured_yet() -> None:
    assert not DEFAULT_OFFER & {"DSN", "DELIVERBY", "FUTURERELEASE", "MT-PRIORITY", "ETRN"}
    assert ServerSettings("x").offered is DEFAULT_OFFER


_GROUPS = st.lists(
    st.one_of(
        st.just(fuzz_server.WAIT),
        st.sampled_from([128 + index for index in range(len(fuzz_server.TOKENS))]),
        st.integers(0, 127),
    ),
    max_size=30,
).map(bytes)
_OPENINGS = st.sampled_from([b"", b"\xff\x80\xff", b"\xff\x80\x83\x86\xff", b"\xff\x82\xff"])


@given(st.binary(min_size=10, max_size=10), _OPENINGS, _GROUPS)
@examples(max_examples=200, deadline=None)
def test_the_invariant_of_the_fuzzer(way: bytes, opening: bytes, groups: bytes) -> None:
    fuzz_server.check(way + opening + groups)
