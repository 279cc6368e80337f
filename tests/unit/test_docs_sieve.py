"""docs/sieve.md is true: its table is that of the engine, its scripts load, its tests pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sieve_ext import check, reference, standard_dialect
from sieve_ext.runtime.settings import Settings
from sieve_ext.testsuite import run_file

PAGE = Path(__file__).parents[2] / "docs" / "sieve.md"
TEXT = PAGE.read_text(encoding="utf-8")

OFFERS = 'require "fileinto";\nif header :contains "subject" "offer" {\n    fileinto "offers";\n}\n'


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_table_is_written_from_the_modules() -> None:
    begin = TEXT.index(reference.BEGIN) + len(reference.BEGIN)
    assert TEXT[begin : TEXT.index(reference.END)] == reference.table()


def test_every_capability_is_in_the_table() -> None:
    named = set(re.findall(r"`([^`]+)`", "".join(name for name, _, _ in reference.rows())))
    assert {name for name in standard_dialect().capabilities if name} <= named


@pytest.mark.parametrize("script", blocks("sieve"))
def test_scripts_of_the_page_load(script: str) -> None:
    assert check(script, standard_dialect()) == []


def test_the_test_file_of_the_page_passes(tmp_path: Path) -> None:
    (script,) = blocks("svtest")
    (tmp_path / "offers.sieve").write_text(OFFERS)
    path = tmp_path / "offers.svtest"
    path.write_text(script)
    report = run_file(path)
    assert report.passed, report.text() + "\n".join(report.errors)
    assert report.summary == "PASS: 1 tests succeeded."
    assert "```console\n$ tamis sieve test offers.svtest\nTest case: offers.svtest:\n\n" in TEXT
    assert report.text().split("\n", 1)[1].strip() in TEXT


def test_the_programs_of_the_page_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    running, caching = blocks("python")
    exec(compile(running, str(PAGE), "exec"), {})
    assert capsys.readouterr().out == "[\"store into 'a'\"]\n"
    exec(compile(caching, str(PAGE), "exec"), {})
    assert capsys.readouterr().out == ""
    assert len(list(tmp_path.glob("*/scripts/*.entry"))) == 1


def test_the_settings_of_the_page_have_the_values_of_the_code() -> None:
    limits = Settings().limits
    assert "20,000,000 operations" in TEXT
    assert limits.operations == 20_000_000
    assert f"{limits.cpu_seconds:g} s of processor time" in TEXT
    assert f"| actions | {limits.actions} " in TEXT
    assert limits.variable_octets == 4096
