"""The ESMTP parameters of MAIL and RCPT, server side."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mta.address import NULL, parse_address
from mta.envelope import BodyType, DeliverBy, Envelope, OriginalRecipient, Recipient
from mta.smtp.parameters import (
    ParameterLimits,
    apply_mail_parameters,
    apply_rcpt_parameters,
    parse_date_time,
)
from mta.smtp.syntax import SyntaxProblem, split_parameters

EXTENSIONS = {
    "SIZE": "SIZE",
    "BODY": "8BITMIME",
    "SMTPUTF8": "SMTPUTF8",
    "AUTH": "AUTH",
    "RET": "DSN",
    "ENVID": "DSN",
    "REQUIRETLS": "REQUIRETLS",
    "BY": "DELIVERBY",
    "HOLDFOR": "FUTURERELEASE",
    "HOLDUNTIL": "FUTURERELEASE",
    "MT-PRIORITY": "MT-PRIORITY",
    "PRDR": "PRDR",
    "NOTIFY": "DSN",
    "ORCPT": "DSN",
}
ALL = frozenset(EXTENSIONS.values()) | {"BINARYMIME", "CHUNKING"}

GOOD_MAIL = [
    ("SIZE=0", "size", 0),
    ("SIZE=1234", "size", 1234),
    ("SIZE=" + "9" * 20, "size", 10**20 - 1),
    ("BODY=7BIT", "body", BodyType.SEVEN_BIT),
    ("body=8bitMIME", "body", BodyType.EIGHT_BIT_MIME),
    ("BODY=BINARYMIME", "body", BodyType.BINARY_MIME),
    ("SMTPUTF8", "smtputf8", True),
    ("AUTH=<>", "auth", "<>"),
    ("AUTH=a+40b.example", "auth", "a@b.example"),
    ("AUTH=a@b.example", "auth", "a@b.example"),
    ("AUTH=e+3Dmc2@example.com", "auth", "e=mc2@example.com"),
    ("AUTH=somebody", "auth", "<>"),
    ("AUTH=j+C3+B6rg@b.example", "auth", "jörg@b.example"),
    ("RET=full", "ret", "FULL"),
    ("RET=HDRS", "ret", "HDRS"),
    ("ENVID=QQ314159", "envid", "QQ314159"),
    ("ENVID=a+2Bb+20c", "envid", "a+b c"),
    ("ENVID=" + "x" * 100, "envid", "x" * 100),
    ("REQUIRETLS", "require_tls", True),
    ("BY=120;R", "deliver_by", DeliverBy(120, "R", False)),
    ("BY=-60;nt", "deliver_by", DeliverBy(-60, "N", True)),
    ("BY=+5;RT", "deliver_by", DeliverBy(5, "R", True)),
    ("BY=0;N", "deliver_by", DeliverBy(0, "N", False)),
    ("BY=999999999;N", "deliver_by", DeliverBy(999999999, "N", False)),
    ("HOLDFOR=1", "hold_for", 1),
    ("HOLDFOR=999999999", "hold_for", 999999999),
    ("HOLDUNTIL=2030-01-01T00:00:00Z", "hold_until", "2030-01-01T00:00:00Z"),
    ("HOLDUNTIL=2030-01-01t00:00:00.25+01:00", "hold_until", "2030-01-01T00:00:00.25+01:00"),
    ("MT-PRIORITY=0", "priority", 0),
    ("MT-PRIORITY=9", "priority", 9),
    ("mt-priority=-9", "priority", -9),
    ("PRDR", "prdr", True),
]

BAD_MAIL = [
    *("SIZE", "SIZE=x", "SIZE=-1", "SIZE=1.5", "SIZE=" + "9" * 21, "SIZE=²", "SIZE=１"),
    *("BODY", "BODY=9BIT", "BODY=8BIT"),
    *("SMTPUTF8=1", "REQUIRETLS=yes", "PRDR=1"),
    *("AUTH", "AUTH=+", "AUTH=a+00", "AUTH=" + "x" * 501),
    *("RET", "RET=ALL"),
    *("ENVID", "ENVID=a+0Ab", "ENVID=+C3+B6", "ENVID=é", "ENVID=+zz", "ENVID=" + "x" * 101),
    *("BY", "BY=5", "BY=;R", "BY=x;R", "BY=5;X", "BY=5;R;T", "BY=1000000000;N", "BY=--5;N", "BY=5;TR"),
    *("BY=0;R", "BY=-1;RT", "BY=５;R"),
    *("HOLDFOR", "HOLDFOR=0", "HOLDFOR=-1", "HOLDFOR=1000000000", "HOLDFOR=x"),
    *("HOLDUNTIL", "HOLDUNTIL=tomorrow", "HOLDUNTIL=2030-01-01", "HOLDUNTIL=2030-01-01T00:00:00"),
    "HOLDFOR=5 HOLDUNTIL=2030-01-01T00:00:00Z",
    "HOLDUNTIL=2030-01-01T00:00:00Z HOLDFOR=5",
    *(
        "MT-PRIORITY",
        "MT-PRIORITY=10",
        "MT-PRIORITY=-10",
        "MT-PRIORITY=+3",
        "MT-PRIORITY=-0",
        "MT-PRIORITY=x",
    ),
    *("MT-PRIORITY=--1", "MT-PRIORITY=-", "MT-PRIORITY=٣"),
]

GOOD_RCPT = [
    ("NOTIFY=NEVER", "notify", frozenset({"NEVER"})),
    ("NOTIFY=success,Failure,DELAY", "notify", frozenset({"SUCCESS", "FAILURE", "DELAY"})),
    ("NOTIFY=DELAY,DELAY", "notify", frozenset({"DELAY"})),
    ("ORCPT=rfc822;a+2Bb@c.example", "original", OriginalRecipient("rfc822", "a+b@c.example")),
    ("ORCPT=RFC822;a@b", "original", OriginalRecipient("rfc822", "a@b")),
    ("ORCPT=rfc822;SRS0=x=y@b", "original", OriginalRecipient("rfc822", "SRS0=x=y@b")),
    ("ORCPT=x400;/S=a;/C=b", "original", OriginalRecipient("x400", "/S=a;/C=b")),
    ("ORCPT=utf-8;j\\x{F6}rg@b", "original", OriginalRecipient("utf-8", "jörg@b")),
    ("ORCPT=UTF-8;jörg@b", "original", OriginalRecipient("utf-8", "jörg@b")),
    ("ORCPT=rfc822;j+C3+B6rg@b", "original", OriginalRecipient("utf-8", "jörg@b")),
    ("ORCPT=rfc822;jörg@b", "original", OriginalRecipient("utf-8", "jörg@b")),
]

BAD_RCPT = [
    *("NOTIFY", "NOTIFY=,", "NOTIFY=NEVER,DELAY", "NOTIFY=ALWAYS", "NOTIFY=DELAY,", "NOTIFY=DELAY;NEVER"),
    *("ORCPT", "ORCPT=a@b", "ORCPT=rfc822;", "ORCPT=;a@b", "ORCPT=rfc822;a+0Ab", "ORCPT=rfc822;+B6@b"),
    *("ORCPT=x400;jörg@b", "ORCPT=utf-8;\\x{A}", "ORCPT=utf-8;\\x{D800}", "ORCPT=r f;x", "ORCPT=é;x"),
    "ORCPT=rfc822;" + "x" * 494,
]

UNKNOWN = ["X-FOO", "X-FOO=1", "XSIZE=1", "DSN", "8BITMIME", "NULL=1", "A1"]


def mail(text: str, offered: frozenset[str] = ALL, limits: ParameterLimits | None = None) -> Envelope:
    envelope = Envelope(NULL)
    if limits is None:
        apply_mail_parameters(envelope, split_parameters(text), offered)
    else:
        apply_mail_parameters(envelope, split_parameters(text), offered, limits)
    return envelope


def rcpt(text: str, offered: frozenset[str] = ALL) -> Recipient:
    recipient = Recipient(parse_address("a@b"))
    apply_rcpt_parameters(recipient, split_parameters(text), offered)
    return recipient


def refused(caught: pytest.ExceptionInfo[SyntaxProblem]) -> str:
    reply = caught.value.reply
    assert reply.text.isprintable()
    return f"{reply.code} {reply.enhanced}"


@pytest.mark.parametrize(("text", "name", "value"), GOOD_MAIL)
def test_mail_parameter_sets_its_field_and_no_other(text: str, name: str, value: Any) -> None:
    expected = Envelope(NULL)
    setattr(expected, name, value)
    assert mail(text) == expected


@pytest.mark.parametrize("text", BAD_MAIL)
def test_bad_mail_parameter(text: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        mail(text)
    assert refused(caught) == "501 5.5.4"


@pytest.mark.parametrize(("text", "name", "value"), GOOD_RCPT)
def test_rcpt_parameter_sets_its_field_and_no_other(text: str, name: str, value: Any) -> None:
    expected = Recipient(parse_address("a@b"))
    setattr(expected, name, value)
    assert rcpt(text) == expected


@pytest.mark.parametrize("text", BAD_RCPT)
def test_bad_rcpt_parameter(text: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        rcpt(text)
    assert refused(caught) == "501 5.5.4"


@pytest.mark.parametrize("text", [*UNKNOWN, "NOTIFY=NEVER", "ORCPT=rfc822;a"])
def test_unknown_mail_parameter(text: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        mail(text)
    assert refused(caught) == "555 5.5.4"


@pytest.mark.parametrize("text", [*UNKNOWN, "SIZE=1", "BODY=7BIT", "RET=FULL"])
def test_unknown_rcpt_parameter(text: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        rcpt(text)
    assert refused(caught) == "555 5.5.4"


@pytest.mark.parametrize("text", [row[0] for row in GOOD_MAIL])
def test_mail_parameter_of_an_extension_that_was_not_offered(text: str) -> None:
    extension = EXTENSIONS[text.partition("=")[0].upper()]
    assert mail(text, ALL)
    with pytest.raises(SyntaxProblem) as caught:
        mail(text, ALL - {extension})
    assert refused(caught) == "555 5.5.4"


@pytest.mark.parametrize("text", [row[0] for row in GOOD_RCPT])
def test_rcpt_parameter_of_an_extension_that_was_not_offered(text: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        rcpt(text, ALL - {"DSN"})
    assert refused(caught) == "555 5.5.4"


def test_binarymime_is_an_extension_of_its_own() -> None:
    assert mail("BODY=8BITMIME", ALL - {"BINARYMIME"}).body is BodyType.EIGHT_BIT_MIME
    with pytest.raises(SyntaxProblem) as caught:
        mail("BODY=BINARYMIME", ALL - {"BINARYMIME"})
    assert refused(caught) == "555 5.5.4"


def test_a_long_unknown_keyword_is_repeated_in_part_only() -> None:
    with pytest.raises(SyntaxProblem) as caught:
        mail("X" * 2000)
    assert len(caught.value.reply.encode()) < 100


LIMITS = ParameterLimits(
    max_hold_seconds=3600, latest_hold_until=datetime(2030, 1, 1, tzinfo=UTC), min_by_seconds=60
)


@pytest.mark.parametrize(
    "text",
    [
        *("HOLDFOR=3600", "HOLDUNTIL=2030-01-01T00:00:00Z", "HOLDUNTIL=2030-01-01T01:00:00+01:00"),
        *("BY=60;R", "BY=5;N", "BY=-5;NT", "SIZE=5"),
    ],
)
def test_within_the_limits(text: str) -> None:
    assert mail(text, limits=LIMITS) == mail(text)
    assert mail(text, limits=ParameterLimits()) == mail(text)


@pytest.mark.parametrize(
    "text",
    ["HOLDFOR=3601", "HOLDUNTIL=2030-01-01T00:00:01Z", "HOLDUNTIL=2030-01-01T00:00:00-00:01", "BY=59;RT"],
)
def test_beyond_the_limits(text: str) -> None:
    assert mail(text, limits=ParameterLimits())
    with pytest.raises(SyntaxProblem) as caught:
        mail(text, limits=LIMITS)
    assert refused(caught) == "501 5.5.4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02t03:04:05z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02T03:04:05+02:00", datetime(2030, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2030-01-02T03:04:05.5Z", datetime(2030, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
        ("2030-01-02T03:04:05.123456789Z", datetime(2030, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2030-01-02 03:04:05Z", None),
        ("2030-01-02T03:04:05", None),
        ("2030-01-02T03:04Z", None),
        ("2030-01-02T03:04:05.Z", None),
        ("2030-01-02T03:04:05+0200", None),
        ("2030-01-02T03:04:05+02:00:01", None),
        ("2030-01-02T03:04:05,5Z", None),
        ("20300102T030405Z", None),
        ("2030-W01-1T03:04:05Z", None),
        ("2030-02-30T03:04:05Z", None),
        ("2030-01-02T24:04:05Z", None),
        ("2030-01-02T03:04:61Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("２030-01-02T03:04:05Z", None),
        ("", None),
    ],
)
def test_date_time(text: str, expected: datetime | None) -> None:
    assert parse_date_time(text) == expected
