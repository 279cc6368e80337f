"""Addresses without a domain in the header of a message from this machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.sendmail_complete import completed
from sieve_ext.message.addresses import parse_addresses
from tests.unit.test_sendmail_command import made


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" root", " root@example.org"),
        (" root (Cron Daemon)", " root@example.org (Cron Daemon)"),
        (' "(Cron Daemon)" <root>', ' "(Cron Daemon)" <root@example.org>'),
        (" root, bob@x.test, alice", " root@example.org, bob@x.test, alice@example.org"),
        (" Bob <bob>, <root>", " Bob <bob@example.org>, <root@example.org>"),
        (" staff: bob, alice@x.test;", " staff: bob@example.org, alice@x.test;"),
        (" staff: bob;, root", " staff: bob@example.org;, root@example.org"),
        (" bob\r\n\t(one), alice", " bob@example.org\r\n\t(one), alice@example.org"),
        (" bob . smith", " bob . smith@example.org"),
        (' "bob smith"', ' "bob smith"@example.org'),
        (r' "b\"o@b" (a \) b (c))', r' "b\"o@b"@example.org (a \) b (c))'),
        (" (before) root ", " (before) root@example.org "),
        (" root,,bob", " root@example.org,,bob@example.org"),
        ("root", "root@example.org"),
    ],
)
def test_completed(value: str, expected: str) -> None:
    assert completed(value.encode(), "example.org") == expected.encode()


@pytest.mark.parametrize(
    "value",
    [
        "",
        " bob@x.test",
        " Bob <bob@x.test>",
        " staff:;",
        " undisclosed-recipients:;",
        " <>",
        " Bob Smith",  # a name without an address
        " bob, Bob Smith",
        ' "bob',
        " bob (one",
        " <bob",
        " <bob> smith",
        " bob@, alice",
        " @x.test:bob",
        " a@b@c, d",
        " bob;",
    ],
)
def test_left_as_it_is(value: str) -> None:
    assert completed(value.encode(), "example.org") is None


@given(st.text(st.sampled_from('ab@.,;:<>()"\\ \t\r\n[]é'), max_size=30).map(str.encode))
def test_only_domains_are_added(value: bytes) -> None:
    new = completed(value, "o.test")
    if new is None:
        return
    before = parse_addresses(value.replace(b"\r\n", b"").strip(b" \t\r")).mailboxes
    after = parse_addresses(new.replace(b"\r\n", b"").strip(b" \t\r"))
    assert not after.is_broken
    assert [mailbox.domain or "o.test" for mailbox in before] == [m.domain for m in after.mailboxes]
    assert new.replace(b"@o.test", b"") == value
    assert completed(new, "o.test") is None


def test_a_message_of_cron() -> None:
    octets = (
        b"From: root (Cron Daemon)\nTo: root\nCc: ops@x.test,\n bob\nSubject: Cron <root@host> test\n"
        b"X-Cron-Env: <LOGNAME=root>\n\nTo: root\n"
    )
    outgoing = made(octets, "root")
    assert outgoing.octets.endswith(
        b"From: root@example.org (Cron Daemon)\r\nTo: root@example.org\r\n"
        b"Cc: ops@x.test,\r\n bob@example.org\r\nSubject: Cron <root@host> test\r\n"
        b"X-Cron-Env: <LOGNAME=root>\r\n\r\nTo: root\r\n"
    )
    assert [address.text for address in outgoing.recipients] == ["root@example.org"]


def test_recipients_of_the_header_are_the_same() -> None:
    outgoing = made(b"To: bob, b@x.test\nTo: alice\nBcc: carol\n\n", from_header=True)
    assert [address.text for address in outgoing.recipients] == [
        "bob@example.org", "b@x.test", "alice@example.org", "carol@example.org",
    ]  # fmt: skip
    header = outgoing.octets.partition(b"\r\n\r\n")[0]
    assert b"To: bob@example.org, b@x.test\r\nTo: alice@example.org" in header
    assert b"carol" not in header
