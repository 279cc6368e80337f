"""Filters of the queue: what they match, and what is said about words that are none."""

from __future__ import annotations

import contextlib
import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mailq.filters import KEYS, FilterError, glob, parse_filter
from mta.mailq.rows import QueueRecipient, QueueRow

NOW = 1_795_776_400.0


def row(**given: Any) -> QueueRow:
    values: dict[str, Any] = {
        "id": "01KB3Z8Q2V",
        "size": 9,
        "arrived": NOW - 3600,
        "sender": "Alice@example.org",
        "recipients": (
            QueueRecipient("bob@example.net", "deferred", "451 4.4.1 Connection refused"),
            QueueRecipient("carol@sub.example.com", "queued"),
            QueueRecipient("dave@bücher.test", "delivered", "250 2.0.0 ok"),
        ),
        "node": "mx1",
    }
    return QueueRow(**(values | given))


def matches(words: str, **given: Any) -> bool:
    return parse_filter(words.split()).matches(row(**given), NOW)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", True),
        ("sender=alice@example.org", True),
        ("sender=ALICE@EXAMPLE.ORG", True),
        ("sender=*@example.org", True),
        ("sender=bob@example.org", False),
        ("sender=<>", False),
        ("recipient=bob@example.net", True),
        ("recipient=b*@example.*", True),
        ("recipient=dave@bücher.test", False),
        ("recipient=nobody@example.net recipient=bob@example.net", True),
        ("domain=example.net", True),
        ("domain=EXAMPLE.NET.", True),
        ("domain=sub.example.com", True),
        ("domain=example.com", False),
        ("domain=.example.com", True),
        ("domain=*.com", True),
        ("domain=example.org", False),
        ("status=deferred", True),
        ("status=queued", True),
        ("status=held", False),
        ("status=active", False),
        ("status=held status=deferred", True),
        ("reason=refused", True),
        ("reason=REFUSED", True),
        ("reason=greylisted", False),
        ("older=59m", True),
        ("older=1h", True),
        ("older=61m", False),
        ("younger=61m", True),
        ("younger=1h", False),
        ("older=5m younger=2h", True),
        ("older=2d older=5m", True),
        ("node=mx1", True),
        ("node=mx*", True),
        ("node=mx2", False),
        ("id=01kb3z8q2v", True),
        ("id=01KB", False),
        ("id=1 id=01KB3Z8Q2V", True),
        ("sender=alice@example.org domain=example.net status=deferred older=10m", True),
        ("sender=alice@example.org domain=nowhere.test", False),
        # All that is said about recipients holds for one of them.
        ("domain=example.net status=queued", False),
        ("domain=.example.com reason=refused", False),
        ("domain=.example.com status=queued", True),
    ],
)
def test_matches(words: str, expected: bool) -> None:
    assert matches(words) is expected


def test_null_sender() -> None:
    assert matches("sender=<>", sender="")
    assert not matches("sender=alice@example.org", sender="")


def test_domains_are_compared_as_they_are_looked_up() -> None:
    waiting = (QueueRecipient("dave@BÜCHER.test"),)
    assert matches("domain=bücher.test", recipients=waiting)
    assert matches("domain=xn--bcher-kva.test", recipients=waiting)


def test_held_and_active_are_of_the_message() -> None:
    assert matches("status=held", held=True)
    assert not matches("status=deferred", held=True)
    assert matches("status=active", active=True)


def test_who_waits_no_longer_is_not_meant() -> None:
    assert parse_filter([]).matching(row()) == row().recipients[:2]
    assert not matches("", recipients=row().recipients[2:])


def test_values_may_have_blanks_and_signs() -> None:
    assert parse_filter(["reason=connection refused"]).matches(row(), NOW)
    assert parse_filter(["recipient=a=b@example.net"]).recipients == ("a=b@example.net",)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("bob@example.net", "write recipient=bob@example.net or sender=bob@example.net"),
        ("deferred", "write key=value with one of sender, recipient"),
        ("colour=red", "no such key; there are sender"),
        ("recipent=a@b", "did you mean recipient=?"),
        ("from=a@b", "write sender=..."),
        ("to=a@b", "write recipient=..."),
        ("age=5m", "write older=... or younger=..."),
        ("sender=", "nothing behind the ="),
        ("=x", "no such key"),
        ("older=5", "the unit is missing; write it as 30m, 2h or 1d12h"),
        ("older=soon", "a duration begins with a number"),
        ("older=1000w", "longer than ten years"),
        ("status=waiting", "no such status; there are queued, deferred, held, active"),
        ("status=delivered", "such recipients wait no longer"),
        ("sender=example.org", "not an address; for all of a domain write domain=example.org"),
        ("domain=bob@example.net", "a domain has no @; write recipient=bob@example.net"),
        ("domain=exa mple", "the domain has characters that no domain has"),
    ],
)
def test_mistakes_are_explained(word: str, text: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter([word])
    assert text in str(caught.value)
    assert repr(word) in str(caught.value)


def test_contradiction_is_explained() -> None:
    with pytest.raises(FilterError, match="swap"):
        parse_filter(["older=2h", "younger=1h"])


def test_every_key_is_explained_in_the_docstring() -> None:
    from mta.mailq import filters

    assert filters.__doc__ is not None
    for key in KEYS:
        assert f"{key}=" in filters.__doc__


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_glob_is_fnmatch(pattern: str, text: str) -> None:
    assert glob(pattern, text) == fnmatch.fnmatchcase(text, pattern)


@given(st.lists(st.text(max_size=20) | st.sampled_from([f"{key}=x" for key in KEYS]), max_size=4))
def test_words_make_a_filter_or_an_explanation(words: list[str]) -> None:
    with contextlib.suppress(FilterError):
        parse_filter(words).matches(row(), NOW)
