"""The author's domain: From fields that are read, and those that nobody may be fooled with."""

from __future__ import annotations

from email.utils import getaddresses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.authn.dmarcauthor import Author, find_author, suspected_domains
from sieve_ext.message import HeaderIndex
from sieve_ext.message.header import Header
from tests.peers.cost import processor_seconds


def author(*lines: str | bytes) -> Author:
    octets = b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines)
    return find_author(Header(HeaderIndex(octets + b"\r\n")))


READ = [
    ("From: a@d.test", "d.test"),
    ("from: a@D.Test", "d.test"),
    ("FROM :a@d.test", "d.test"),
    ("From:\ta@d.test\t", "d.test"),
    ("From: <a@d.test>", "d.test"),
    ("From: A B <a@d.test>", "d.test"),
    ('From: "A, B" <a@d.test>', "d.test"),
    ('From: "A \\" B" <a@d.test>', "d.test"),
    ("From: a@d.test (A B)", "d.test"),
    ("From: (x) a@d.test", "d.test"),
    ("From: (x (y) z) A <a@d.test> (t)", "d.test"),
    ("From: A\r\n <a@d.test>", "d.test"),
    ("From:\r\n a@d.test", "d.test"),
    ("From: a@sub.d.test", "sub.d.test"),
    ("From: a@xn--bcher-kva.test", "xn--bcher-kva.test"),
    ("From: a@bücher.test", "xn--bcher-kva.test"),
    ("From: a@BÜCHER.test", "xn--bcher-kva.test"),
    ("From: müller@d.test", "d.test"),
    ("From: =?utf-8?q?M=C3=BCller?= <a@d.test>", "d.test"),
    ("From: =?utf-8?b?TcO8bGxlcg==?= <a@d.test>", "d.test"),
    ("From: Müller <a@d.test>", "d.test"),
    (b"From: M\xfcller <a@d.test>", "d.test"),
    ("From: a@d.test, b@d.test", "d.test"),
    ("From: A <a@d.test>, B <b@D.TEST>", "d.test"),
    ("From: Team: a@d.test, b@d.test;", "d.test"),
    ("From: a+b=c@d.test", "d.test"),
    ('From: "a b"@d.test', "d.test"),
    ("From: a..b@d.test", "d.test"),
    ("From: a@under_score.d.test", "under_score.d.test"),
    ('From: "Bob <bob@d.test>" <bob@d.test>', "d.test"),
    ('From: "x@bank.test via list" <list@d.test>', "d.test"),
]

ODD = "From is not written as the standard says"

REFUSED: list[tuple[tuple[str | bytes, ...], str]] = [
    ((), "no From"),
    (("Sender: a@d.test", "Reply-To: a@d.test"), "no From"),
    (("Resent-From: a@d.test",), "no From"),
    (("X-From: a@d.test",), "no From"),
    ((" From: a@d.test",), "no From"),
    (("From a@d.test",), "no From"),
    (("From: a@d.test", "From: b@bank.test"), "several From"),
    (("From: a@d.test", "from : b@bank.test"), "several From"),
    (("From: a@d.test", "From:"), "several From"),
    (("From: a@d.test", "From: a@d.test"), "several From"),
    (("From\0: b@bank.test", "From: a@d.test"), "something like a second From"),
    (("\0From: b@bank.test", "From: a@d.test"), "something like a second From"),
    ((b"\xef\xbb\xbfFrom: b@bank.test", "From: a@d.test"), "something like a second From"),
    (("Fr om: b@bank.test", "From: a@d.test"), "something like a second From"),
    (("From\x0b: b@bank.test",), "something like From"),
    (("Subject: x\rFrom: b@bank.test", "From: a@d.test"), "a second From behind a bare CR"),
    (("Subject: x\r \tFROM : b@bank.test", "From: a@d.test"), "a second From behind a bare CR"),
    (("From: a@d.test\rFrom: b@bank.test",), "a second From behind a bare CR"),
    (("From:",), "no address in From"),
    (("From: ",), "no address in From"),
    (("From: <>",), "an address without a domain in From"),
    (("From: A B",), "From cannot be read for certain"),
    (("From: A <>",), "an address without a domain in From"),
    (("From: root",), "an address without a domain in From"),
    (("From: <root>",), "an address without a domain in From"),
    (("From: nobody:;",), "no address in From"),
    (("From: (only a comment a@d.test)",), "no address in From"),
    (('From: "only a string <a@d.test>"',), "not a mailbox"),
    (("From: a@",), "From cannot be read for certain"),
    (("From: @d.test",), "From cannot be read for certain"),
    (("From: a@b@d.test",), "From cannot be read for certain"),
    (("From: <a@bank.test> <b@d.test>",), "From cannot be read for certain"),
    (("From: a@bank.test <b@d.test>",), "From cannot be read for certain"),
    (("From: a@bank.test b@d.test",), "From cannot be read for certain"),
    (("From: <a@d.test",), "From cannot be read for certain"),
    (("From: a@d.test>",), "From cannot be read for certain"),
    (("From: <<a@d.test>>",), "From cannot be read for certain"),
    (("From: A <a@d.test> B",), "From cannot be read for certain"),
    (('From: "A <a@d.test>',), "From cannot be read for certain"),
    (("From: (A <a@d.test>",), "From cannot be read for certain"),
    (("From: a@d.test)",), "From cannot be read for certain"),
    (("From: a@d.test;",), "From cannot be read for certain"),
    (("From: Team: a@d.test",), "From cannot be read for certain"),
    (("From: a@bank.test, b@d.test",), "several domains in From"),
    (("From: Team: a@bank.test, b@d.test;",), "several domains in From"),
    (("From: a@d.test, <root>",), "an address without a domain in From"),
    (("From: <@bank.test:a@d.test>",), "a source route in From"),
    (("From: <@bank.test,@x.test:a@d.test>",), "a source route in From"),
    (("From: a@d.test\0",), "control characters in From"),
    (("From: a@bank.test\0@d.test",), "control characters in From"),
    (("From: a@bank.test\x00 <b@d.test>",), "control characters in From"),
    (("From: \x1b[2Ja@d.test",), "control characters in From"),
    (("From: a\x7f@d.test",), "control characters in From"),
    (("From: a\r@d.test",), "control characters in From"),
    (("From: =?utf-8?q?a=40bank.test=00?= <b@d.test>",), "control characters in From"),
    (("From: =?utf-8?q?a=40bank.test=0A?= <b@d.test>",), "control characters in From"),
    (("From: =?utf-8?b?YUBiYW5rLnRlc3QA?= <b@d.test>",), "control characters in From"),
    (("From: a@bank.test =?utf-8?q?=E2=80=A8?= <b@d.test>",), "From cannot be read for certain"),
    (("From: =?utf-8?q?a=40bank=2Etest?=@d.test",), "an encoded word inside an address in From"),
    (("From: =?utf-8?b?YUBiYW5rLnRlc3Q=?==?utf-8?q?=00?=@d.test",), "an encoded word inside"),
    (("From: a@=?utf-8?q?bank=2Etest?=",), "an encoded word inside an address in From"),
    (("From: a@=?utf-8?q?bank?=.d.test",), "an encoded word inside an address in From"),
    (("From: a@d(comment).test",), "not written in one piece"),
    (("From: a@(comment)d.test",), "not written in one piece"),
    (("From: a@d . test",), "not written in one piece"),
    (("From: a@ d.test",), "not written in one piece"),
    (("From: a@d\r\n .test",), "not written in one piece"),
    (('From: "a@bank.test"@d.test',), "an address inside a local part in From"),
    (('From: "<a@bank.test>"@d.test',), "an address inside a local part in From"),
    (('From: "a\\"b"@d.test',), "an address inside a local part in From"),
    (("From: a@d.test.",), ODD),
    (("From: a@d.test..",), ODD),
    (("From: a@d.test,",), ODD),
    (("From: ,a@d.test",), ODD),
    (("From: a@d.test,,b@d.test",), ODD),
    (("From: Team:a@d.test;,",), ODD),
    (("From: :a@d.test;",), ODD),
    (("From: .<a@d.test>",), ODD),
    (("From: .a@d.test",), ODD),
    (("From: Name]<a@d.test>",), ODD),
    (("From: Name \\<a@d.test>",), ODD),
    (("From: =?utf-8?q?x=40bank.test?= \\<a@d.test>",), ODD),
    (("From: \\a@bank.testgroup:;<a@d.test>",), ODD),
    (("From: a@bank.test group:b@d.test;",), ODD),
    (("From: x@bank.test]:<a@d.test>;",), ODD),
    (("From: a@[192.0.2.1]",), "an address literal in From"),
    (("From: a@[IPv6:2001:db8::1]",), "an address literal in From"),
    (("From: a@test",), "a domain of one label in From"),
    (("From: a@localhost",), "a domain of one label in From"),
    (("From: a@d..test",), "From"),
    (("From: a@-d!.test",), "not a domain in From"),
    (("From: a@" + "x" * 64 + ".test",), "not a domain in From"),
    ((b"From: a@b\xffnk.test",), "From"),
    (("From: a@d.test%bank.test",), "not a domain in From"),
    (("From: " + ", ".join(f"a@d{n}.test" for n in range(100)),), "several domains in From"),
]


@pytest.mark.parametrize(("line", "domain"), READ)
def test_from_that_is_read(line: str | bytes, domain: str) -> None:
    found = author("Received: x", line, "Sender: s@bank.test", "To: t@d.test")
    assert (found.domain, found.reason) == (domain, "")
    assert found.domains == (domain,)


@pytest.mark.parametrize(("lines", "reason"), REFUSED)
def test_from_that_is_refused(lines: tuple[str | bytes, ...], reason: str) -> None:
    found = author(*lines)
    assert found.domain == ""
    if reason != "not a mailbox":
        assert reason in found.reason
    assert found.reason


def test_there_are_enough_cases() -> None:
    assert len(READ) + len(REFUSED) >= 100


def test_several_domains_are_told_but_not_all() -> None:
    assert author("From: a@b.test, c@d.test").domains == ("b.test", "d.test")
    assert len(author("From: " + ", ".join(f"a@d{n}.test" for n in range(100))).domains) == 8


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('From: "x@bank.test via list" <list@d.test>', ("bank.test",)),
        ("From: =?utf-8?q?ceo=40Bank.Test?= <a@d.test>", ("bank.test",)),
        ('From: "a@d.test" <a@d.test>', ()),
        ("From: A <a@d.test>", ()),
        ("From: a@d.test (ceo@bank.test)", ("bank.test",)),
    ],
)
def test_domains_in_display_names(line: str, shown: tuple[str, ...]) -> None:
    assert author(line).shown == shown


LARGE = ["(", "<", "@", " ", "\r", ":", "<@", "a@d.test,", "=?utf-8?q?", '"x" ', "a:<", "a.. <", "()a."]
LARGE = [piece * (200_000 // len(piece)) for piece in LARGE]
LARGE += ['"' + "\\" * 200_000, "a" * 200_000 + "@d.test", "a." * 100_000 + "@d", "x@" + "a" * 200_000]
LARGE += ["x" + "." * 200_000 + "@d.test", "a.." * 60_000 + "<a@d.test>", "()a." * 50_000 + "@d.test"]


@pytest.mark.parametrize("value", LARGE, ids=range(len(LARGE)))
def test_large_fields_take_no_time(value: str) -> None:
    # 0.4 s at most here; what grows with the square takes minutes.
    assert processor_seconds(lambda: author("From: " + value), 5.0) < 5.0
    header = Header(HeaderIndex(f"From: {value}\r\nFrom: {value}\r\n\r\n".encode()))
    assert processor_seconds(lambda: suspected_domains(header), 5.0) < 5.0


def test_many_fields_take_no_time() -> None:
    lines = [f"X-{n}: \r\r\r" for n in range(20_000)]
    assert author(*lines, "From: a@d.test").domain == "d.test"
    assert processor_seconds(lambda: author(*lines, "From: a@d.test"), 2.0) < 2.0


PIECES = ["a", "@", ".", "d.test", "<", ">", "(", ")", '"', "\\", ",", ":", ";", " ", "\0", "\r\n ", "[", "]"]
PIECES += ["=?utf-8?q?x=40y.z?=", "bank.test", "Name", "=?utf-8?b?AA==?="]


@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_what_is_read_stands_in_the_field(parts: list[str]) -> None:
    value = "".join(parts)
    found = author("From: " + value)
    assert bool(found.domain) is not bool(found.reason)
    if found.domain:
        assert "@" + found.domain in value.lower()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*PIECES, "\\", "<a@d.test>", "a@d.test", "group:", "'"]), min_size=1, max_size=12
    )
)
def test_another_reader_reads_the_same(parts: list[str]) -> None:
    """Python's reader finds the same domain, or gives up, wherever we find one."""
    value = "".join(parts)
    found = author("From: " + value)
    if found.domain:
        others = {
            address.rpartition("@")[2].lower() for _, address in getaddresses([value.replace("\r\n", "")])
        }
        assert others <= {found.domain, ""}
