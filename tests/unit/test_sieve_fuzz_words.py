"""Invariant: words of all capabilities put together load or are refused, and run without an internal error.

The scripts are made from the dialect's own tables, so that every word, tag and match type of every capability
is met, with arguments of the right types and values that fit and that do not.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from sieve_ext import standard_dialect
from sieve_ext.language.node import Node
from tests.fuzz.fuzz_sieve import check_run, check_text

EXAMPLES = 400
DIALECT = standard_dialect()
NAMES = [name for name in DIALECT.names if not DIALECT.capabilities[name].excludes]

VALUES = [
    *('"subject"', '"from"', '"to"', '"X-Foo"', '"content-type"', '"a@b.c"', '"mailto:a@b.c"', '"not valid"'),
    *('"*"', '"*${1}*"', '"${x}"', '"[a-z]+"', '"("', '"gt"', '"1"', '"date"', '"weekday"', '"iso8601"'),
    *('"+0100"', '"INBOX"', '"\\\\Seen"', '"\\\\Junk"', '"text/plain"', '"name"', '"location"', '"i;octet"'),
    *('""', '"\u00e9"', '"x y"', '"/private/comment"', '"tag:example.org,2026:list"', '"always"', '"full"'),
    *('"Subject: x\\r\\n\\r\\ny"', '"2026-11-27"', '"NEVER"', '"1h"', '"x"', '"y"'),
]
NUMBERS = ["0", "1", "2", "7", "100", "4K", "18446744073709551615"]


class Author:
    """Writes scripts."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def script(self) -> str:
        return f"{REQUIRE} {self._block(0)}"

    def _block(self, depth: int) -> str:
        return " ".join(self._command(depth) for _ in range(self._random.randint(0 if depth else 1, 3)))

    def _command(self, depth: int) -> str:
        words = [
            (name, word)
            for name, word in DIALECT.commands.items()
            if name != "require" and not word.must_follow and not (depth > 2 and word.accept_children)
        ]
        name, word = self._random.choice(words)
        parts = [name, self._arguments(word)]
        if word.takes:
            parts.append(self._test(0))
        parts.append(f"{{ {self._block(depth + 1)} }}" if word.accept_children else ";")
        return " ".join(parts)

    def _test(self, depth: int) -> str:
        kind = self._random.random()
        if depth < 2 and kind < 0.15:
            return f"not {self._test(depth + 1)}"
        if depth < 2 and kind < 0.4:
            joined = self._random.choice(["anyof", "allof"])
            return f"{joined} ({self._test(depth + 1)}, {self._test(depth + 1)})"
        words = [(name, word) for name, word in DIALECT.tests.items() if not word.takes]
        name, word = self._random.choice(words)
        return f"{name} {self._arguments(word)}"

    def _arguments(self, word: type[Node]) -> str:
        """Some tags and the positional arguments of a word."""
        table = list(word.tag_table.items())
        tags = self._random.sample(table, min(self._random.randint(0, 2), len(table)))
        parts = [f"{tag} {self._value(spec.value)}" for tag, spec in tags]
        for one in word.positionals:
            if one["required"] or self._random.random() < 0.3:
                parts.append(self._value("strings" if "stringlist" in one["type"] else one["type"][0]))
        return " ".join(parts)

    def _value(self, kind: str) -> str:
        if not kind:
            return ""
        if kind == "number":
            return self._random.choice(NUMBERS)
        if kind == "strings" and self._random.random() < 0.4:
            return f"[{', '.join(self._random.choices(VALUES, k=self._random.randint(1, 3)))}]"
        return self._random.choice(VALUES)


REQUIRE = "require [" + ", ".join(f'"{name}"' for name in NAMES) + "];"
MESSAGE = (
    b"From: Fred <a@b.c>\r\nTo: d+e@f.g\r\nSubject: x =?utf-8?q?=C3=A9?=\r\n"
    b"Date: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@b.c>\r\nX-Foo: 5\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n"
    b"--b\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=x\r\n\r\n"
    b"<p>y</p>\r\n--b--\r\n"
)
MESSAGES = [MESSAGE, b"", b"\xff\r\n\r\n", b"Subject: x\n\n"]


@given(st.randoms(use_true_random=False))
@settings(max_examples=EXAMPLES, deadline=None)
def test_words(random: Random) -> None:
    script = check_text(Author(random).script().encode())
    if script is not None:
        check_run(script, random.choice(MESSAGES))
