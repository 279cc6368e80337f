"""What is checked when a script is loaded: one row a rule, with the place of each fault."""

from __future__ import annotations

import pytest

from sieve_ext import InvalidScript, check, compile, standard_dialect
from tests.unit.sieve_tables import faults

FAULTS = [
    # require (RFC 5228 section 3.2)
    ('require "foo"; keep;', ["1:9 unknown-capability"]),
    (
        'require ["foo", "bar", "fileinto"]; fileinto "x";',
        ["1:10 unknown-capability", "1:17 unknown-capability"],
    ),
    (
        'require ["keep", "header", ""];',
        ["1:10 unknown-capability", "1:18 unknown-capability", "1:28 unknown-capability"],
    ),
    ('require "comparator-i;octet"; require "comparator-i;ascii-casemap";', []),
    ('require "comparator-i;none";', ["1:9 unknown-capability"]),
    ('keep; require "fileinto";', ["1:7 late-require"]),
    ('if true { require "fileinto"; }', ["1:11 late-require"]),
    ('fileinto "a";', ["1:1 unknown-command"]),
    ('if envelope "from" "a" { keep; }', ["1:4 unknown-test"]),
    ('if header :count "gt" "a" "1" { keep; }', ["1:11 unknown-tag"]),
    # Words
    ("foo; foo; bar { baz; }", ["1:1 unknown-command", "1:11 unknown-command", "1:17 unknown-command"]),
    ("if foo { bar; }", ["1:4 unknown-test", "1:10 unknown-command"]),
    ('header "a" "b";', ["1:1 test-as-command"]),
    ("if keep { stop; }", ["1:4 command-as-test"]),
    ("IF True { KEEP; }", []),
    # Order and blocks (RFC 5228 section 3.1)
    ("elsif true { keep; } else { foo; }", ["1:1 out-of-place", "1:29 unknown-command"]),
    ("else { keep; }", ["1:1 out-of-place"]),
    ("if size :over 1 { } keep; else { }", ["1:27 out-of-place"]),
    ("if size :over 1 { } else { } else { }", ["1:30 out-of-place"]),
    ("if true;", ["1:1 no-block"]),
    ("if true keep;", ["1:4 tests", "1:1 no-block"]),
    ("keep { stop; }", ["1:1 block"]),
    ("if { keep; }", ["1:1 no-test"]),
    ("if (true) { keep; }", ["1:1 test-list"]),
    ("if anyof true { keep; }", ["1:4 no-test-list"]),
    ("keep true;", ["1:1 tests"]),
    # Arguments (RFC 5228 section 2.6)
    ("redirect;", ["1:1 argument-count"]),
    ('redirect "a@b.c" "d@e.f";', ["1:18 argument-count"]),
    ('redirect ["a@b.c"];', ["1:10 argument-type"]),
    ("redirect 3;", ["1:10 argument-type"]),
    ('keep "x"; stop 1;', ["1:6 argument-count", "1:16 argument-count"]),
    ('redirect :foo "a@b.c";', ["1:10 unknown-tag"]),
    ('if header "a" :is "b" { keep; }', ["1:15 late-tag"]),
    ('if header :is :contains "a" "b" { keep; }', ["1:15 duplicate-tag"]),
    ('if header :is :is "a" "b" { keep; }', ["1:15 duplicate-tag"]),
    ('if header :comparator 3 "a" "b" { keep; }', ["1:23 bad-tag-value"]),
    ("if header :comparator { keep; }", ["1:11 bad-tag-value"]),
    ("if size 3 { keep; }", ["1:4 missing-tag"]),
    ("if size :over :under 3 { keep; }", ["1:15 duplicate-tag"]),
    # Values
    ('redirect "not an address";', ["1:10 bad-value"]),
    ('redirect "a@b.c, d@e.f";', ["1:10 bad-value"]),
    ('redirect "\u00e9@b.c";', ["1:10 bad-value"]),
    ('redirect "Fred <a@b.c>"; redirect "<a@b.c>"; redirect "a@[192.0.2.1]";', []),
    ('if address "subject" "x" { keep; }', ["1:12 bad-value"]),
    ('if address ["from", "x-foo"] "x" { keep; }', ["1:21 bad-value"]),
    ('if header ["a b", "c"] "x" { keep; }', ["(1:12 bad-value)"]),
    ('if exists "a:" { keep; }', ["(1:11 bad-value)"]),
    ('require "fileinto"; fileinto "";', ["1:30 bad-value"]),
    ('require "fileinto"; fileinto "a\x07b";', ["1:30 bad-value"]),
    # Comparators and match types (RFC 5228 section 2.7)
    ('if header :comparator "i;none" "a" "b" { keep; }', ["1:23 unknown-comparator"]),
    ('if header :comparator "i;ascii-numeric" "a" "b" { keep; }', ["1:23 unknown-comparator"]),
    (
        'require "comparator-i;ascii-numeric";'
        ' if header :comparator "i;ascii-numeric" :contains "a" "b" { keep; }',
        ["1:79 no-substring"],
    ),
    ('require "relational"; if header :value "xx" "a" "b" { keep; }', ["1:33 unknown-relation"]),
    (
        'require ["relational", "variables"]; if header :value "${x}" "a" "b" { keep; }',
        ["1:48 unknown-relation"],
    ),
    # envelope (RFC 5228 section 5.4)
    ('require "envelope"; if envelope "foo" "a" { keep; }', ["1:33 unknown-part"]),
    ('require "envelope"; if envelope :all "auth" "a" { keep; }', ["1:38 no-address"]),
    ('require "envelope"; if envelope ["FROM", "To", "auth"] "a" { keep; }', []),
    # variables (RFC 5229)
    ('require "variables"; set "1" "x";', ["1:26 bad-variable"]),
    ('require "variables"; set "a b" "x";', ["1:26 bad-variable"]),
    ('require "variables"; set "a${b}" "x";', ["1:26 dynamic-name"]),
    ('require "variables"; set "foo.bar" "x";', ["1:26 bad-variable"]),
    ('require ["fileinto", "variables"]; fileinto "${foo.bar}";', ["1:45 bad-variable"]),
    ('require ["fileinto", "variables"]; fileinto "${33}";', ["1:45 bad-variable"]),
    ('require ["fileinto", "variables"]; fileinto "${32}${a.}${}";', []),
    ('require "variables"; set :lower :upper "a" "b";', ["1:33 duplicate-tag"]),
    ('require "variables"; set :length "a" ["b"];', ["1:38 argument-type"]),
    ('redirect "${foo}@b.c"; redirect "${foo}";', ["1:33 bad-value"]),
    ('require "variables"; redirect "${foo}";', []),
    # encoded-character (RFC 5228 section 2.4.2.4)
    ('require "encoded-character"; redirect "${unicode:110000}";', ["1:39 bad-string"]),
    ('require "encoded-character"; redirect "${unicode:D800}";', ["1:39 bad-string"]),
    ('require "encoded-character"; redirect "a${hex:40}b.c";', []),
    # Never reached, always the same
    ("stop; keep;", ["(1:7 unreachable)"]),
    ("if true { stop; keep; }", ["(1:17 unreachable)"]),
    ("if true { keep; } else if true { keep; }", ["1:19 tests", "(1:19 dead-block)"]),
    ('redirect "a@b..c"; redirect "a@b."; redirect "a@.b";', [f"1:{n} bad-value" for n in (10, 29, 46)]),
    ("if true { keep; } else { foo; }", ["(1:19 dead-block)"]),
    # what is never reached has its form all the same
    ("if true { keep; } else;", ["1:19 no-block", "(1:19 dead-block)"]),
    ("if true { keep; } elsif true;", ["1:19 no-block", "(1:19 dead-block)"]),
    ("if true { keep; } elsif { }", ["1:19 no-test", "(1:19 dead-block)"]),
    ("if true { keep; } elsif (true, foo) { }", ["1:19 test-list", "(1:19 dead-block)"]),
    ('if true { keep; } elsif "x" foo { }', ["1:25 argument-count", "(1:19 dead-block)"]),
    ('if true { keep; } else "x" { }', ["1:24 argument-count", "(1:19 dead-block)"]),
    ("if true { keep; } elsif foo { }", ["(1:19 dead-block)"]),
    ("if false { foo; bar; }", ["(1:1 dead-block)"]),
    ("if false { } elsif foo { }", ["1:20 unknown-test", "(1:1 dead-block)"]),
    ("if allof (false, foo) { bar; }", ["(1:1 dead-block)", "(1:11 constant-test)"]),
    ("if anyof (true, foo) { keep; }", ["(1:11 constant-test)"]),
    ('if anyof (exists "x", true) { keep; }', []),
    ("if size :over 1 { } elsif size  :over 1 { }", ["(1:27 repeated-test)"]),
    ("if size :over 1 { } if size :over 1 { }", []),
    ('if header "subject" ["*x*", "y"] { keep; }', ["(1:22 wildcard-with-is)"]),
    ('if address :is "from" "*@b.c" { keep; }', ["(1:23 wildcard-with-is)"]),
    ('if header :matches "subject" "*x*" { keep; }', []),
    # ihave (RFC 5463): what is missing is neither checked nor warned of
    ('require "ihave"; if ihave "nope" { nope; } elsif allof (ihave "nope", nope) { nope; } else { }', []),
    ('require "ihave"; if allof (ihave "fileinto", true) { fileinto "a"; } fileinto "b";', []),
]


@pytest.mark.parametrize(("script", "expected"), FAULTS)
def test_faults(script: str, expected: list[str]) -> None:
    assert sorted(faults(script)) == sorted(expected)


HINTS = [
    ("fileinot;", "did you mean 'fileinto'?"),
    ("kep;", "did you mean 'keep'?"),
    ("if haeder { keep; }", "did you mean 'header'?"),
    ('if header :contians "a" "b" { keep; }', "did you mean ':contains'?"),
    ('require "varaibles";', "did you mean 'variables'?"),
    ('if header :comparator "i;octett" "a" "b" { keep; }', "did you mean 'i;octet'?"),
    ('fileinto "x";', 'it needs: require "fileinto"'),
    ('if header :count "gt" "a" "1" { keep; }', 'it needs: require "relational"'),
    ("if size :over 10MB { keep; }", "a number ends with a digit, K, M or G"),
    ("keep someone;", 'is "someone" meant, in quotes?'),
    ("keep\nredirect;", ""),
    ("keep true;", "or is 'true' meant as a test? keep takes none"),
]


@pytest.mark.parametrize(("script", "hint"), HINTS)
def test_hints(script: str, hint: str) -> None:
    assert [one.hint for one in check(script, standard_dialect())] == [hint]


def test_else_if_is_elsif() -> None:
    found = check("if size :over 1 { keep; } else if size :over 2 { discard; }", standard_dialect())
    assert found[0].hint == "did you mean 'elsif'?"


def test_closing_error() -> None:
    with pytest.raises(InvalidScript) as parse:
        compile("keep", standard_dialect())
    assert [one.text for one in parse.value.errors][-1] == "parse failed"
    with pytest.raises(InvalidScript) as validation:
        compile("foo; bar;", standard_dialect())
    assert len(validation.value.errors) == 3
    assert str(validation.value.errors[-1]) == "1:10: error: validation failed"


def test_lengths_and_columns_are_characters() -> None:
    (found,) = check('if header "\u00e9\u00e9\u00e9" "x" { keep; } ', standard_dialect())
    assert (found.line, found.column, found.length) == (1, 11, 5)
    (found,) = check("/* \u00e9\u00e9 */ fooo;", standard_dialect())
    assert (found.column, found.length) == (10, 4)


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ('spamtest :value "ge" "5"', ["'5' is compared as text, in which '10' comes before '9'"]),
        ('header :count "GT" :comparator "i;octet" "to" "10"', ["'10' is compared as text"]),
        ('header :value "lt" "x-score" ["a", "3", "12"]', ["'3' is compared", "'12' is compared"]),
        ('spamtest :value "ge" :comparator "i;ascii-numeric" "5"', []),
        ('header :value "ge" :comparator "i;ascii-numeric" "x" ["5.5", "6"]', ["'5.5' counts as 5: "]),
        ('header :value "ge" :comparator "i;ascii-numeric" "x" "-5"', ["'-5' is more than any number"]),
        ('header :count "ge" "to" "1"', []),
        ('header :count "gt" "to" "0"', []),
        ('header :count "eq" "to" "2"', []),
        ('header :value "ge" "subject" "m"', []),
        ('currentdate :value "ge" "hour" "18"', []),
    ],
)
def test_numbers_that_are_compared_as_text(test: str, found: list[str]) -> None:
    head = 'require ["relational", "spamtest", "date", "comparator-i;ascii-numeric"];'
    warned = [one.text for one in check(f"{head} if {test} {{ keep; }}", standard_dialect())]
    assert len(warned) == len(found)
    assert all(text.startswith(begin) for text, begin in zip(warned, found, strict=True))
