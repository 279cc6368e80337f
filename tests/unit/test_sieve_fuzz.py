"""Invariant: any text loads or gives located errors; any script on any message ends within limits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_sieve import check_run, check_text

WORDS = [
    *("require", "if", "elsif", "else", "stop", "keep", "discard", "redirect", "fileinto", "set", "foo"),
    *("true", "false", "not", "anyof", "allof", "header", "address", "envelope", "exists", "size", "string"),
    *(
        ":is",
        ":contains",
        ":matches",
        ":count",
        ":value",
        ":comparator",
        ":all",
        ":domain",
        ":over",
        ":under",
    ),
    *(":lower", ":upperfirst", ":length", ":quotewildcard", ":nope"),
    *(
        ";",
        ";",
        ",",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "1",
        "10K",
        "99999999999999999999",
        "@",
        "#x\n",
        "/* c */",
        "/*",
    ),
    *('"fileinto"', '"variables"', '"envelope"', '"relational"', '"encoded-character"', '"i;octet"'),
    *(
        '"subject"',
        '"from"',
        '"a@b.c"',
        '"*${1}*"',
        '"${x}"',
        '"x"',
        '"gt"',
        '"?*"',
        '"\u00e9"',
        '"',
        '"${hex:40}"',
    ),
    *("text:\nabc\n.\n", "text:", "\n"),
]

TEXTS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(st.sampled_from(WORDS), max_size=60).map(lambda words: " ".join(words).encode()),
)

# Scripts that load: tests and commands put together by their grammar.

STRINGS = st.sampled_from(
    [
        '""',
        '"a"',
        '"*"',
        '"?*?"',
        '"${1}${x}"',
        '"\\\\*"',
        '"a@b.c"',
        '["a", "*b*", "${y}"]',
        '"12"',
        '"\u00e9*"',
    ]
)
NAMES = st.sampled_from(['"subject"', '"from"', '["to", "cc"]', '"x-${x}"', '"received"'])
MATCH = st.sampled_from(
    ["", ":is", ":contains", ":matches", ':count "ge"', ':value "lt"', ':comparator "i;octet" :matches']
)
LEAVES = st.one_of(
    st.sampled_from(["true", "false", "size :over 100", "size :under 1K", 'exists ["from", "x"]']),
    st.builds("header {} {} {}".format, MATCH, NAMES, STRINGS),
    st.builds("string {} {} {}".format, MATCH, STRINGS, STRINGS),
    st.builds('address {} "from" {}'.format, MATCH, STRINGS),
    st.builds('envelope {} ["from", "to"] {}'.format, MATCH, STRINGS),
)
TESTS = st.recursive(
    LEAVES,
    lambda tests: st.one_of(
        st.builds("not {}".format, tests),
        st.builds("anyof ({}, {})".format, tests, tests),
        st.builds("allof ({}, {})".format, tests, tests),
    ),
    max_leaves=4,
)
COMMANDS = st.recursive(
    st.one_of(
        st.sampled_from(
            ["keep;", "discard;", "stop;", 'fileinto "a";', 'fileinto "${x}${1}";', 'redirect "${0}";']
        ),
        st.builds('set :lower "x" {};'.format, st.sampled_from(['"${0}"', '"${x}${x}"', '"a"'])),
    ),
    lambda commands: st.one_of(
        st.builds("{} {}".format, commands, commands),
        st.builds("if {} {{ {} }} else {{ {} }}".format, TESTS, commands, commands),
        st.builds("if {} {{ {} }}".format, TESTS, commands),
    ),
    max_leaves=8,
)
REQUIRE = 'require ["fileinto", "variables", "envelope", "relational", "encoded-character"]; '
MESSAGES = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            [
                b"Subject: a b",
                b"From: a@b.c",
                b"To: <>, x",
                b"Subject: =?utf-8?q?a",
                b" x",
                b"",
                b"b",
                b"\xff: \xff",
            ]
        ),
        max_size=10,
    ).map(b"\r\n".join),
)


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_text(text: bytes) -> None:
    script = check_text(text)
    if script is not None:
        check_run(script, b"Subject: x\r\n\r\nbody")


@given(COMMANDS, MESSAGES)
@settings(max_examples=300, deadline=None)
def test_any_script_on_any_message(commands: str, message: bytes) -> None:
    script = check_text((REQUIRE + commands).encode())
    assert script is not None
    check_run(script, message)
