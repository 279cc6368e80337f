"""Scripts mean the same here as in Dovecot's Pigeonhole: tests at random, and what is wrong with scripts.

Left out is where the two differ: Pigeonhole takes octets for characters, finds no :raw body once the header
was edited, counts wrongly with :index, counts what a script adds as part of the size, and reads some dates
and patterns in its own way; and each has its own ideas of broken MIME and broken addresses.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sieve_ext import Envelope, InvalidScript, compile, execute, standard_dialect
from tests.peers.pigeonhole import Pigeonhole

pytestmark = pytest.mark.scenario

SENDER, RECIPIENT = "fred+tag@example.org", "bob+detail@example.net"
TESTS = 250
"""In one script."""

REQUIRE = """require ["vnd.dovecot.debug", "variables", "envelope", "imap4flags", "regex", "relational",
"comparator-i;ascii-numeric", "subaddress", "body", "mime", "date", "index", "editheader", "enotify"];
"""
WORDS = [
    "",
    "a",
    "B",
    "foo",
    "FOO",
    "a*b",
    "a b",
    "a  b",
    "1",
    "007",
    "12x",
    "fred",
    "example.org",
    "tag",
    "<",
    '"',
]
PATTERNS = [
    "*",
    "?",
    "*?",
    "?*",
    "a*",
    "*a",
    "*o*",
    "f*o",
    "* *",
    "*@*",
    "*+*",
    "*.*.*",
    "*a*b*",
    "\\*",
    "a\\*b",
    "",
]
EXPRESSIONS = [
    ".*",
    "^a",
    "o$",
    "(f)(o*)",
    "([a-z]+)@([a-z.]+)",
    "[[:digit:]]+",
    "x?",
    "^$",
    "(.)(.)",
    "[^a]",
]
FIELDS = ["Subject", "X-A", "X-B", "X-Number", "X-Empty", "X-None", "From", "Content-Type", "Date"]
ADDRESSES = ["From", "To", "Cc", "Bcc", "Reply-To"]
FLAGS = ["$x", "A", "\\Seen"]
DATE_PARTS = [
    *("year", "month", "day", "date", "julian", "hour", "minute", "second", "time"),
    *("iso8601", "std11", "zone", "weekday"),
]


def quoted(text: str) -> str:
    """A string of a script."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Script:
    """Tests at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kinds: list[Callable[[], str]] = [
            *(self.header, self.address, self.envelope, self.string),
            *(self.body, self.date, self.flags, self.size, self.mime, self.notification),
        ]

    def of(self, choices: list[str], most: int = 2) -> str:
        """A string, or a list of them."""
        found = self.random.sample(choices, self.random.randint(1, most))
        return quoted(found[0]) if len(found) == 1 else f"[{', '.join(map(quoted, found))}]"

    def matching(self, words: list[str] = WORDS) -> tuple[str, str]:
        """A match type with a comparator, and keys for it."""
        relation = self.random.choice(["gt", "ge", "lt", "le", "eq", "ne"])
        tag, keys = self.random.choice(
            [
                (":is", words), (":contains", words), (":matches", PATTERNS), (":regex", EXPRESSIONS),
                (f':value "{relation}"', words), (f':count "{relation}"', ["0", "1", "2", "3"]),
            ]
        )  # fmt: skip
        if ":count" in tag:
            return f'{tag} :comparator "i;ascii-numeric"', self.of(keys)
        comparator = self.random.choice(["", ' :comparator "i;octet"', ' :comparator "i;ascii-casemap"'])
        return tag + comparator, self.of(keys)

    def header(self) -> str:
        how, keys = self.matching()
        index = self.random.choice(["", "", ":index 1", ":index 2", ":index 1 :last", ":index 2 :last"])
        index = "" if ":count" in how else index
        return f"header {index} {how} {self.of(FIELDS)} {keys}"

    def address(self) -> str:
        how, keys = self.matching()
        part = self.random.choice(["", ":all", ":localpart", ":domain", ":user", ":detail"])
        return f"address {part} {how} {self.of(ADDRESSES)} {keys}"

    def envelope(self) -> str:
        how, keys = self.matching()
        part = self.random.choice(["", ":localpart", ":domain", ":user", ":detail"])
        return f"envelope {part} {how} {self.of(['from', 'to'])} {keys}"

    def string(self) -> str:
        how, keys = self.matching()
        if "comparator" not in how:
            how += ' :comparator "i;ascii-casemap"'  # the default of RFC 5228, not that of Dovecot 2.3
        return f"string {how} {self.of(WORDS)} {keys}"

    def body(self) -> str:
        what = self.random.choice([":text", "", ":content"])
        if what == ":content":
            what += " " + self.of(
                ["text", "text/plain", "text/html", "image", "", "multipart", "application"]
            )
        return f"body {what} :contains {self.of(WORDS[1:])}"

    def date(self) -> str:
        zone = self.random.choice(["", ":originalzone", ':zone "+0130"', ':zone "-0500"'])
        field = self.random.choice(["Date", "Received", "X-None", "Subject"])
        part = self.random.choice(DATE_PARTS)
        return f"date {zone} :matches {quoted(field)} {quoted(part)} {self.of(['*', '0*'])}"

    def flags(self) -> str:
        how = self.random.choice(["", ":contains", ":is"])
        return f"hasflag {how} {self.of(FLAGS)}"

    def size(self) -> str:
        return f"size {self.random.choice([':over', ':under'])} {self.random.choice(['10', '1M'])}"

    def mime(self) -> str:
        how, keys = self.matching(["text", "html", "text/plain", "multipart", "utf-8", "a"])
        option = self.random.choice([":type", ":subtype", ":contenttype", ':param "charset"', ""])
        return f'header :mime {self.random.choice(["", ":anychild"])} {option} {how} "Content-Type" {keys}'

    def notification(self) -> str:
        how, keys = self.matching(["maybe", "yes"])
        uri, name = self.of(["mailto:a@b.c", "xmpp:a@b.c", ""], 1), self.of(["online", "Online", "x"], 1)
        return f"notify_method_capability {how} {uri} {name} {keys}"

    def text(self) -> bytes:
        """Each test leaves a note: whether it holds, and what has matched."""
        lines = [REQUIRE, 'addflag "$x a";', 'addheader "X-A" "foo b";', 'deleteheader :index 2 "X-B";']
        for number in range(TESTS):
            test = self.random.choice(self.kinds)()
            test = f"not {test}" if number % 9 == 0 else test
            lines += [
                'if not string :matches "" "" {}',
                f'if {test} {{ debug_log "{number} 1 ${{0}}|${{1}}|${{2}}"; }}',
                f'else {{ debug_log "{number} 0"; }}',
            ]
        return "\n".join(lines).encode()


def message(seed: int) -> bytes:
    """A message at random."""
    some = random.Random(seed)
    mailboxes = [
        *(
            "fred@example.org",
            '"Fred F" <fred+tag@Example.ORG>',
            "a b <b@c.d>",
            "(c)a(d)@(e)b.c",
            "g: a@b.c, x@y.z;",
        ),
        *('"q r"@d.e', "=?utf-8?q?F=66?= <a+b+c@d.e>", "<@r,@s:a@b.c>"),
    ]
    values = [
        *(
            "foo",
            "a*b",
            "  a b",
            "a\r\n b",
            "=?utf-8?q?a?= =?utf-8?b?Yg==?= c",
            "=?iso-8859-1?Q?foo_b?=",
            "a  b",
        ),
        *("x=?utf-8?q?a?=y", "=?utf-8?q?a?=\r\n =?utf-8?q?b?="),
    ]
    dates = [
        *(
            "Thu, 29 Feb 2024 23:59:60 +0100",
            "Mon, 1 Jan 2024 00:00:00 -0530",
            "Tue, 05 Nov 1996 10:20:30 EST",
        ),
        *("Sun, 31 Dec 2023 23:00:00 -0000", "no date", "Sat,  9 Nov 2024\r\n 04:05:06 +0545"),
    ]
    lines = [f"Received: from a by b; {some.choice(dates)}", f"Date: {some.choice(dates)}"]
    for name in ADDRESSES:
        lines += [
            f"{name}: {', '.join(some.sample(mailboxes, some.randint(1, 3)))}"
            for _ in range(some.randint(0, 2))
        ]
    for name in ("Subject", "X-A", "X-B"):
        lines += [f"{name}: {some.choice(values)}" for _ in range(some.randint(0, 3))]
    lines += [f"X-Number: {some.choice(['7', '007', '12'])}", "X-Empty:", "MIME-Version: 1.0"]
    some.shuffle(lines)
    head = "\r\n".join(lines).encode() + b"\r\n"
    plain = b'Content-Type: text/plain; charset="utf-8"\r\n\r\nfoo a b\r\n'
    kind = some.choice([b"text/html", b"application/xhtml+xml"])
    html = b"Content-Type: " + kind + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    html += base64.encodebytes(b'<p title="fred">FOO</p> 12x').replace(b"\n", b"\r\n")
    image = b"Content-Type: image/png; name=a\r\n\r\nB 007\r\n"
    parts = some.sample([plain, html, image], some.randint(1, 3))
    if some.random() < 0.3:
        return head + parts[0]
    inner = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
    return head + b'Content-Type: multipart/mixed; boundary="x"\r\n\r\nexample.org\r\n' + inner


@pytest.fixture
def pigeonhole() -> Iterator[Pigeonhole]:
    with TemporaryDirectory(prefix="tamis-pigeonhole-") as folder:  # pytest's own are closed to others
        yield Pigeonhole(Path(folder))


@pytest.mark.parametrize("seed", range(8))
def test_tests_have_the_same_results(pigeonhole: Pigeonhole, seed: int) -> None:
    script, octets = Script(seed).text(), message(seed)
    theirs = pigeonhole.run(script, octets, SENDER, RECIPIENT)
    result = execute(compile(script, standard_dialect()), octets, Envelope(SENDER, RECIPIENT))
    assert not result.errors
    ours = [note.text.removeprefix("DEBUG: ") for note in result.notes]
    assert len(ours) == TESTS
    lines = script.decode().split("\n")
    different = [
        (next(line for line in lines if f'"{our.split()[0]} 1 ' in line), our, their)
        for our, their in zip(ours, theirs.notes, strict=True)
        if our != their
    ]
    assert not different


WRONG = """
if true { keep; }}
if true { keep; } else;
if true { keep; } elsif { }
if true { keep;
if true keep;
else { keep; }
if anyof(true, { keep; }
if not { keep; }
if header "a" { keep; }
if header "a" "b" "c" { keep; }
if header :is :contains "a" "b" { keep; }
if header :foo "a" "b" { keep; }
if header :comparator "i;foo" "a" "b" { keep; }
if header "a b" "c" { keep; }
if address "subject" "x" { keep; }
if envelope "from" "x" { keep; }
if size 1K { keep; }
if size :over "1K" { keep; }
if size :over 99999999999999999999999 { keep; }
if exists { keep; }
fileinto "a";
redirect;
redirect "a";
redirect "a@b.c" "d@e.f";
redirect ["a@b.c", "d@e.f"];
keep; */
foo; bar; foo;
keep; require "fileinto";
require "nope";
require ["fileinto", "nope"]; fileinto "a";
require; keep;
require "fileinto"; fileinto :copy "a";
require "fileinto"; fileinto;
require "fileinto"; fileinto 3;
require "fileinto"; if fileinto "a" { keep; }
require "variables"; set "a b" "c";
require "variables"; set "1" "c";
require "variables"; set :lower :upper "a" "c";
require "variables"; set "a";
require "relational"; if header :value "xx" "a" "b" { keep; }
require "relational"; if header :count 3 "a" "b" { keep; }
require "regex"; if header :regex "a" "(" { keep; }
require "regex"; if header :regex "a" "[z-a]" { keep; }
require "date"; if date "date" "century" "1" { keep; }
require "date"; if date :zone "+01:00" "date" "hour" "1" { keep; }
require "index"; if header :last "a" "b" { keep; }
require "vacation"; vacation;
require "vacation"; vacation :days "7" "x";
require "vacation"; vacation :from "a" "x";
require "vacation"; vacation :addresses ["a@b.c", "d"] "x";
require "vacation"; vacation :seconds 7 "x";
require "enotify"; notify "foo";
require "enotify"; notify "xmpp:a@b.c";
require "enotify"; notify :importance "5" "mailto:a@b.c";
require "body"; if body :raw :text "x" { keep; }
require "body"; if body :content "x" { keep; }
require "imap4flags"; setflag "v" "x";
require "include"; include "x/y";
require "include"; global "a";
require ["foreverypart", "extracttext", "variables"]; extracttext "a";
require "foreverypart"; break;
require "mime"; if header :type "content-type" "x" { keep; }
require "mime"; if header :mime :type :subtype "content-type" "x" { keep; }
require "editheader"; addheader "a b" "c";
require ["encoded-character", "fileinto"]; fileinto "${unicode:110000}";
require "duplicate"; if duplicate :header "a" :uniqueid "b" { keep; }
require "ihave"; if ihave 3 { keep; }
require "ihave"; error;
"""
"""One script a line."""


def test_wrong_scripts_are_refused_in_the_same_line(pigeonhole: Pigeonhole) -> None:
    """The mistake stands in a line of its own, in the middle of what is right."""
    different: list[tuple[str, int | None, int | None]] = []
    for wrong in filter(None, WRONG.split("\n")):
        script = f"# a comment\n\n{wrong}\n".encode()
        ours: int | None = None
        try:
            compile(script, standard_dialect())
        except InvalidScript as invalid:
            ours = invalid.errors[0].line
        theirs = pigeonhole.check(script).wrong_line
        if ours != theirs:
            different.append((wrong, ours, theirs))
    assert not different
