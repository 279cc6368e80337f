"""duplicate (RFC 7352)."""

from __future__ import annotations

import pytest

from sieve_ext.extensions.duplicate import DAY, DuplicateRecord, DuplicateSeen, duplicate_key
from tests.unit.sieve_delivery import Answers, complaints, holds, outcome

NAMES = "duplicate variables"

ASKED = [
    # section 3.1: what identifies a message, and section 3.2: a handle
    ("duplicate", duplicate_key(None, "<a@b>")),
    ('duplicate :header "subject"', duplicate_key(None, "Frop!")),
    ('duplicate :uniqueid "x"', duplicate_key(None, "x")),
    ('duplicate :handle "h"', duplicate_key("h", "<a@b>")),
    ('duplicate :handle "h" :uniqueid "${v}"', duplicate_key("h", "value")),
]


@pytest.mark.parametrize(("test", "key"), ASKED)
def test_asked(test: str, key: bytes) -> None:
    host = Answers()
    result = outcome(NAMES, f'set "v" "value"; if {test} {{ discard; }}', host=host)
    assert host.asked == [DuplicateSeen(key)]
    assert result.actions == []
    assert result.records == [DuplicateRecord(key, 7 * DAY)]


def test_keys_differ() -> None:
    keys = [duplicate_key(None, "a"), duplicate_key("", "a"), duplicate_key("a", ""), duplicate_key("h", "a")]
    assert len(set(keys)) == 4
    assert all(len(key) == 20 for key in keys)


def test_seen() -> None:
    host = Answers({DuplicateSeen: lambda ask: True})
    assert holds(NAMES, "duplicate", host=host)
    assert outcome(NAMES, "if duplicate { discard; }", host=host).records == []
    # Section 3.2: with :last the time begins anew.
    assert len(outcome(NAMES, "if duplicate :last { discard; }", host=host).records) == 1


def test_without_the_field() -> None:
    host = Answers({DuplicateSeen: lambda ask: True})
    assert not holds(NAMES, 'duplicate :header "x-none"', host=host)
    assert not holds(NAMES, 'duplicate :uniqueid ""', host=host)
    assert host.asked == []


def test_same_answer_in_one_run() -> None:
    host = Answers()
    result = outcome(NAMES, "if duplicate { discard; } if not duplicate { keep; }", host=host)
    assert len(host.asked) == 1
    assert len(result.records) == 1
    assert [one.name for one in result.actions] == ["keep"]


def test_nothing_is_remembered_of_a_run_that_fails() -> None:
    assert outcome("duplicate ihave", 'if duplicate { keep; } error "x";').records == []


PERIODS = [
    ("duplicate :seconds 60", {}, 60),
    ("duplicate :seconds 0", {}, 0),
    ("duplicate", {"sieve_duplicate_default_period": "1h"}, 3600),
    ("duplicate :seconds 100000000", {}, 60 * DAY),
    ("duplicate :seconds 100000000", {"sieve_duplicate_max_period": "0"}, 100_000_000),
    ("duplicate", {"sieve_duplicate_max_period": "2d"}, 2 * DAY),
]


@pytest.mark.parametrize(("test", "settings", "seconds"), PERIODS)
def test_periods(test: str, settings: dict[str, str], seconds: int) -> None:
    (record,) = outcome(NAMES, f"if {test} {{ keep; }}", settings=settings).records
    assert isinstance(record, DuplicateRecord)
    assert record.seconds == seconds


WRONG = [
    ('if duplicate :handle "a" :handle "b" { keep; }', "1:26 error encountered duplicate :handle argument"),
    ('if duplicate :header "a" :uniqueid "b" { keep; }', "1:4 error conflicting :header and :uniqueid"),
    ('if duplicate :header "a:" { keep; }', "1:22 warning specified header field name 'a:' is invalid"),
    ('if duplicate :header ["a"] { keep; }', "1:22 error the :header tag for the duplicate test requires"),
    ('if duplicate :seconds "a" { keep; }', "1:23 error the :seconds tag for the duplicate test requires a"),
    ("if duplicate :last :last { keep; }", "1:20 error encountered duplicate :last argument"),
    ('if duplicate "x" { keep; }', "1:14 error the duplicate test requires 0 positional argument(s), but 1"),
]


@pytest.mark.parametrize(("script", "start"), WRONG)
def test_wrong(script: str, start: str) -> None:
    (text,) = complaints(NAMES, script)
    assert text.startswith(start)
