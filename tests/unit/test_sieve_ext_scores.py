"""Scores of scanners (RFC 5235). What is expected is what Pigeonhole's sieve-test says."""

from __future__ import annotations

import pytest

from sieve_ext import Message, Settings
from sieve_ext.runtime.scan import percent, ratio, score

SCORE = {"sieve_spamtest_status_header": "X-S", "sieve_spamtest_score_max_value": "5"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("-3", ("1", "0")),
        ("0", ("1", "0")),
        ("0.1", ("1", "2")),
        ("0.55", ("1", "11")),
        ("0.56", ("2", "11")),
        ("1", ("2", "20")),
        ("2.5", ("5", "50")),
        ("4.9", ("9", "98")),
        ("5", ("10", "100")),
        ("7", ("10", "100")),
        ("+2", ("4", "40")),
        ("2,5", ("5", "50")),
        ("abc", ("0", "0")),
        ("3 foo", ("0", "0")),
        ("3/5", ("0", "0")),
        ("", ("0", "0")),
        ("1e400", ("0", "0")),
        ("nan", ("0", "0")),
    ],
)
def test_scores(value: str, expected: tuple[str, str]) -> None:
    part = ratio(Message(f"X-S: {value}\r\n\r\n".encode()), Settings(SCORE), "spamtest", 10)
    assert (score(part, 10), percent(part)) == expected


@pytest.mark.parametrize(
    ("settings", "header", "expected"),
    [
        ({"sieve_spamtest_status_header": "X-S"}, "2", "0"),
        ({**SCORE, "sieve_spamtest_score_max_value": "0"}, "2", "0"),
        ({**SCORE, "sieve_spamtest_score_max_value": "many"}, "2", "0"),
        ({**SCORE, "sieve_spamtest_status_type": "strlen"}, "sss", "6"),
        ({**SCORE, "sieve_spamtest_status_type": "strlen"}, "", "1"),
        ({**SCORE, "sieve_spamtest_status_header": "X-S: v=([0-9]+)"}, "v=5", "10"),
        ({**SCORE, "sieve_spamtest_status_header": "X-S: v=([0-9]+)"}, "w=5", "0"),
        ({**SCORE, "sieve_spamtest_status_header": "X-S: v=("}, "v=5", "0"),
        ({**SCORE, "sieve_spamtest_status_header": "X-S: [0-9]+"}, "v=5", "10"),
        ({"sieve_spamtest_status_header": "X-S", "sieve_spamtest_max_value": "4"}, "2", "5"),
        ({"sieve_spamtest_status_header": "X-S", "sieve_spamtest_score_max_header": "X-M"}, "2", "0"),
    ],
)
def test_settings(settings: dict[str, str], header: str, expected: str) -> None:
    part = ratio(Message(f"X-S: {header}\r\n\r\n".encode()), Settings(settings), "spamtest", 10)
    assert score(part, 10) == expected


@pytest.mark.parametrize(("value", "expected"), [("no", "1"), ("maybe", "5"), ("yes", "10"), ("Yes", "0")])
@pytest.mark.parametrize("separator", ["/", ""])
def test_texts(value: str, expected: str, separator: str) -> None:
    key = f"sieve_spamtest_text_value{separator}"
    settings = {
        "sieve_spamtest_status_header": "X-S",
        "sieve_spamtest_status_type": "text",
        f"{key}1": "no",
        f"{key}5": "maybe",
        f"{key}10": "yes",
    }
    part = ratio(Message(f"X-S: {value}\r\n\r\n".encode()), Settings(settings), "spamtest", 10)
    assert score(part, 10) == expected
