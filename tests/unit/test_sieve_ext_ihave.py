"""ihave (RFC 5463)."""

from __future__ import annotations

import pytest

from tests.unit.sieve_delivery import complaints, outcome

RUN = [
    # section 4: capabilities that are there can be used from here on
    ('if ihave "fileinto" { fileinto "a"; }', ["store"]),
    ('if ihave ["fileinto", "copy"] { fileinto :copy "a"; }', ["store"]),
    ('if not ihave "fileinto" { discard; } else { fileinto "a"; }', ["store"]),
    # what is not there is not looked at
    ('if ihave "vnd.example.none" { nonsense :x 3; } else { discard; }', ["discard"]),
    ('if ihave ["fileinto", "vnd.example.none"] { nonsense; }', []),
    ('if allof (ihave "vnd.example.none", nonsense "a") { more; }', []),
    ('if anyof (not ihave "vnd.example.none", nonsense) { discard; }', ["discard"]),
    ('if ihave "" { nonsense; }', []),
    ('if ihave "comparator-i;octet" { discard; }', ["discard"]),
    ('if ihave "comparator-i;ascii-numeric" { if header :comparator "i;ascii-numeric" "x" "1" {keep;} }', []),
]


@pytest.mark.parametrize(("script", "names"), RUN)
def test_run(script: str, names: list[str]) -> None:
    result = outcome("ihave", script)
    assert not result.errors
    assert [one.name for one in result.actions] == names


def test_error() -> None:
    # Section 5: a run-time error, so the message is kept and nothing else is done.
    result = outcome(
        "ihave fileinto variables", 'fileinto "a";\nset "x" "me";\nerror "not ${x}"; fileinto "b";'
    )
    assert result.actions == []
    assert result.implicit_keep is not None
    (fault,) = result.errors
    assert (fault.position.line - 1, fault.text) == (3, "not me")


WRONG = [
    ('if ihave "${x}" { keep; }', ["1:10 error the ihave test requires constant strings as capabilities"]),
    ("error;", ["1:1 error the error command requires 1 positional argument(s), but 0 is/are specified"]),
    (
        "if ihave { keep; }",
        ["1:4 error the ihave test requires 1 positional argument(s), but 0 is/are specified"],
    ),
    ('if not ihave "none" { nonsense; }', ["1:23 error unknown command 'nonsense'"]),
    ('if ihave "fileinto" { keep; } else { nonsense; }', ["1:38 error unknown command 'nonsense'"]),
    ('if not ihave "fileinto" { nonsense; }', ["1:27 error unknown command 'nonsense'"]),
    ('if ihave "fileinto" { nonsense; }', ["1:23 error unknown command 'nonsense'"]),
    ('error "x"; keep;', ["1:12 warning the keep command is never reached: error stands before it"]),
]


@pytest.mark.parametrize(("script", "starts"), WRONG)
def test_wrong(script: str, starts: list[str]) -> None:
    texts = complaints("ihave variables", script)
    assert len(texts) == len(starts)
    assert all(text.startswith(start) for text, start in zip(texts, starts, strict=True))
