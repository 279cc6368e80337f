"""Keys that look right and never match: patterns with :is, tables without :list, domains beyond ASCII."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta import config
from mta.policy.sieve.loading import load_for
from tests.unit.policy_tables import read


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ('envelope "to" "*@x.test"', "'*' in '*@x.test' stands for itself with :is"),
        ('envelope :domain "to" "*"', "'*' in '*' stands for itself with :is"),
        ('environment "vnd.tamis.helo" "*.local"', "'*' in '*.local' stands for itself with :is"),
        ('not reverse_dns "*"', "'*' in '*' stands for itself with :is"),
        ('not dns :type "MX" "x.test" "*"', "'*' in '*' stands for itself with :is"),
        ('envelope :domain "to" "@x.test"', "'@x.test' is never what :domain compares (write \"x.test\")"),
        ('envelope :localpart "to" "a@x.test"', "'a@x.test' is never what :localpart compares (write \"a\")"),
        ('envelope "to" "@x.test"', "'@x.test' is never a whole address (write :domain \"x.test\")"),
        ('envelope :domain "to" "table:vip"', "'table:vip' is compared as it is (:list looks up in tables"),
        (
            'envelope :domain "to" ["x.test", "bücher.example"]',
            "domains of the envelope are A-labels, never 'bücher.example' (write \"xn--bcher-kva.example\")",
        ),
        (
            'envelope :matches "to" "*@bücher.example"',
            "domains of the envelope are A-labels, never 'bücher.example' (write \"*@xn--",
        ),
        ('envelope :localpart "to" "jörg"', ""),
        ('envelope "to" "jörg@x.test"', ""),
        ('envelope :matches "to" "*@x.test"', ""),
        ('envelope :domain :list "to" "table:vip"', ""),
        ('envelope :contains "to" "@x."', ""),
        ('envelope "from" ""', ""),
        ('environment "vnd.tamis.helo" "localhost"', ""),
    ],
)
def test_keys(test: str, found: str) -> None:
    made, told = read(f'stage "rcpt" {{ if {test} {{ defer; }} }}')
    assert made is not None, list(map(str, told))
    assert [str(one.diagnostic).partition(": warning: ")[2][: len(found)] for one in told] == (
        [found] if found else []
    )


def test_tables_of_expand_have_no_search_of_their_own(tmp_path: Path) -> None:
    text = """[tables]
plain = { file = "x" }
wide = { file = "x", search = "address" }
"""
    script = b"""require ["vnd.tamis.stage", "vnd.tamis.envelope", "vnd.tamis.tables"];
stage "rcpt" { expand ["table:plain", "table:wide"]; if lookup "table:wide" "x" { stop; } }"""
    (tmp_path / "x").write_text("")
    made, told = load_for(config.parse(text, f"{tmp_path}/tamis.toml"), [("p.sieve", script)])
    assert made is not None
    assert [str(one) for one in told] == [
        "p.sieve:2:39: warning: expand looks for the forms of an address by itself, and table 'wide' has"
        " a search (take it out of [tables.wide], else details of addresses get lost)"
    ]
