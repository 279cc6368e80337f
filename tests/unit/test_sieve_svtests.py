"""The tests in Sieve under tests/sieve: each file is one case, every test in it has to succeed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sieve_ext.testsuite import run_file

ROOT = Path(__file__).parents[1] / "sieve"
FILES = sorted(ROOT.rglob("*.svtest"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file(path: Path) -> None:
    report = run_file(path)
    bad = [str(one) for one in report.outcomes if not one.passed]
    assert report.passed, "\n".join([*bad, *report.errors])
    assert not report.errors
    assert report.started, "the file has no tests"
