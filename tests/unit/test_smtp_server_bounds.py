"""What a client may make the server session say, count and log: never more than it has a right to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mta.smtp import events as ev
from mta.smtp.server import ServerSession
from mta.smtp.state import COMMANDS, FOREIGN, OBSOLETE
from tests.unit.smtp_dialog import SETTINGS, Driver, codes, dialog

HELLO = (b"EHLO c.test\r\n", ["250"])


def refusals(driver: Driver) -> list[ev.Refused]:
    return [event for event in driver.events if isinstance(event, ev.Refused)]


@pytest.mark.parametrize("line", [b"XYZZY", b"BDATA 3", b"x" * 1000, b"PROPFIND /", b"\xc3\xa4"])
def test_verbs_that_do_not_exist_have_no_name(line: bytes) -> None:
    """The verb of a refusal is a label of a metric: a client must not make new ones."""
    driver = dialog([HELLO, (line + b"\r\n", ["500 5.5.1"])], bytewise=False)
    (refused,) = refusals(driver)
    assert refused.verb == ""


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"RCPT TO:<bob@>", b"TO:<bob@>"),
        (b"MAIL FROM:<a@b\xff>", b"FROM:<a@b\xff>"),
        (b"EHLO ", b""),
        (b"AUTH PLAIN AGJvYgBzZWNyZXQ?", b""),
        (b"VRFY", b""),
    ],
)
def test_what_was_wrong_is_told_unless_it_may_be_a_secret(line: bytes, what: bytes) -> None:
    driver = Driver()
    driver.pump()
    driver.say(b"EHLO c.test\r\n")
    if line.startswith(b"RCPT"):
        driver.say(b"MAIL FROM:<a@x.test>\r\n")
    driver.say(line + b"\r\n")
    assert [refused.what for refused in refusals(driver)] == [what]


def test_the_verbs_of_refusals_are_known() -> None:
    known = COMMANDS.keys() | OBSOLETE | FOREIGN | {""}
    for verb in sorted(known):
        driver = Driver()
        driver.pump()
        driver.say(verb.encode() + b" ?\r\n")
        assert {refused.verb for refused in refusals(driver)} <= {verb}


def test_recipients_over_the_limit_are_no_errors_within_reason() -> None:
    settings = replace(SETTINGS, max_recipients=3, max_errors=2)
    rcpt = b"RCPT TO:<b@x.test>\r\n"
    group = b"MAIL FROM:<a@x.test>\r\n" + rcpt * 6
    expected = ["250 2.1.0"] + ["250 2.1.5"] * 3 + ["452 4.5.3"] * 3
    driver = dialog(
        [HELLO, (group, expected), (b"RSET\r\n", ["250 2.0.0"]), (group, expected)], settings, bytewise=False
    )
    assert len(refusals(driver)) == 2, "one line in the log for each message"
    assert codes(driver.say(rcpt * 2)) == ["452 4.5.3"] * 2
    assert codes(driver.say(rcpt)) == ["421 4.7.0"]


def test_what_follows_a_refused_mail_is_no_error_within_reason() -> None:
    settings = replace(SETTINGS, max_recipients=3, max_errors=3)
    rcpt = b"RCPT TO:<b@x.test>\r\n"
    group = b"MAIL FROM:<a@>\r\n" + rcpt * 3
    expected = ["501 5.1.7"] + ["503 5.5.1"] * 3
    driver = dialog([HELLO, (group, expected), (group, expected)], settings, bytewise=False)
    assert len(refusals(driver)) == 4, "two lines in the log for each group"
    assert codes(driver.say(rcpt)) == ["503 5.5.1"]
    assert codes(driver.say(rcpt)) == ["421 4.7.0"]


def test_data_without_a_recipient_is_503_in_lmtp() -> None:
    """RFC 2033 section 4.2 leaves no choice."""
    dialog(
        [
            (b"LHLO c.test\r\n", ["250"]),
            (b"MAIL FROM:<a@x.test>\r\n", ["250 2.1.0"]),
            (b"DATA\r\n", ["503 5.5.1"]),
        ],
        replace(SETTINGS, protocol="lmtp"),
    )


@pytest.mark.parametrize("tokens", [2000, 12_000])
def test_a_login_may_bring_a_long_token_along(tokens: int) -> None:
    """Clients send their bearer token with AUTH, whatever RFC 4954 says about 512 octets."""
    line = b"AUTH XOAUTH2 " + b"QUJD" * (tokens // 4) + b"\r\n"
    driver = dialog([HELLO, (line, ["235 2.7.0"])], mechanisms=("XOAUTH2",), bytewise=False)
    (start,) = (event for event in driver.events if isinstance(event, ev.AuthStart))
    assert start.initial == b"ABC" * (tokens // 4)


def test_a_login_line_has_its_end() -> None:
    line = b"AUTH XOAUTH2 " + b"QUJD" * 4000
    driver = dialog([HELLO, (line + b"\r\n", ["500 5.5.6"])], mechanisms=("XOAUTH2",))
    assert codes(driver.say(b"NOOP\r\n")) == ["250 2.0.0"]
    for octets in (b"NOOP " + b"x" * 3000, b"AUTHX " + b"x" * 3000):
        dialog([HELLO, (octets + b"\r\n", ["500 5.5.2"])], mechanisms=("XOAUTH2",))
    dialog([HELLO, (line + b"\r\n", ["500 5.5.2"])])  # no login is offered


CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"random"
"""The beginning of a handshake of TLS 1.3, without a line end; the random octets behind it may have one."""


@pytest.mark.parametrize(
    "octets", [CLIENT_HELLO, CLIENT_HELLO + b"\r\n", CLIENT_HELLO + b"\n", CLIENT_HELLO + b"x" * 3000]
)
@pytest.mark.parametrize("early", [False, True])
def test_a_program_that_is_set_to_another_port_is_told_apart(octets: bytes, early: bool) -> None:
    """TLS from the first octet belongs on port 465; who set it up for 587 asks the log why nothing works."""
    driver = Driver()
    if not early:
        driver.pump()
    driver.session.receive_data(octets)
    assert codes(driver.pump()) == ["500 5.5.1"]
    (refused,) = refusals(driver)
    assert refused.reply.text == "this port does not begin with TLS"
    assert codes(driver.say(b"\n" + octets)) == []


def test_inside_tls_such_octets_are_a_bad_line() -> None:
    driver = Driver(session=ServerSession(SETTINGS, tls=True))
    driver.pump()
    assert codes(driver.say(CLIENT_HELLO + b"\n")) == ["500 5.5.2"]


def test_an_early_talker_is_told_to_the_driver() -> None:
    driver = Driver()
    driver.session.receive_data(b"EHLO x\r\n")
    assert codes(driver.pump()) == ["554 5.5.0"]
    assert [(refused.reply.code, refused.verb) for refused in refusals(driver)] == [(554, "")]


@pytest.mark.parametrize(("mechanisms", "expected"), [(("PLAIN",), "503 5.5.1"), ((), "502 5.5.1")])
def test_a_login_behind_helo(mechanisms: tuple[str, ...], expected: str) -> None:
    """AUTH is an extension (RFC 4954): who looks for the reason is not told that there is no such command."""
    steps = [(b"HELO c.test\r\n", ["250"]), (b"AUTH LOGIN\r\n", [expected])]
    driver = dialog(steps, mechanisms=mechanisms)
    assert ("EHLO" in refusals(driver)[0].reply.text) is bool(mechanisms)
