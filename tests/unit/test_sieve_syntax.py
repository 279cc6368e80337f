"""The front end: every mistake with its place, and what comes behind it is still read."""

from __future__ import annotations

import io

import pytest
from sievelib.factory import FiltersSet  # type: ignore[import-untyped]

from sieve_ext import InvalidScript, check, compile, standard_dialect
from sieve_ext.syntax import Lexer, Parser, limits
from tests.unit.sieve_tables import actions, faults

TOKENS = [
    (b'"a\\"b\\\\c\\d"', [("string", 'a"b\\cd')]),
    (b'"two\nlines"', [("string", "two\r\nlines")]),
    (b'"\\\n"', [("string", "\r\n")]),
    (b'""', [("string", "")]),
    (b"text:\nabc\n..def\n...\n.\n", [("string", "abc\r\n.def\r\n..\r\n")]),
    (b"text:\n.abc\n.def\n. .\n.\n", [("string", ".abc\r\n.def\r\n. .\r\n")]),
    (b"text:  \t# comment\r\nabc\r\n.\r\n", [("string", "abc\r\n")]),
    (b"TEXT:\n.\n", [("string", "")]),
    (b"text:\n..\n.", [("string", ".\r\n")]),
    (b"10 1K 2m 3G", [("number", 10), ("number", 1024), ("number", 2 << 20), ("number", 3 << 30)]),
    (b"007", [("number", 7)]),
    (b"Keep _a1 :TAG", [("identifier", "Keep"), ("identifier", "_a1"), ("tag", "TAG")]),
    (b"a/* x ; */b#c\nd", [("identifier", "a"), ("identifier", "b"), ("identifier", "d")]),
    (b"text :a", [("identifier", "text"), ("tag", "a")]),
    (b"100x", [("number", 100), ("identifier", "x")]),
    ('"caf\u00e9"'.encode(), [("string", "caf\u00e9")]),
]


@pytest.mark.parametrize(("text", "expected"), TOKENS)
def test_tokens(text: bytes, expected: list[tuple[str, object]]) -> None:
    errors: list[object] = []
    tokens = Lexer().tokens(text, lambda *error: errors.append(error))
    assert [(token.kind, token.value) for token in tokens[:-1]] == expected
    assert tokens[-1].kind == "end"
    assert not errors


def test_scan_is_sievelibs() -> None:
    text = b"if size :over 1K { redirect text:\na@b.c\n.\n; } # x"
    assert list(Lexer().scan(text)) == [
        ("identifier", b"if"),
        ("identifier", b"size"),
        ("tag", b":over"),
        ("number", b"1K"),
        ("left_cbracket", b"{"),
        ("identifier", b"redirect"),
        ("multiline", b"text:\na@b.c\n.\n"),
        ("semicolon", b";"),
        ("right_cbracket", b"}"),
    ]


FAULTS = [
    ("", []),
    ("\ufeffkeep;", []),
    ("keep", ["1:5 no-end-of-command"]),
    ("keep\nstop;", ["1:1 tests"]),
    ("keep stop;", ["1:1 tests"]),
    ("keep; @@ foo; discard;", ["1:7 bad-character", "1:7 unexpected"]),
    ("keep @@; bar;", ["1:6 bad-character", "1:6 no-end-of-command"]),
    (
        'redirect "a@b.c" \u00a7 "x"; keep',
        ["1:18 bad-character", "1:18 no-end-of-command", "1:29 no-end-of-command"],
    ),
    ("if size :over 18446744073709551615 { keep; }", []),
    ("if size :over 18446744073709551616 { keep; }", ["1:15 large-number"]),
    ("if size :over 17179869184G { keep; }", ["1:15 large-number"]),
    (f"{'a' * 33}; keep", ["1:1 long-identifier", "1:40 no-end-of-command"]),
    (f"keep :{'a' * 33}; keep", ["1:6 long-identifier", "1:46 no-end-of-command"]),
    (
        'if header ["a", "b" "c"] "d" { keep } foo',
        ["1:21 bad-list", "1:36 no-end-of-command", "1:42 no-end-of-command"],
    ),
    ('if header ["a", "b" "c" { keep; }', ["1:21 bad-list"]),
    ('if header ["a", ] "b" { keep; }', ["1:17 bad-list"]),
    ('if header [] "b" { keep; }', ["1:12 bad-list"]),
    ('if header :is "a" ["b") { keep; } keep;', ["1:23 bad-list"]),
    ("if allof (true, ) { keep; }", ["1:17 bad-tests"]),
    ("if anyof () { keep; }", ["1:11 bad-tests"]),
    ("if allof (true true) { keep; }", ["1:11 tests"]),
    ("if allof (true, true { keep; }", ["1:22 bad-tests"]),
    ("if true, false { keep; }", ["1:8 no-end-of-command"]),
    ("keep; } discard", ["1:7 unexpected", "1:16 no-end-of-command"]),
    ("if true { keep;", ["1:16 open-block"]),
    ("if true { if true { keep; }", ["1:28 open-block"]),
    ("if true { { keep; } }", ["1:11 unexpected"]),
    ("keep;; keep;", ["1:6 unexpected"]),
    ('redirect "a', ["1:10 open-string"]),
    ("redirect text:\nabc", ["1:10 open-string"]),
    ("redirect text:", ["1:10 open-string"]),
    ("redirect text: x\nabc\n.\n; keep", ["1:10 bad-multiline", "4:7 no-end-of-command"]),
    ("keep; /* x", ["1:7 open-comment"]),
    ('redirect "a\0b@c.d";', ["1:10 nul"]),
    ("keep; \0 keep;", ["1:7 nul"]),
    ("# a\0b\nkeep;", ["1:1 nul"]),
    ("/* a\0b */ keep;", ["1:1 nul"]),
    ("\u00e9;", ["1:1 bad-character", "1:1 unexpected"]),
]


@pytest.mark.parametrize(("script", "expected"), FAULTS)
def test_faults(script: str, expected: list[str]) -> None:
    assert faults(script) == expected


def test_not_utf8() -> None:
    assert faults(b'redirect "\xff@b.c";') == ["1:10 not-utf8"]
    assert faults(b"# \xff\nkeep;") == []


def test_limits() -> None:
    assert faults("redirect" + ' "a"' * 33 + ";") == ["1:138 many-arguments"]
    deep = "if true { " * 33 + "keep;" + "}" * 33
    assert [one.split()[1] for one in faults(deep)] == ["deep-blocks"]
    assert faults("if true { " * 32 + "keep;" + "}" * 32) == []
    tests = "if " + "not " * 33 + "true { keep; }"
    assert [one.split()[1] for one in faults(tests)] == ["deep-tests"]
    assert actions("if " + "not " * 31 + "true { keep; }") == ["implicit"]
    assert faults(f'redirect "{"a" * (limits.STRING_OCTETS + 1)}";') == ["1:10 long-string"]
    assert faults("#" + "x" * limits.SCRIPT_OCTETS) == ["1:1 long-script"]


@pytest.mark.parametrize(
    "text", ["if not ", "if anyof (", "if true {", "if a{", "[", "{", "(", "}", "a [", '"', "text:\n"]
)
def test_nesting_far_beyond_the_limit(text: str) -> None:
    with pytest.raises(InvalidScript):
        compile(text * 20_000, standard_dialect())


def test_number_of_commands_is_bounded() -> None:
    assert faults("keep;" * (limits.CALLS + 1)) == [f"1:{limits.CALLS * 5 + 1} many-commands"]
    assert faults("if anyof (" + "true," * limits.CALLS + "true) { keep; }")[0].split()[1] == "many-commands"


def test_number_of_diagnostics_is_bounded() -> None:
    assert len(check("x " * 20_000, standard_dialect())) <= limits.DIAGNOSTICS
    assert len(check("foo%d; " * 2_000, standard_dialect())) <= limits.DIAGNOSTICS
    assert len(check("".join(f"foo{n};" for n in range(3000)), standard_dialect())) == limits.DIAGNOSTICS


def test_parser_is_sievelibs() -> None:
    parser = Parser(standard_dialect())
    script = (
        'require "fileinto";\n'
        'if anyof (header :contains "subject" ["a", "b"], not size :over 10K) {\n'
        '    fileinto "x";\n'
        "} else {\n"
        "    keep;\n"
        "}\n"
    )
    assert parser.parse(script)
    assert [node.name for node in parser.result] == ["require", "if", "else"]
    assert parser.result[1].arguments["test"].name == "anyof"
    header = parser.result[1].tests[0].tests[0]
    assert header.arguments["header-names"] == '"subject"'
    assert header.arguments["keys"] == ['"a"', '"b"']
    assert header.arguments["match-type"] == ":contains"
    assert [node.name for node in parser.result[1].walk()] == [
        "if",
        "anyof",
        "header",
        "not",
        "size",
        "fileinto",
    ]
    out = io.StringIO()
    for node in parser.result:
        node.tosieve(target=out)
    again = Parser(standard_dialect())
    assert again.parse(out.getvalue())
    second = io.StringIO()
    for node in again.result:
        node.tosieve(target=second)
    assert second.getvalue() == out.getvalue()


def test_tree_is_a_set_of_filters_for_sievelib() -> None:
    parser = Parser(standard_dialect())
    assert parser.parse(
        'require ["fileinto", "copy"];\n'
        "# Filter: first rule\n"
        "# Description: what it does\n"
        'if anyof (header :contains "subject" "a") { # inside\n'
        '    fileinto :copy "x";\n'
        "}\n"
        "# Filter: off\n"
        "if false { keep; unknown; }\n"
    )
    filters = FiltersSet("test")
    filters.from_parser_result(parser)
    found = [(one["name"], one["description"], one["enabled"]) for one in filters.filters]
    assert found == [("first rule", "what it does", True), ("off", "", False)]
    assert filters.requires == ["fileinto", "copy"]
    out = io.StringIO()
    filters.tosieve(target=out)
    assert "if false { keep; unknown; }" in out.getvalue()
    again = Parser(standard_dialect())
    assert again.parse(out.getvalue())
    assert [node.name for node in again.result] == ["require", "if", "if"]


def test_parser_reports_as_sievelib_does() -> None:
    parser = Parser(standard_dialect())
    assert not parser.parse(b"keep;\nfoo;\nbar;")
    assert parser.error is not None
    assert parser.error.startswith("line 2: unknown command 'foo'")
    assert parser.error_pos == (2, 1, 3)
    assert len(parser.diagnostics) == 2
    assert parser.parse(b"keep;")
    assert parser.error is None
