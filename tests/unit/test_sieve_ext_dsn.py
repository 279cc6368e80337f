"""envelope-dsn, redirect-dsn, envelope-deliverby and redirect-deliverby (RFC 6009)."""

from __future__ import annotations

from datetime import datetime

import pytest

from sieve_ext import Envelope
from tests.unit.sieve_delivery import complaints, holds, outcome

NAMES = (
    "envelope envelope-dsn redirect-dsn envelope-deliverby redirect-deliverby variables relational copy"
    " comparator-i;ascii-numeric"
)
ENVELOPE = Envelope(
    "a@b.c",
    "d@e.f",
    extra={
        "notify": ("SUCCESS", "DELAY"),
        "orcpt": ("rfc822;Big@Example.org",),
        "ret": ("HDRS",),
        "envid": ("QQ 314",),
        "bytimerelative": ("600",),
        "bymode": ("return",),
        "bytrace": ("trace",),
    },
)

TESTS = [
    # section 4
    (True, 'envelope "notify" "delay"'),
    (False, 'envelope "notify" "failure"'),
    (True, 'envelope :comparator "i;ascii-numeric" :count "eq" "notify" "2"'),
    (True, 'envelope :matches "orcpt" "rfc822;*@example.org"'),
    (True, 'envelope "ret" "hdrs"'),
    (True, 'envelope "ENVID" "qq 314"'),
    # section 6
    (True, 'envelope :comparator "i;ascii-numeric" :value "le" "bytimerelative" "600"'),
    (True, 'envelope "bymode" "return"'),
    (True, 'envelope "bytrace" "trace"'),
    (False, 'envelope :contains "bytimeabsolute" ""'),
    (True, 'envelope ["from", "notify"] "a@b.c"'),
]


@pytest.mark.parametrize(("expected", "test"), TESTS)
def test_envelope(expected: bool, test: str) -> None:
    assert holds(NAMES, test, envelope=ENVELOPE) is expected


def test_without_parameters() -> None:
    assert not holds(NAMES, 'envelope :contains ["notify", "orcpt", "ret", "envid", "bymode"] ""')


OPTIONS = [
    # section 5
    (':notify "never"', {"notify": ("NEVER",)}),
    (':notify "FAILURE,Delay" :ret "full"', {"notify": ("FAILURE", "DELAY"), "ret": "FULL"}),
    # section 7
    (":bytimerelative 600", {"bytimerelative": 600, "bymode": "notify"}),
    (
        ':bymode "RETURN" :bytrace :bytimerelative 600',
        {"bytimerelative": 600, "bymode": "return", "bytrace": True},
    ),
    (
        ':bytimeabsolute "2026-12-31T23:59:00+01:00" :bymode "notify"',
        {"bytimeabsolute": datetime.fromisoformat("2026-12-31T22:59:00+00:00"), "bymode": "notify"},
    ),
    (
        ':bytimeabsolute "${day}T10:00:00Z"',
        {"bytimeabsolute": datetime.fromisoformat("2026-12-31T10:00:00+00:00"), "bymode": "notify"},
    ),
]


@pytest.mark.parametrize(("tags", "options"), OPTIONS)
def test_redirect(tags: str, options: dict[str, object]) -> None:
    result = outcome(NAMES, f'set "day" "2026-12-31"; redirect {tags} "a@b.c";')
    assert not result.errors
    assert [one.options for one in result.actions] == [options]


WRONG = [
    ('redirect :notify "NEVER,DELAY" "a@b.c";', "1:18 error invalid :notify value 'NEVER,DELAY'"),
    ('redirect :notify "DELAY,DELAY" "a@b.c";', "1:18 error invalid :notify value"),
    ('redirect :notify "" "a@b.c";', "1:18 error invalid :notify value ''"),
    ('redirect :notify "SUCCESS, DELAY" "a@b.c";', "1:18 error invalid :notify value"),
    ('redirect :ret "ALL" "a@b.c";', "1:15 error invalid :ret value 'ALL'"),
    ('redirect :bymode "notify" "a@b.c";', "1:10 error the :bymode tag for the redirect command can only be"),
    ('redirect :bytrace "a@b.c";', "1:10 error the :bytrace tag for the redirect command can only be used"),
    ('redirect :bytimerelative 1 :bymode "x" "a@b.c";', "1:36 error invalid :bymode value 'x'"),
    ('redirect :bytimerelative "1" "a@b.c";', "1:26 error the :bytimerelative tag for the redirect command"),
    ('redirect :bytimerelative 1G "a@b.c";', "1:10 error the :bytimerelative value is too large"),
    ('redirect :bytimeabsolute "2026-12-31" "a@b.c";', "1:26 error invalid :bytimeabsolute value"),
    ('redirect :bytimeabsolute "2026-12-31T10:00:00" "a@b.c";', "1:26 error invalid :bytimeabsolute value"),
    (
        'redirect :bytimerelative 1 :bytimeabsolute "2026-12-31T10:00:00Z" "a@b.c";',
        "1:28 error encountered duplicate BYTIME argument",
    ),
    ('if envelope :localpart "notify" "x" { keep; }', "1:24 error envelope part 'notify' is no address"),
]


@pytest.mark.parametrize(("script", "start"), WRONG)
def test_wrong(script: str, start: str) -> None:
    (text,) = complaints(NAMES, script)
    assert text.startswith(start)


@pytest.mark.parametrize(
    "tags",
    [':notify "${x}"', ':ret "${x}"', ':bytimeabsolute "${x}"', ':bytimerelative 1 :bymode "${x}"'],
)
def test_wrong_at_run_time(tags: str) -> None:
    result = outcome(NAMES, f'set "x" "nonsense"; redirect {tags} "a@b.c";')
    (fault,) = result.errors
    assert "'nonsense'" in fault.text
    assert result.implicit_keep is not None


def test_need_their_capabilities() -> None:
    assert len(complaints("envelope", 'if envelope "notify" "x" { keep; }')) == 1
    assert len(complaints("copy", 'redirect :copy :notify "NEVER" "a@b.c";')) == 1
    (text,) = complaints("envelope-dsn", "keep;")
    assert "cannot be used without 'envelope'" in text
