"""copy (RFC 3894)."""

from __future__ import annotations

import pytest

from tests.unit.sieve_delivery import complaints, outcome

KEPT = [
    # section 3: the implicit keep stays
    (True, 'fileinto :copy "a";', ["store"]),
    (True, 'redirect :copy "a@example.org";', ["redirect"]),
    (False, 'fileinto "a";', ["store"]),
    (False, 'fileinto :copy "a"; fileinto "b";', ["store", "store"]),
    # the same twice: one of them cancels it
    (False, 'fileinto :copy "a"; fileinto "a";', ["store"]),
    (False, 'fileinto "a"; fileinto :copy "a";', ["store"]),
    (False, 'redirect :copy "a@b.c"; redirect "a@b.c";', ["redirect"]),
    (False, 'fileinto :copy "a"; discard;', ["store", "discard"]),
]


@pytest.mark.parametrize(("kept", "script", "names"), KEPT)
def test_implicit_keep(kept: bool, script: str, names: list[str]) -> None:
    result = outcome("fileinto copy", script)
    assert not result.errors
    assert [one.name for one in result.actions] == names
    assert (result.implicit_keep is not None) is kept


WRONG = [
    ("keep :copy;", ["1:6 error unknown tagged argument ':copy' for the keep command"]),
    ("discard :copy;", ["1:9 error unknown tagged argument ':copy' for the discard command"]),
    ('redirect :copy :copy "a@b.c";', ["1:16 error encountered duplicate :copy argument"]),
]


@pytest.mark.parametrize(("script", "found"), WRONG)
def test_wrong(script: str, found: list[str]) -> None:
    texts = complaints("fileinto copy", script)
    assert len(texts) == len(found)
    assert all(text.startswith(start) for text, start in zip(texts, found, strict=True))


def test_needs_require() -> None:
    (text,) = complaints("fileinto", 'fileinto :copy "a";')
    assert "unknown tagged argument ':copy'" in text
