"""Text of others, made harmless for a terminal."""

from __future__ import annotations

import pytest

from mta.terminal import harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 日本 🎉", "plain äöü 日本 🎉"),
        ("\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
        ("a\rb\x00\x7f", "a␍b␀␡"),
        ("\x9b31m", "\ufffd31m"),
        ("abc\u202etxt.exe", "abc\ufffdtxt.exe"),
        ("a\nb\tc", "a␊b␉c"),
        ("\ud800", "\ufffd"),
    ],
)
def test_harmless(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_harmless_keeps_lines_where_it_is_told_to() -> None:
    assert harmless("a\r\nb\n\tc\r\x1b", lines=True) == "a\nb\n\tc␍␛"
