"""Regular expressions (draft-ietf-sieve-regex)."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sieve_ext import Envelope, InvalidScript, Result, Settings, compile, execute, standard_dialect
from sieve_ext.extensions.regex import compiled, quote_regex


def run(test: str, message: bytes = b"Subject: x\r\n\r\n") -> Result:
    text = f'require ["regex", "variables", "fileinto"]; if {test} {{ fileinto "${{0}}|${{1}}|${{2}}"; }}'
    return execute(compile(text, standard_dialect()), message, Envelope())


def matched(test: str, message: bytes = b"Subject: x\r\n\r\n") -> str | None:
    result = run(test, message)
    assert not result.errors
    return result.actions[0].describe().split("'")[1] if result.actions else None


@pytest.mark.parametrize(
    ("value", "pattern", "expected"),
    [
        ("abcd12", "b(.)(.)", "bcd|c|d"),
        ("abcd12", "B(.)", "bc|c|"),
        ("abcd12", "(x)?abcd", "abcd||"),
        ("abcd12", "[[:digit:]]+", "12||"),
        ("abcd12", "\\\\d\\\\b", "2||"),
        ("abcd12", "^b", None),
        ("häß", "ä(.)", "äß|ß|"),
        ("a" * 30, "(a|aa)+$", "a" * 30 + "|a|"),
    ],
)
def test_matches(value: str, pattern: str, expected: str | None) -> None:
    assert matched(f'string :regex "{value}" "{pattern}"') == expected


def test_half_a_surrogate_pair_is_no_failure() -> None:
    assert matched('header :regex "subject" "x(.)y"', b"Subject: x=?utf-7?q?+2AA-?=y\r\n\r\n") is not None


@pytest.mark.parametrize("pattern", ["(a", "[a", "*a", "a{2,1}", "(a)\\\\1", "a(?=b)", "a{100000}", "\\\\"])
def test_what_is_no_expression_is_reported(pattern: str) -> None:
    with pytest.raises(InvalidScript) as caught:
        run(f'string :regex "a" "{pattern}"')
    first, closing = caught.value.errors
    assert first.code == "bad-regex"
    assert "invalid regular expression" in first.text
    assert closing.text == "validation failed"


def test_only_comparators_of_text() -> None:
    text = 'require ["regex", "comparator-i;ascii-numeric"];'
    text += 'if header :regex :comparator "i;ascii-numeric" "subject" "(" { stop; }'
    with pytest.raises(InvalidScript) as caught:
        compile(text, standard_dialect())
    assert [one.code for one in caught.value.errors] == ["regex-comparator", "validation-failed"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_what_is_quoted_matches_itself(text: str) -> None:
    found = compiled(f"^{quote_regex(text)}$", True).search(text)
    assert found is not None
    assert found.group(0) == text


def test_it_takes_linear_time() -> None:
    message = b"Subject: " + b"a" * 200_000 + b"!\r\n\r\n"
    before = time.process_time()
    assert matched('header :regex "subject" "^((a*)*|(a|aa)+)*$"', message) is None
    assert time.process_time() - before < 3.0


def test_expressions_of_a_script_have_a_size_together() -> None:
    """Each is allowed, but a script of some kB would take minutes and gigabytes to compile."""
    begun = time.process_time()
    text = "".join(
        f'if header :regex "x" "\\\\p{{L}}{{1,99}}{number}" {{ stop; }}\n' for number in range(1000)
    )
    with pytest.raises(InvalidScript) as caught:
        compile(f'require "regex"; {text}', standard_dialect())
    assert [one.code for one in caught.value.errors][:-1] == ["large-regex"]
    assert time.process_time() - begun < 10


def test_expressions_that_are_refused_count_too() -> None:
    begun = time.process_time()
    text = "".join(
        f'if header :regex "x" "\\\\p{{L}}{{900}}{number}" {{ stop; }}\n' for number in range(1000)
    )
    with pytest.raises(InvalidScript) as caught:
        compile(f'require "regex"; {text}', standard_dialect())
    codes = [one.code for one in caught.value.errors]
    assert set(codes[:-1]) == {"bad-regex"}
    assert len(codes) < 15
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    "expression", ["a{1,99}" * 800, "a?" * 60_000, "(?:a" * 40_000 + ")?" * 40_000, "\\\\p{L}|" * 40_000]
)
def test_what_takes_more_than_linear_time_to_compile_may_not_be_large(expression: str) -> None:
    """RE2 takes four to eight seconds for each, in which no other thread runs."""
    begun = time.process_time()
    with pytest.raises(InvalidScript) as caught:
        compile(f'require "regex"; if header :regex "x" "{expression}" {{ stop; }}', standard_dialect())
    assert [one.code for one in caught.value.errors][:-1] == ["bad-regex"]
    assert "pattern too large" in caught.value.errors[0].text
    assert time.process_time() - begun < 2


def test_what_takes_more_than_linear_time_to_compile_counts_more() -> None:
    text = "".join(f'if header :regex "x" "{"a{1,99}" * 100}{number}" {{ stop; }}\n' for number in range(100))
    begun = time.process_time()
    with pytest.raises(InvalidScript) as caught:
        compile(f'require "regex"; {text}', standard_dialect())
    assert [one.code for one in caught.value.errors][:-1] == ["large-regex"]
    assert time.process_time() - begun < 4


def test_one_that_is_not_large_is_taken() -> None:
    assert matched(f'header :regex "subject" "^{"a{1,99}" * 25}$"', b"Subject: " + b"a" * 900 + b"\r\n\r\n")


def test_a_search_that_may_take_too_long_is_not_begun() -> None:
    body = bytes(random.Random(1).choices(b"ab", k=400_000))
    begun = time.process_time()
    text = 'require ["regex", "body"]; if body :raw :regex "[ab]*a.{0,999}c.{0,999}d$" { discard; }'
    result = execute(compile(text, standard_dialect()), b"Subject: x\r\n\r\n" + body, Envelope())
    assert "regular expression too large for a text of 400000 characters" in result.errors[0].text
    assert time.process_time() - begun < 5


def test_searches_are_timed() -> None:
    """A few of them take all the time that a run has."""
    body = bytes(random.Random(1).choices(b"ab", k=100_000))
    tests = "".join(f'if body :raw :regex "[ab]*a[ab]{{{600 + n}}}c" {{ discard; }}\n' for n in range(50))
    settings = Settings({"sieve_max_cpu_time": "100ms"})
    script = compile(f'require ["regex", "body"]; {tests}', standard_dialect(), settings=settings)
    begun = time.process_time()
    result = execute(script, b"Subject: x\r\n\r\n" + body, Envelope(), settings=settings)
    assert "CPU time" in result.errors[0].text
    assert time.process_time() - begun < 5


def test_expressions_with_variables_are_timed() -> None:
    tests = "".join(
        f'if header :regex "subject" "\\\\p{{L}}{{1,99}}${{a}}{n}" {{ discard; }}\n' for n in range(300)
    )
    settings = Settings({"sieve_max_cpu_time": "100ms"})
    text = f'require ["regex", "variables"]; set "a" "b"; {tests}'
    script = compile(text, standard_dialect(), settings=settings)
    begun = time.process_time()
    result = execute(script, b"Subject: x\r\n\r\n", Envelope(), settings=settings)
    assert "CPU time" in result.errors[0].text
    assert time.process_time() - begun < 5


def test_a_long_expression_that_is_none_makes_no_long_line_in_the_log() -> None:
    script = 'require ["regex", "variables"]; set "a" "' + "x" * 4000 + '";'
    script += 'if header :regex "subject" "(' + "${a}" * 100 + '" { stop; }'
    (note,) = execute(compile(script, standard_dialect()), b"Subject: x\r\n\r\n", Envelope()).notes
    assert "missing )" in note.text
    assert len(note.text) < 500
