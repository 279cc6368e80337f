"""Rows of rules behind guards do what they would do one by one."""

from __future__ import annotations

import time
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sieve_ext import Envelope, Message, Result, Script, compile, execute, standard_dialect
from sieve_ext.closures import compiler, guards
from sieve_ext.core.many import LEAST, finder

REQUIRE = (
    'require ["envelope", "editheader", "variables", "fileinto", "copy", "environment", "relational",'
    ' "comparator-i;ascii-numeric", "regex"];\n'
)
WORDS = ("frop", "friep", "bob", "x.test", "Ann", "a@x.test", "", "${1}", "ü")

words = st.sampled_from(WORDS)
keys = st.lists(words, min_size=1, max_size=3).map(lambda some: "[" + ", ".join(f'"{w}"' for w in some) + "]")
simple = st.one_of(
    st.builds(
        'header {} "{}" {}'.format,
        st.sampled_from((":is", ":contains", "", ":matches", ":regex", ':value "ge"')),
        st.sampled_from(("subject", "x-mark", "to")),
        keys,
    ),
    st.builds(
        'address {} {} "{}" {}'.format,
        st.sampled_from(("", ":domain", ":localpart")),
        st.sampled_from((":is", ":contains")),
        st.sampled_from(("from", "to")),
        keys,
    ),
    st.builds(
        'envelope :{} "{}" {}'.format,
        st.sampled_from(("is", "contains")),
        st.sampled_from(("from", "to")),
        keys,
    ),
    st.sampled_from(("true", "false", "size :over 1K", 'exists "x-mark"', 'string "${seen}" "yes"')),
    st.builds('environment :{} "name" {}'.format, st.sampled_from(("is", "contains")), keys),
)
tests = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds("not {}".format, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: f"allof ({', '.join(some)})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: f"anyof ({', '.join(some)})"),
    ),
    max_leaves=4,
)
blocks = st.sampled_from(
    (
        'fileinto :copy "one";',
        'addheader "X-Mark" "frop";',
        'deleteheader "subject";',
        'set "seen" "yes";',
        'addheader "Subject" "friep bob";',
        'fileinto "${1}x";',
        "stop;",
        "",
    )
)
rules = st.builds(
    lambda first, block, more, last: (
        f"if {first} {{ {block} }}" + "".join(f" elsif {one} {{ {two} }}" for one, two in more) + last
    ),
    tests,
    blocks,
    st.lists(st.tuples(tests, blocks), max_size=2),
    st.sampled_from(("", "", "", ' else { addheader "X-Mark" "bob"; }')),
)
scripts = st.lists(rules, min_size=8, max_size=24).map(lambda some: REQUIRE + "\n".join(some))
messages = st.builds(
    lambda sender, subject, to: f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nx\r\n".encode(),
    st.sampled_from(("a@x.test", "Bob <bob@y.test>", "nobody")),
    st.sampled_from(("Frop!", "friep", "nothing", "=?utf-8?q?=C3=BC?=")),
    st.sampled_from(("b@x.test", "bob@z.test, ann@x.test")),
)


def compiled(script: str, *, least: int, shared: int = 1, piece: int = 4) -> Script:
    with (
        mock.patch.object(guards, "LEAST", least),
        mock.patch.object(compiler, "LEAST", least),
        mock.patch.object(guards, "SHARED", shared),
        mock.patch.object(guards, "PIECE", piece),
    ):
        return compile(script, standard_dialect())


def seen(result: Result) -> tuple[object, ...]:
    """All that can be known of a run."""
    assert result.message is not None
    return (
        [(one.describe(), one.position) for one in result.actions],
        result.failed,
        list(map(str, result.errors)),
        result.implicit_keep is not None,
        [(field.name, field.text) for field in result.message.fields],
    )


@given(scripts, messages, st.sampled_from(("a@x.test", "", "bob@y.test")))
def test_a_guard_changes_nothing(script: str, message: bytes, sender: str) -> None:
    envelope = Envelope(sender, "bob@x.test")
    plain = compiled(script, least=10_000)
    behind = compiled(script, least=3)
    assert seen(execute(behind, Message(message), envelope)) == seen(
        execute(plain, Message(message), envelope)
    )


RULE = 'if header :contains "subject" "offer {}" {{ discard; }}\n'


@pytest.mark.parametrize(
    ("script", "guarded"),
    [
        ("".join(RULE.format(n) for n in range(20)), True),
        ("".join(RULE.format(n) for n in range(7)), False),  # too few
        ("".join(f'if header "x-{n}" "a" {{ discard; }}\n' for n in range(20)), False),  # nothing in common
        ("".join(f'if header :matches "subject" "*{n}*" {{ discard; }}\n' for n in range(20)), False),
        ("".join(f'if not header "subject" "{n}" {{ discard; }}\n' for n in range(20)), False),
        ("".join(f'if header "subject" "{n}" {{ stop; }} else {{ discard; }}\n' for n in range(20)), False),
        ("".join(f'if allof (size :over 1, header "subject" "{n}") {{ stop; }}\n' for n in range(20)), False),
        ("".join(f'if allof (header "subject" "{n}", size :over 1) {{ stop; }}\n' for n in range(20)), True),
    ],
)
def test_what_gets_a_guard(script: str, guarded: bool) -> None:
    step = compile(script + "keep;", standard_dialect()).step
    cells = [cell.cell_contents for cell in step.__closure__ or ()]
    (placed,) = (one for one in cells if isinstance(one, tuple) and isinstance(one[0], tuple))
    assert (len(placed) == 2) is guarded


def test_a_thousand_rules_cost_little_more_than_none() -> None:
    script = compile("".join(RULE.format(n) for n in range(1000)), standard_dialect())
    alone = compile(RULE.format(1), standard_dialect())
    octets = b"Subject: Frop!\r\n\r\nFriep!\r\n"

    def cost(one: Script) -> float:
        best = 1.0
        for _ in range(50):
            begin = time.thread_time()
            for _ in range(5):
                execute(one, Message(octets), Envelope())
            best = min(best, time.thread_time() - begin)
        return best

    assert cost(script) < 10 * cost(alone)  # rule by rule it is some sixty times


@given(st.lists(st.text(max_size=4), min_size=LEAST, max_size=40), st.text(max_size=30))
def test_many_strings_in_one_pass(keys: list[str], text: str) -> None:
    assert finder(keys)(text) is any(key in text for key in keys)


def test_many_strings_in_octets_that_are_no_unicode() -> None:
    find = finder([f"key {n}" for n in range(40)])
    assert find("\udce4 key 7")
    assert not find("\udce4 kay 7")
    assert finder([f"\udce4{n}" for n in range(40)])("x\udce47")
