"""Address lists as senders write them."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sieve_ext.message import Mailbox, Message, parse_addresses
from sieve_ext.message.addresses import _ListReader
from sieve_ext.message.limits import MAILBOXES

GOOD = [
    # value, ["group|name|local|domain", ...]
    (b"", []),
    (b"   ", []),
    (b",,", []),
    (b"alice@example.com", ["||alice|example.com"]),
    (b"<alice@example.com>", ["||alice|example.com"]),
    (b"Alice <alice@example.com>", ["|Alice|alice|example.com"]),
    (b"Alice<alice@example.com>", ["|Alice|alice|example.com"]),
    (b"Alice  B.   Example <alice@example.com>", ["|Alice B. Example|alice|example.com"]),
    (b'"Example, Alice" <alice@example.com>', ["|Example, Alice|alice|example.com"]),
    (b'"Alice \\"Al\\" Example" <alice@example.com>', ['|Alice "Al" Example|alice|example.com']),
    (b'"" <alice@example.com>', ["||alice|example.com"]),
    (b'"Alice" Example <alice@example.com>', ["|Alice Example|alice|example.com"]),
    # Examples of RFC 5322 appendix A.
    (
        b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
        ["|Pete|pete|silly.test"],
    ),
    (
        b"A Group(Some people):Chris Jones <c@(Chris's host.)public.example>, joe@example.org,"
        b" John <jdoe@one.test> (my dear friend); (the end of the group)",
        ["A Group|Chris Jones|c|public.example", "A Group||joe|example.org", "A Group|John|jdoe|one.test"],
    ),
    (b"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", []),
    (b"Joe Q. Public <john.q.public@example.com>", ["|Joe Q. Public|john.q.public|example.com"]),
    (
        b"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
        ["|Mary Smith|mary|example.net", "||jdoe|test.example"],
    ),
    (b"<@a.test,@b.test:joe@c.test>", ["||joe|c.test"]),
    (b"undisclosed-recipients:;", []),
    (b"undisclosed-recipients: ;", []),
    (b"a@b, Team: c@d, e@f;, g@h", ["||a|b", "Team||c|d", "Team||e|f", "||g|h"]),
    # The old form: the name in a comment.
    (b"alice@example.com (Alice Example)", ["|Alice Example|alice|example.com"]),
    (b"alice@example.com (Alice \\(Al\\) (the) Example)", ["|Alice (Al) (the) Example|alice|example.com"]),
    (b"(hello) alice@example.com", ["|hello|alice|example.com"]),
    (b"Alice (home) <alice@example.com> (work)", ["|Alice|alice|example.com"]),
    (b'("oops) <a@b>, "x" <c@d>', ['|"oops|a|b', "|x|c|d"]),
    # Quoted and odd local parts.
    (b'"a b"@example.com', ["||a b|example.com"]),
    (b'"a\\"b\\\\c"@example.com', ['||a"b\\c|example.com']),
    (b'x."a b"@example.com', ["||x.a b|example.com"]),
    (b"a..b@example.com", ["||a..b|example.com"]),
    (b".a.@example.com", ["||.a.|example.com"]),
    (b"a+b=c!d#e@example.com", ["||a+b=c!d#e|example.com"]),
    (b"a . b @ c . d", ["||a.b|c.d"]),
    (b"a(x).(y)b(z)@(1)c(2).d", ["|2|a.b|c.d"]),
    (b"x@[192.0.2.1]", ["||x|[192.0.2.1]"]),
    (b"x@[IPv6:2001:db8::1]", ["||x|[IPv6:2001:db8::1]"]),
    (b"x@example.com.", ["||x|example.com"]),
    (b"<x@[192.0.2.1]>, y@z", ["||x|[192.0.2.1]", "||y|z"]),
    # No domain, no address.
    (b"root", ["||root|"]),
    (b"<root>", ["||root|"]),
    (b"<>", ["|||"]),
    (b"Mail System <>", ["|Mail System||"]),
    # Names encoded and raw.
    (b"=?utf-8?q?J=C3=B6rg?= <j@x>", ["|Jörg|j|x"]),
    (b"=?utf-8?q?J=C3=B6rg=2C_X=3C?= =?utf-8?q?y?= <j@x>, a@b", ["|Jörg, X<y|j|x", "||a|b"]),
    (b'"=?utf-8?q?J=C3=B6rg?=" <j@x>', ["|Jörg|j|x"]),
    (b"j@x (=?utf-8?q?J=C3=B6rg?=)", ["|Jörg|j|x"]),
    ("Jörg <jörg@exämple.org>".encode(), ["|Jörg|jörg|exämple.org"]),
    ("李 <李@例え.jp>, a@b".encode(), ["|李|李|例え.jp", "||a|b"]),
    (b"=?utf-8?q?evil=40bank=2Eexample?= <j@x>", ["|evil@bank.example|j|x"]),
    # Encoded words do not stand in an address.
    (b"=?utf-8?q?a?=@x", ["||=?utf-8?q?a?=|x"]),
]

BROKEN = [
    (b"Alice <alice@example.com", ["|Alice|alice|example.com"]),
    (b"alice@example.com>", ["||alice|example.com"]),
    (b"<alice@example.com, bob@example.com", ["||alice|example.com", "||bob|example.com"]),
    (b"<a@b> <c@d>", ["||a|b", "||c|d"]),
    (b"a@b <c@d>", ["|a@b|c|d"]),
    (b"<a@b> tail", ["||a|b"]),
    (b"a@b; c@d", ["||a|b", "||c|d"]),
    (b"a@b@c", []),
    (b"@b", []),
    (b"a@", []),
    (b"a b@c", []),
    (b"a@b c", []),
    (b"a@b.c d.e", []),
    (b"Alice Example", []),
    (b'"unclosed <a@b>', []),
    (b'"unclosed\\', []),
    (b"(unclosed <a@b>", []),
    (b"a@b (unclosed", ["||a|b"]),
    (b"a@b )", ["||a|b"]),
    (b"x@[192.0.2.1", []),
    (b"[x]@b", []),
    (b"a\0@b", []),
    (b"a@b\x01", []),
    (b"mailto:a@b", ["mailto||a|b"]),
    (b"<mailto:a@b>", []),
    (b"Team: a@b", ["Team||a|b"]),
    (b"a: b: c@d;", ["b||c|d"]),
    (b"<<a@b>>", ["||a|b"]),
    (b"a\\b@c", []),
    (b'"a""b"@c', []),
    (b"a@.", []),
]


def short(value: bytes) -> list[str]:
    return [f"{m.group}|{m.name}|{m.local}|{m.domain}" for m in parse_addresses(value).mailboxes]


@pytest.mark.parametrize(("value", "expected"), GOOD)
def test_good_lists(value: bytes, expected: list[str]) -> None:
    assert short(value) == expected
    assert not parse_addresses(value).is_broken


@pytest.mark.parametrize(("value", "expected"), BROKEN)
def test_broken_lists(value: bytes, expected: list[str]) -> None:
    assert short(value) == expected
    assert parse_addresses(value).is_broken


@pytest.mark.parametrize(
    ("mailbox", "address"),
    [
        (Mailbox("", "alice", "example.com"), "alice@example.com"),
        (Mailbox("", "a.b", "x"), "a.b@x"),
        (Mailbox("", "a b", "x"), '"a b"@x'),
        (Mailbox("", 'a"\\', "x"), '"a\\"\\\\"@x'),
        (Mailbox("", "a..b", "x"), '"a..b"@x'),
        (Mailbox("", "ä", "ö"), "ä@ö"),
        (Mailbox("", "root", ""), "root"),
        (Mailbox("x", "", ""), ""),
    ],
)
def test_addr_spec(mailbox: Mailbox, address: str) -> None:
    assert mailbox.address == address


def test_addresses_of_a_field() -> None:
    message = Message(b"To: Alice\r\n <a@b>,\r\n\tc@d\r\n\r\n")
    field = message.get("to")
    assert field is not None
    assert [mailbox.address for mailbox in field.addresses.mailboxes] == ["a@b", "c@d"]
    assert field.addresses is field.addresses


def test_the_number_is_bounded() -> None:
    found = parse_addresses(b"a@b," * (MAILBOXES + 1))
    assert len(found.mailboxes) == MAILBOXES
    assert found.is_broken


pieces = st.sampled_from(
    [
        *(b"a", b"b.c", b"@", b".", b" ", b"<", b">", b"(", b")", b'"', b"\\", b",", b":", b";", b"[", b"]"),
        *(b"\xc3\xa4", b"\xff", b"\0", b"=?utf-8?q?=C3=A4?=", b"x@y", b"<a@b>", b'"q r"', b"\r\n "),
    ]
)


@settings(deadline=None)
@given(st.lists(pieces, max_size=14).map(b"".join))
def test_any_list_is_read(value: bytes) -> None:
    found = parse_addresses(value)
    for mailbox in found.mailboxes:
        # What was read is an address that reads back as itself.
        if mailbox.local:
            again = parse_addresses(mailbox.address.encode())
            assert [(m.local, m.domain) for m in again.mailboxes] == [(mailbox.local, mailbox.domain)]
            assert not again.is_broken


@settings(deadline=None)
@given(st.lists(pieces, max_size=6).map(b"".join))
def test_the_short_way_agrees_with_the_long_one(value: bytes) -> None:
    assert parse_addresses(value) == _ListReader().read(value)


@pytest.mark.parametrize(
    "piece",
    [
        *(
            b'"\\',
            b'("',
            b'\\"',
            b"(\\",
            b"(",
            b")",
            b"[",
            b"<",
            b">",
            b"a@b,",
            b" ",
            b"a ",
            b"@",
            b"<@a,",
            b"a.",
        ),
        *(b"a:", b";", b"(a)", b'"a"', b"\xff", b"a@b(c)", b"=?a?q?b?= "),
    ],
)
def test_linear_time(piece: bytes) -> None:
    value = piece * (100_000 // len(piece))
    start = time.process_time()
    parse_addresses(value)
    assert time.process_time() - start < 5  # about 0.2 s here
