"""vnd.dovecot.report."""

from __future__ import annotations

import pytest

from sieve_ext.outgoing.report import ReportAction
from tests.unit.sieve_delivery import MESSAGE, complaints, only_action, only_mail, origin_of, outcome

NAMES = "vnd.dovecot.report variables"

WRONG = [
    ('report "abuse" "msg";', "1:1 error the report command requires 3 positional argument(s), but 2"),
    ('report "abu se" "msg" "a@b.c";', "1:8 error specified report feedback type 'abu se' is invalid"),
    (
        'report "abuse" "msg" "bad";',
        "1:22 error specified report address 'bad' is invalid: invalid or lonely",
    ),
    ('report :headers "abuse" "msg" "a@b.c";', "1:8 error unknown tagged argument ':headers'"),
]


@pytest.mark.parametrize(("script", "start"), WRONG)
def test_wrong(script: str, start: str) -> None:
    (text,) = complaints(NAMES, script)
    assert text.startswith(start)


@pytest.mark.parametrize(
    ("script", "start"),
    [
        ('set "x" "a b"; report "${x}" "m" "a@b.c";', "specified report feedback type 'a b' is invalid"),
        ('set "x" "a b"; report "abuse" "m" "${x}";', "specified report address 'a b' is invalid"),
    ],
)
def test_wrong_at_run_time(script: str, start: str) -> None:
    (fault,) = outcome(NAMES, script).errors
    assert fault.text.startswith(start)


def test_one_of_a_type_to_an_address() -> None:
    script = 'report "abuse" "1" "a@b.c"; report "abuse" "2" "a@b.c"; report "virus" "3" "A <a@b.c>";'
    result = outcome(NAMES, script)
    found = [one for one in result.actions if isinstance(one, ReportAction)]
    assert [(one.kind, one.text, one.address) for one in found] == [
        ("abuse", "1", "a@b.c"),
        ("virus", "3", "a@b.c"),
    ]
    assert result.implicit_keep is not None


def test_report() -> None:
    action = only_action(outcome(NAMES, 'report "abuse" "Look\nat this: \u00e9" "spam@x.y";'))
    mail, header = only_mail(action, origin_of())
    assert (mail.sender, mail.recipients) == ("", ("spam@x.y",))
    assert header.text("from") == "Postmaster <postmaster@example.com>"
    assert header.text("to") == "<spam@x.y>"
    assert header.text("subject") == "Report: Frop!"
    assert header.text("auto-submitted") == "auto-generated (report)"
    assert (header.text("content-type") or "").startswith("multipart/report; report-type=feedback-report;")
    first, second, third = mail.octets.split(b"--=_b\r\n")[1:]
    assert first.startswith(b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n")
    assert first.endswith("\r\n\r\nLook\r\nat this: \u00e9\r\n\r\n".encode())
    assert b"\r\nVersion: 1\r\nFeedback-Type: abuse\r\n" in second
    assert b"\r\nOriginal-Mail-From: <sirius@example.org>\r\n" in second
    assert b"\r\nOriginal-Rcpt-To: <nico@frop.example.org>\r\n" in second
    assert third == (
        b"Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"
        + MESSAGE
        + b"\r\n--=_b--\r\n"
    )


def test_headers_only() -> None:
    action = only_action(outcome(NAMES, 'report :headers_only "not-spam" "x" "spam@x.y";'))
    mail, _ = only_mail(action, origin_of())
    third = mail.octets.split(b"--=_b\r\n")[3]
    assert third.startswith(b"Content-Type: text/rfc822-headers\r\n")
    assert b"Subject: Frop!\r\n" in third
    assert b"body" not in third


FROM = [
    ("postmaster", "Postmaster <postmaster@example.com>"),
    ("sender", "<sirius@example.org>"),
    ("recipient", "<nico@frop.example.org>"),
    ("<q@r.s>", "<q@r.s>"),
    ("nonsense", "Postmaster <postmaster@example.com>"),
]


@pytest.mark.parametrize(("value", "field"), FROM)
def test_from(value: str, field: str) -> None:
    action = only_action(outcome(NAMES, 'report "abuse" "x" "spam@x.y";'))
    _, header = only_mail(action, origin_of(settings={"sieve_report_from": value}))
    assert header.text("from") == field


def test_not_to_oneself() -> None:
    action = only_action(outcome(NAMES, 'report "abuse" "x" "Nico@frop.example.org";'))
    assert action.withheld(origin_of()) is not None


def test_no_report_of_a_report() -> None:
    """Two users who report everything to each other."""
    action = only_action(outcome(NAMES, 'report "abuse" "m" "spam@x.y";'))
    assert isinstance(action, ReportAction)
    assert action.withheld(origin_of()) is None
    mail, _ = only_mail(action, origin_of())
    assert action.withheld(origin_of(mail.octets)) is not None
    assert action.withheld(origin_of(mail.octets.replace(b"feedback-report", b"Delivery-Status", 1))) is None
