"""The words about sender authentication: what does not load, and what they say where nobody looks."""

from __future__ import annotations

import pytest

from mta.authn.authresults import results_in
from mta.policy.sieve.decision import decide
from mta.policy.sieve.facts import FROM_DATA, Facts, Surroundings
from mta.policy.sieve.policy import script_envelope
from mta.policy.sieve.program import load, settings_for
from mta.policy.sieve.sign import KEYS
from sieve_ext.message import Message
from tests.unit.policy_tables import MESSAGE, REQUIRE, faults, program, ran, session


@pytest.mark.parametrize(
    ("wrong", "script"),
    [
        ([], 'stage "connect" { if iprev "fail" { defer; } }'),
        ([], 'stage "helo" { if spf :helo "fail" { defer; } }'),
        (["1:19 wrong-stage"], 'stage "helo" { if spf "fail" { defer; } }'),
        (["1:22 wrong-stage"], 'stage "connect" { if spf :helo "fail" { defer; } }'),
        (["1:19 wrong-stage"], 'stage "rcpt" { if dkim "fail" { defer; } }'),
        (["1:24 unknown-result"], 'stage "data" { if dkim "failed" { defer; } }'),
        (["1:33 unknown-result"], 'stage "data" { if dmarc :policy "fail" { defer; } }'),
        (["1:25 unknown-result"], 'stage "data" { if dmarc "reject" { defer; } }'),
        (["1:32 bad-domain"], 'stage "data" { if dkim :domain "a..b" "pass" { defer; } }'),
        (["1:32 unknown-table"], 'stage "data" { if arc :trusted "table:no" "pass" { defer; } }'),
        ([], 'stage "data" { if arc :trusted ["table:vip", "*.x.test"] "pass" { defer; } }'),
        (["1:33 never-aligned"], 'stage "data" { if dkim :aligned "fail" { defer; } }'),
        (["1:42 never-aligned"], 'stage "data" { if dkim :aligned ["PASS", "none"] { defer; } }'),
        (["1:23 no-trusted"], 'stage "data" { if arc :said "dmarc=pass" "pass" { defer; } }'),
        ([], 'stage "sign" { dkim_sign; dkim_sign :domain "x.test" :selector "s"; arc_seal; dkim_skip; }'),
        (["1:16 wrong-stage"], 'stage "data" { dkim_sign; }'),
        (["1:34 bad-domain"], 'stage "sign" { dkim_sign :domain "a..b"; }'),
        (["1:36 bad-selector"], 'stage "sign" { dkim_sign :selector "a..b"; }'),
    ],
)
def test_what_loads(wrong: list[str], script: str) -> None:
    assert faults(script) == wrong


def test_signing_words_need_keys() -> None:
    settings = settings_for((), has_queue=True, names={KEYS: ["no"]})
    _, found = load([("/p", (REQUIRE + 'stage "sign" { dkim_sign; dkim_skip; }').encode())], settings)
    assert [one.diagnostic.code for one in found] == ["no-keys"]


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        ('iprev "none"', True),
        ('spf ["fail", "NONE"]', True),
        ('spf :helo "none"', True),
        ('spf :domain "x.test" "none"', False),
        ('dkim "none"', True),
        ('dkim :domain "x.test" "none"', False),
        ('dkim :aligned "pass"', False),
        ('dmarc "none"', True),
        ('dmarc "fail"', False),
        ('dmarc :policy "none"', True),
        ('dmarc :policy ["reject", "quarantine"]', False),
        ('arc "none"', True),
        ('arc :trusted "*.x.test" "none"', False),
        ('environment "vnd.tamis.auth.dmarc" ""', True),
    ],
)
def test_what_is_said_where_nobody_looks(test: str, holds: bool) -> None:
    made = program(f'stage "data" {{ if {test} {{ reply "yes"; }} }}')
    facts = Facts("data", session(), "mx.test", message=Message(MESSAGE))
    assert "data" in FROM_DATA
    envelope = script_envelope(facts.session, None, None)
    found = decide(ran(made.run("data", Surroundings(facts), envelope, facts.message), {}, facts))
    assert (found.reply is not None) == holds


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a.test; dmarc=pass (p=reject; x) header.from=b.test; SPF=Fail", {"dmarc=pass", "spf=fail"}),
        ("a.test; none", set()),
        ('a.test; x="; dmarc=pass"', set()),
        ("a.test; (comment; dmarc=pass; spf=pass", set()),
        ("a.test; (a (b) \\) ; spf=pass) dkim=pass header.d=x", {"dkim=pass"}),
        ("dmarc=pass", set()),
        ("", set()),
    ],
)
def test_what_a_sealer_has_said(value: str, found: set[str]) -> None:
    assert results_in(value) == found


def test_reading_what_a_sealer_has_said_is_linear() -> None:
    for text in ("(" * 200_000, '"' * 200_001, "\\" * 200_001, "a;" * 200_000, '"\\' * 100_000):
        assert len(results_in(text)) <= 50
