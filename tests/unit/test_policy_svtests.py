"""The tests in Sieve of policy words under tests/policy, and the words with which they are written.

No word of `vnd.tamis.*` lacks a case: each must have been done by a policy under test.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.policy.sieve.dialect import OWN
from mta.policytest import world
from mta.policytest.words import policytest_dialect
from sieve_ext.extend import Test
from sieve_ext.testsuite import Report, run_file

ROOT = Path(__file__).parents[1] / "policy"
FILES = sorted(ROOT.glob("*.svtest"))
HEAD = 'require ["vnd.dovecot.testsuite", "vnd.tamis.testsuite"];\n'
POLICY = 'require [\\"vnd.tamis.stage\\", \\"vnd.tamis.reply\\"];'


def report_of(path: Path) -> Report:
    """What came of a test file."""
    return run_file(path, dialect=policytest_dialect())


def run(folder: Path, text: str) -> Report:
    """What came of a test file with this text."""
    file = folder / "case.svtest"
    file.write_text(HEAD + text, encoding="utf-8")
    return report_of(file)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file(path: Path) -> None:
    report = report_of(path)
    bad = [str(one) for one in report.outcomes if not one.passed]
    assert report.passed, "\n".join([*bad, *report.errors])
    assert not report.errors
    assert report.started, "the file has no tests"


def test_no_word_lacks_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    done: set[tuple[str, str]] = set()
    monkeypatch.setattr(world, "EVENTS", done)
    for path in FILES:
        assert report_of(path).passed
    lacking = []
    for module in OWN:
        for capability in module.CAPABILITIES:
            for word in capability.words:
                kind = "test" if issubclass(word, Test) else "command"
                if word.word != "stage" and (kind, word.word) not in done:
                    lacking.append(f"{kind} {word.word}")
    assert lacking == []


def test_what_goes_wrong_is_said(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        f'test "mistake" {{ test_policy "{POLICY} stage \\"rcpt\\" {{ repply; }}"; }}\n'
        f'test "wrong" {{ test_policy "{POLICY} stage \\"rcpt\\" {{ reply \\"no\\"; }}";'
        ' if not test_stage "rcpt" { test_fail "a"; }'
        ' if test_decision "code" "550" { test_fail "it says 550"; } }\n',
    )
    assert not report.passed
    first, second = report.outcomes
    assert "the policy has mistakes" in first.reason
    assert "repply" in first.reason
    assert second.reason == "it says 550"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('if test_stage "rcpt" { stop; }', "no policy has been loaded yet"),
        ('test "x" { if test_stage "recpt" { stop; } }', "'recpt' is no stage"),
        ('test "x" { if test_decision "colour" "red" { stop; } }', "no part of a decision"),
        ('test "x" { test_session "vnd.tamis.hello" "x"; }', "no item of the environment"),
        ('test "x" { test_answer "oracle" "" "x"; }', "no service"),
        ('test "x" { if test_stage "rcpt" { stop; } }', "no policy has been loaded yet"),
        ('test "x" { test_people "nobody"; }', "no @ in the address"),
        ('test "x" { test_answer "milter" "m" "no"; }', "is no refusal such as"),
        ('test "x" { test_answer "scan" "m" "virus many"; }', "nothing such as"),
        (
            f'test "x" {{ test_policy "{POLICY} stage \\"retry\\" {{ }}"; test_people "a@x.test";'
            ' test_session "vnd.tamis.reply.code" "soon"; if test_stage "retry" { stop; } }',
            ": 'soon' is no code of a reply such as 451",
        ),
        ('test "x" { test_policy :file "gone.sieve"; }', "failed to open policy file"),
    ],
)
def test_mistakes_in_test_files(tmp_path: Path, text: str, wrong: str) -> None:
    report = run(tmp_path, text)
    assert not report.passed
    said = "\n".join([*report.errors, *(one.reason for one in report.outcomes)])
    assert wrong in said


def test_they_need_their_capability(tmp_path: Path) -> None:
    file = tmp_path / "case.svtest"
    file.write_text('require "vnd.dovecot.testsuite";\ntest "x" { test_policy_reset; }\n')
    report = report_of(file)
    assert not report.passed
    assert any("test_policy_reset" in one for one in report.errors)
