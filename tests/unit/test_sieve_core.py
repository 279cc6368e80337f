"""The words of RFC 5228, variables and relational: one row a rule.

The outcomes of most rows were compared with Pigeonhole's sieve-test.
"""

from __future__ import annotations

import pytest

from sieve_ext import Envelope
from tests.unit.sieve_tables import actions, holds, run

MESSAGE = b"""From: "Fred" <fred@Example.org>, (c) bob@x.org
To: undisclosed-recipients:;
Cc: group: a@b.c, "q r"@d.e;
Bcc: not an address
Reply-To: <>
Sender: localonly
Subject:   Hello  World\x20\x20
X-Empty:
X-Enc: =?utf-8?q?caf=C3=A9?= =?utf-8?b?w6k=?= x
X-Fold: one
 two
\tthree
X-Num: 0042
X-Multi: first
X-Multi: second
X-Star: a*b?c\\d
X-Long: aaaabaaabaab
X-Mixed: local, d@e.f

body
""".replace(b"\n", b"\r\n")

NUMERIC = ':comparator "i;ascii-numeric"'

TESTS = [
    # header (RFC 5228 section 5.7), blanks around values do not count
    (True, 'header :is "subject" "hello  world"'),
    (True, 'header "SUBJECT" "hello  world"'),
    (False, 'header :comparator "i;octet" :is "subject" "hello  world"'),
    (True, 'header :comparator "i;octet" :is "subject" "Hello  World"'),
    (True, 'header :contains "x-empty" ""'),
    (True, 'header :is "x-empty" ""'),
    (False, 'header :contains "x-none" ""'),
    (True, 'header :is "x-enc" "caf\u00e9\u00e9 x"'),
    (True, 'header :is "x-fold" "one two three"'),
    (True, 'header :is "x-multi" "second"'),
    (True, 'header :is ["x-none", "x-num"] ["41", "0042"]'),
    (False, 'header :is "x y" ""'),
    # :matches (section 2.7.1)
    (True, 'header :matches "x-fold" "one*three"'),
    (True, 'header :matches "x-star" "a\\\\*b\\\\?c\\\\\\\\d"'),
    (False, 'header :matches "x-star" "a\\\\*b"'),
    (True, 'header :matches "x-star" "?*?"'),
    (True, 'header :matches "x-long" "*b*b*b"'),
    (True, 'header :matches "x-long" "*b*b*b*"'),
    (False, 'header :matches "x-long" "*b*b*b*b*"'),
    (True, 'header :matches "x-long" "a*aab"'),
    (True, 'header :matches "x-long" "a*?aab"'),
    (False, 'header :matches "x-none" "*"'),
    (True, 'header :matches "x-empty" "*"'),
    (False, 'header :matches "x-empty" "?"'),
    (True, 'header :matches "x-empty" ""'),
    (True, 'header :matches "subject" "HELLO*WORLD"'),
    (False, 'header :comparator "i;octet" :matches "subject" "HELLO*WORLD"'),
    (True, 'string :matches "a\\\\" "a\\\\\\\\"'),
    (True, 'string :matches "\u00e9x" "?x"'),
    # address (section 5.1), parts (2.7.4)
    (True, 'address :is "from" "fred@example.org"'),
    (True, 'address :all :is "from" "bob@x.org"'),
    (True, 'address :domain :is "from" "EXAMPLE.org"'),
    (True, 'address :localpart :is "from" "fred"'),
    (False, 'address :contains "from" "(c)"'),
    (False, 'address :is "to" ""'),
    (True, 'address :is "cc" "a@b.c"'),
    (True, 'address :is "cc" "\\"q r\\"@d.e"'),
    (True, 'address :localpart :is "cc" "q r"'),
    (False, 'address :contains "cc" "group"'),
    (True, 'address :is "bcc" "not an address"'),
    (False, 'address :localpart :contains "bcc" "address"'),
    (False, 'address :domain :contains "bcc" ""'),
    (True, 'address :is "reply-to" "<>"'),
    (True, 'address :is "sender" "localonly"'),
    (False, 'address :localpart :is "sender" "localonly"'),
    (True, 'address :is "x-original-to" "x"', b"X-Original-To: x\r\n\r\n"),
    # exists, size (sections 5.5 and 5.9)
    (True, 'exists "x-empty"'),
    (False, 'exists ["x-empty", "x-none"]'),
    (True, "size :over 4", b"a: b\n"),
    (False, "size :over 5", b"a: b\n"),
    (False, "size :under 5", b"a: b\n"),
    (True, "size :under 6", b"a: b\n"),
    # not, allof, anyof, true, false
    (True, "not false"),
    (False, "allof (true, false, true)"),
    (True, "allof (true, not not true)"),
    (True, "anyof (false, exists \"subject\")"),
    (False, "anyof (false, exists \"x-none\")"),
    # envelope (section 5.4)
    (True, 'envelope "from" "alice@example.org"'),
    (True, 'envelope :domain :is "to" "EXAMPLE.NET"'),
    (True, 'envelope :localpart "from" "alice"'),
    (True, 'envelope ["FROM", "to"] "bob+detail@example.net"'),
    (False, 'envelope "auth" "alice"'),
    # relational (RFC 5231)
    (True, f'header :value "gt" {NUMERIC} "x-num" "41"'),
    (True, f'header :value "EQ" {NUMERIC} "x-num" "42"'),
    (True, f'header :is {NUMERIC} "x-num" "42"'),
    (True, f'header :is {NUMERIC} "subject" "foo"'),
    (True, f'header :value "gt" {NUMERIC} "subject" "99999999999999"'),
    (False, f'header :value "eq" {NUMERIC} "x-none" "1"'),
    (True, 'header :value "ge" "subject" "a"'),
    (True, 'header :value "ne" "x-multi" "first"'),
    (True, f'header :count "eq" {NUMERIC} "x-multi" "2"'),
    (True, f'header :count "eq" {NUMERIC} ["x-multi", "x-num"] "3"'),
    (True, f'header :count "ge" {NUMERIC} "x-none" "0"'),
    (True, f'header :count "eq" {NUMERIC} "x-empty" "1"'),
    (True, 'header :count "lt" "x-multi" ["1", "3"]'),
    (True, f'address :count "eq" {NUMERIC} "from" "2"'),
    (True, f'address :count "eq" {NUMERIC} "to" "1"'),
    (True, f'envelope :count "eq" {NUMERIC} ["from", "to"] "2"'),
    (True, f'string :count "eq" {NUMERIC} ["a", "", "b"] "2"'),
    # i;ascii-numeric (RFC 4790 section 9.1)
    (True, f'string {NUMERIC} "abc" "def"'),
    (True, f'string {NUMERIC} "12abc" "12"'),
    (True, f'string {NUMERIC} "-1" "-2"'),
    (False, f'string {NUMERIC} " 1" "1"'),
    (True, f'string :value "lt" {NUMERIC} "{"9" * 5000}" "1{"0" * 5000}"'),
    # i;unicode-casemap (RFC 5051), i;ascii-casemap
    (False, 'string "\u00e9" "\u00c9"'),
    (True, 'string :comparator "i;unicode-casemap" "\u00e9" "\u00c9"'),
    (True, 'string :comparator "i;unicode-casemap" :contains "x\u212by" "\u00e5"'),
    (True, 'string :comparator "i;unicode-casemap" :matches "STRA\u00dfE" "stra?e"'),
    # Strings and variables (RFC 5229 section 3)
    (True, 'string "" ""'),
    (True, 'string :contains "abc" ""'),
    (True, 'string "${unset}" ""'),
    (True, 'string "${}" "${}"'),
    (True, 'string :comparator "i;octet" "${a b}${1a}${a.}$" "${a b}${1a}${a.}$"'),
    (True, 'string "${${unset}}" "${}"'),
    (True, 'string "${0}${00}" ""'),
    # encoded-character (RFC 5228 section 2.4.2.4)
    (True, 'string "${unicode:e9}" "\u00e9"'),
    (True, 'string "${HEX: c3 A9 }" "\u00e9"'),
    (False, 'string "${HEX: c3A9 }" "\u00e9"'),
    (True, 'string "${hex:4}" "${hex:4}"'),
    (True, 'string "${unicode: 40 41}" "@A"'),
    (True, 'string "a${hex:24}{unset}" "a"'),
]  # fmt: skip

REQUIRE = (
    '"envelope", "relational", "variables", "encoded-character",'
    '"comparator-i;ascii-numeric", "comparator-i;unicode-casemap"'
)


@pytest.mark.parametrize("row", TESTS, ids=lambda row: row[1][:60])
def test_holds(row: tuple[bool, str] | tuple[bool, str, bytes]) -> None:
    assert holds(row[1], row[2] if len(row) > 2 else MESSAGE, require=REQUIRE) is row[0]


SUBJECT = b"Subject: Test [urgent] Foo\r\nFrom: a@b.c\r\n\r\nx\r\n"

ACTIONS = [
    # RFC 5228 sections 2.10 and 4
    ("", ["implicit"]),
    ("keep;", ["keep"]),
    ("keep; keep;", ["keep"]),
    ("discard; discard;", ["discard"]),
    ("discard; keep;", ["discard", "keep"]),
    ("stop; keep;", ["implicit"]),
    ("if true { discard; stop; } keep;", ["discard"]),
    ('fileinto "a"; fileinto "a"; fileinto "b";', ["store a", "store b"]),
    ('fileinto "INBOX"; fileinto "inbox";', ["store INBOX"]),
    ('redirect "a@b.c"; redirect "a@B.C"; redirect "A@b.c";', ["redirect a@b.c", "redirect A@b.c"]),
    ('redirect "Fred <a@b.c>"; redirect "\\"x y\\"@b.c";', ["redirect a@b.c", 'redirect "x y"@b.c']),
    ("if false { discard; } elsif true { keep; } else { discard; }", ["keep"]),
    ('if exists "x" { discard; } elsif exists "y" { discard; } else { keep; }', ["keep"]),
    # Match values (RFC 5229 section 3.2)
    ('if header :matches "subject" "* [*] *" { fileinto "${0}|${1}|${2}|${3}|${4}"; }',
     ["store Test [urgent] Foo|Test|urgent|Foo|"]),
    ('if header :matches "subject" "???? [*" { fileinto "${1}.${2}.${3}.${4}.${5}"; }',
     ["store T.e.s.t.urgent] Foo"]),
    ('if header :matches :comparator "i;octet" "subject" "*t*" { fileinto "${1}-${2}"; }',
     ["store Tes- [urgent] Foo"]),
    ('if header :matches "subject" "*" {} if header :matches "subject" "z*" { stop; } fileinto "${1}";',
     ["store Test [urgent] Foo"]),
    ('if anyof(header :matches "subject" "*x", header :matches "from" "*@*") { fileinto "${1} at ${2}"; }',
     ["store a at b.c"]),
    ('if header :matches ["from", "subject"] ["x*", "*b*"] { fileinto "${1}|${2}"; }', ["store a@|.c"]),
    ('if header :contains "subject" ["zz", "URGENT"] { fileinto "x"; stop; } fileinto "y";', ["store x"]),
    ('if string :comparator "i;unicode-casemap" :matches "a\ufb01b\ufb01c" "A*B*C" { fileinto "${1}|${2}"; }',
     ["store \ufb01|\ufb01"]),
    # set (RFC 5229 section 4)
    ('set "a" "Foo bAR"; set :lower "b" "${a}"; set :upperfirst :lower "c" "${a}"; set :length "d" "${a}";'
     'set :upper :lowerfirst "e" "${a}"; fileinto "${b}|${c}|${d}|${e}";',
     ["store foo bar|Foo bar|7|fOO BAR"]),
    ('set :quotewildcard "a" "a*b?c\\\\d"; fileinto "${a}";', ["store a\\*b\\?c\\\\d"]),
    ('set :length :quotewildcard "a" "**"; fileinto "${a}";', ["store 4"]),
    ('set :upper "a" "\u00e9 \u00df x"; set :length "b" "\u00e9\u00e9"; fileinto "${a}|${b}";',
     ["store \u00e9 \u00df X|2"]),
    ('set "a" "x"; set "A" "${a}y"; fileinto "${A}${a}";', ["store xyxy"]),
    ('set "dollar" "$"; fileinto "${dollar}{a}"; fileinto "${dollar}${unicode: 24}{dollar}";',
     ["store ${a}", "store $$"]),
]  # fmt: skip


@pytest.mark.parametrize(("script", "expected"), ACTIONS)
def test_actions(script: str, expected: list[str]) -> None:
    require = f'require ["fileinto", {REQUIRE}];'
    assert actions(require + script, SUBJECT) == expected


def test_fileinto_and_keep_merge() -> None:
    require = 'require "fileinto";'
    (one,) = run(require + 'fileinto "INBOX"; keep;').actions
    assert one.shown_name == "keep"
    (one,) = run(require + 'keep; fileinto "INBOX";').actions
    assert one.shown_name == "keep"
    (one,) = run(require + 'fileinto "INBOX";').actions
    assert one.shown_name == "store"


def test_null_sender_is_the_empty_string() -> None:
    for part in (":all", ":localpart", ":domain"):
        null = Envelope(sender="", recipient="a@b.c")
        assert holds(f'envelope {part} :is "from" ""', envelope=null, require='"envelope"')
    unknown = Envelope(sender=None)
    assert not holds('envelope :contains "from" ""', envelope=unknown, require='"envelope"')
    assert not holds('envelope :contains "to" ""', envelope=unknown, require='"envelope"')
