"""Laying out scripts: examples, and that nothing but white space changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sieve_ext import InvalidScript
from sieve_ext.formatting import WIDTH, format_script
from sieve_ext.syntax.lexer import Lexer


def words(text: bytes) -> list[tuple[str, str | int]]:
    problems: list[object] = []
    found = [(token.kind, token.value) for token in Lexer().tokens(text, lambda *p: problems.append(p))]
    assert problems == []
    return found


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", ""),
        ("keep;stop;", "keep;\nstop;\n"),
        ('require["a","b"];', 'require ["a", "b"];\n'),
        (
            'if header:is"a"["b","c"]{fileinto"x";}elsif size:over 10K{discard;}else{keep;}',
            'if header :is "a" ["b", "c"] {\n    fileinto "x";\n}\nelsif size :over 10K {\n    discard;\n}\n'
            "else {\n    keep;\n}\n",
        ),
        ("# one\n\n\n\nkeep;   # two\n/* three */ stop;\n", "# one\n\nkeep;  # two\n/* three */\nstop;\n"),
        ("if true {\n\n  keep;\n\n}", "if true {\n\n    keep;\n}\n"),
        (
            'if anyof (header "subject" "aaaaaaaaaaaaaaaaaaaaaaaa", '
            'header "subject" "bbbbbbbbbbbbbbb") { stop; }',
            'if anyof (\n    header "subject" "aaaaaaaaaaaaaaaaaaaaaaaa",\n'
            '    header "subject" "bbbbbbbbbbbbbbb"\n) {\n    stop;\n}\n',
        ),
        (
            "vacation :days 3 text:\nHello\n  there\n..dot\n.\n;keep;",
            "vacation :days 3 text:\nHello\n  there\n..dot\n.\n;\nkeep;\n",
        ),
        ('if header "a" [ # why\n "b" ] { keep; }', 'if header "a" [ # why\n "b" ] {\n    keep;\n}\n'),
        ("keep;\r\nstop;\r\n", "keep;\nstop;\n"),
    ],
)
def test_layout(script: str, expected: str) -> None:
    assert format_script(script.encode()).decode() == expected


def test_what_is_no_token_is_an_error_with_its_place() -> None:
    with pytest.raises(InvalidScript) as caught:
        format_script(b'keep;\nfileinto "x')
    assert [(one.line, one.column) for one in caught.value.diagnostics] == [(2, 10)]


_atoms = st.sampled_from(
    [
        "keep;", "stop;", 'fileinto "a b";', "if true {", "}", "else {",
        'if anyof (true, not header "a" ["b"]) {', "# comment\n", "/* more\n  lines */", "\n\n\n",
        "text:\nline\n.. x\n.\n", '"long string here and there"',
        "[", "]", "(", ")", ",", ":tag", "10K", ";",
    ]
)  # fmt: skip


@given(st.lists(_atoms, max_size=30), st.sampled_from(["", " ", "\n"]))
def test_only_white_space_changes_and_a_second_time_nothing(parts: list[str], between: str) -> None:
    script = between.join(f" {part} " if not part.endswith("\n") else part for part in parts).encode()
    try:
        once = format_script(script)
    except InvalidScript:
        return
    assert words(once) == words(script)
    assert format_script(once) == once
    assert once.count(b"# comment") == script.count(b"# comment")


def test_long_lists_are_broken() -> None:
    names = ", ".join(f'"list{number}@example.org"' for number in range(20))
    laid_out = format_script(f'if address "to" [{names}] {{ keep; }}'.encode()).decode()
    assert max(map(len, laid_out.splitlines())) <= WIDTH
    assert laid_out.splitlines()[1] == '    "list0@example.org",'
