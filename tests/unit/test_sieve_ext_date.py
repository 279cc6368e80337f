"""Dates of header fields (RFC 5260, RFC 5322 sections 3.3 and 4.3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sieve_ext import Envelope, check, compile, execute, standard_dialect
from sieve_ext.extensions.date import PARTS, read_date


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tue, 28 Jul 2009 09:46:05 +0530", "2009-07-28T09:46:05+05:30"),
        ("28 Jul 2009 09:46 +0000", "2009-07-28T09:46:00+00:00"),
        ("  Tue,28 Jul 2009  9:6:5 -0330 ", "2009-07-28T09:06:05-03:30"),
        # Section 4.3: obsolete years and zones.
        ("1 Jan 49 00:00 GMT", "2049-01-01T00:00:00+00:00"),
        ("1 Jan 50 00:00 UT", "1950-01-01T00:00:00+00:00"),
        ("1 Jan 102 00:00 UT", "2002-01-01T00:00:00+00:00"),
        ("1 Jan 2000 00:00 PDT", "2000-01-01T00:00:00-07:00"),
        ("1 Jan 2000 00:00 Q", "2000-01-01T00:00:00+00:00"),
        ("1 Jan 2000 00:00", "2000-01-01T00:00:00+00:00"),
        ("1 Jan 2000 00:00:60 +0000", "2000-01-01T00:00:59+00:00"),
        # Comments, and what stands before the last semicolon.
        ("Sat (a (b) c), 1 (d) Feb 2020 10:20:30 +0100 (CET)", "2020-02-01T10:20:30+01:00"),
        ("from x by y; with z; 1 Feb 2020 10:20:30 +0100", "2020-02-01T10:20:30+01:00"),
        ("1-Feb-2020 10:20:30 +0100", "2020-02-01T10:20:30+01:00"),
        ("1 Feb 2020 10:20:30 +9999", "2020-02-01T10:20:30+00:00"),
        ("", None),
        ("31 Feb 2009 10:00:00 +0000", None),
        ("1 Foo 2009 10:00:00 +0000", None),
        ("1 Jan 2009 25:00:00 +0000", None),
        ("1 Jan 2009 10:00:62 +0000", None),
        ("2009-01-01T00:00:00Z", None),
        ("(" * 300, None),
    ],
)
def test_reading(text: str, expected: str | None) -> None:
    found = read_date(text)
    assert (None if found is None else found.isoformat()) == expected


@given(st.text(max_size=400))
def test_anything_is_a_date_or_none(text: str) -> None:
    read_date(text)


zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1000, 1, 1), datetime(9998, 12, 31), timezones=zones))
def test_std11_is_read_back(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert read_date(PARTS["std11"](moment)) == moment


def test_the_time_of_the_run_is_that_of_currentdate() -> None:
    text = 'require "date"; if currentdate :zone "+0200" "iso8601" "2026-11-28T01:59:58+02:00" { discard; }'
    now = datetime(2026, 11, 27, 23, 59, 58, 123456, tzinfo=UTC)
    result = execute(compile(text, standard_dialect()), b"\r\n", Envelope(), now=now)
    assert [one.name for one in result.actions] == ["discard"]


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_the_ends_of_the_calendar(year: str) -> None:
    message = f"Date: 1 Jan {year} 00:00:00 +1400\r\nX: 31 Dec {year} 23:59:59 -1400\r\n\r\n".encode()
    text = 'require "date"; if date :zone "-1400" "Date" "year" "x" { discard; }'
    result = execute(compile(text, standard_dialect()), message, Envelope())
    assert not result.errors


@pytest.mark.parametrize(
    ("test", "found"),
    [
        (
            'currentdate :value "ge" "hour" "8"',
            "'8' is compared as text with date part 'hour', which has the form '08'",
        ),
        (
            'currentdate "weekday" ["1", "tue"]',
            "'tue' is compared as text with date part 'weekday', which has the form '1'",
        ),
        (
            'date :is "date" "date" "2026-1-5"',
            "'2026-1-5' is compared as text with date part 'date', which has the form '2026-01-05'",
        ),
        (
            'currentdate :value "ge" "time" "8:00"',
            "'8:00' is compared as text with date part 'time', which has the form '08:00:00'",
        ),
        ('currentdate :value "ge" "hour" "08"', ""),
        ('currentdate :value "ge" :comparator "i;ascii-numeric" "hour" "8"', ""),
        ('currentdate :matches "date" "2026-1*"', ""),
        ('currentdate :value "ge" "julian" "8"', ""),
        ('currentdate "hour" "${h}"', ""),
    ],
)
def test_keys_that_are_in_no_order_with_a_part(test: str, found: str) -> None:
    head = 'require ["date", "relational", "variables", "comparator-i;ascii-numeric"];\n'
    assert [one.text for one in check(f"{head}if {test} {{ keep; }}", standard_dialect())] == (
        [found] if found else []
    )
