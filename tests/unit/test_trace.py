"""Received, Return-Path, Date, Message-ID, and what is wrong with a header."""

import re
import time
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mta.address import NULL, Address
from mta.session import Session, TlsInfo
from mta.trace import (
    FOLD_COLUMNS,
    QUICKLY_READ,
    Clock,
    HeaderLimits,
    ReceivedTemplate,
    date_time,
    header_problems,
    hop_count,
    message_id,
    missing_fields,
    oversized,
    protocol_type,
    return_path_field,
)
from sieve_ext.message import Message

NOW = 1763806508.7  # Sat, 22 Nov 2025 10:15:08 UTC
TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
BOB = Address("bob", "example.org", "bob@example.org")


def session(**changes: object) -> Session:
    plain = Session("01ABCDEFGHJ", "mx", "smtp", "192.0.2.1", helo="client.example", esmtp=True)
    return replace(plain, **changes)


def received(
    one: Session, recipient: Address | None = BOB, *, smtputf8: bool = False, client_name: str = ""
) -> str:
    template = ReceivedTemplate(one, "mx.example.org", client_name=client_name, clock=Clock(0))
    return template.render("01ABC.1", NOW, recipient, smtputf8=smtputf8).decode()


@pytest.mark.parametrize(
    ("now", "zone", "text"),
    [
        (0.0, 0, "Thu, 01 Jan 1970 00:00:00 +0000"),
        (NOW, 0, "Sat, 22 Nov 2025 10:15:08 +0000"),
        (NOW, 3600, "Sat, 22 Nov 2025 11:15:08 +0100"),
        (NOW, -12600, "Sat, 22 Nov 2025 06:45:08 -0330"),
        (NOW, 49500, "Sun, 23 Nov 2025 00:00:08 +1345"),
        (1709164800.0, 0, "Thu, 29 Feb 2024 00:00:00 +0000"),
        (-1.5, 0, "Wed, 31 Dec 1969 23:59:58 +0000"),
    ],
)
def test_date_time(now: float, zone: int, text: str) -> None:
    assert date_time(now, zone) == text
    assert Clock(zone).date(now) == text
    assert parsedate_to_datetime(text).timestamp() == now // 1


def test_date_time_in_the_local_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert date_time(NOW) == "Sat, 22 Nov 2025 15:45:08 +0530"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_clock_moves() -> None:
    clock = Clock(0)
    assert clock.date(NOW) is clock.date(NOW + 0.2)
    assert clock.date(NOW + 1).endswith("10:15:09 +0000")
    assert clock.date(NOW).endswith("10:15:08 +0000")


@pytest.mark.parametrize(
    ("changes", "smtputf8", "expected"),
    [
        ({"esmtp": False}, False, "SMTP"),
        ({"esmtp": False, "tls": TLS}, False, "SMTP"),
        ({}, False, "ESMTP"),
        ({"tls": TLS}, False, "ESMTPS"),
        ({"user": "u"}, False, "ESMTPA"),
        ({"tls": TLS, "user": "u"}, False, "ESMTPSA"),
        ({"protocol": "submission", "tls": TLS, "user": "u"}, False, "ESMTPSA"),
        ({}, True, "UTF8SMTP"),
        ({"tls": TLS}, True, "UTF8SMTPS"),
        ({"user": "u"}, True, "UTF8SMTPA"),
        ({"tls": TLS, "user": "u"}, True, "UTF8SMTPSA"),
        ({"protocol": "lmtp"}, False, "LMTP"),
        ({"protocol": "lmtp", "esmtp": False}, False, "LMTP"),
        ({"protocol": "lmtp", "tls": TLS}, False, "LMTPS"),
        ({"protocol": "lmtp", "tls": TLS, "user": "u"}, False, "LMTPSA"),
        ({"protocol": "lmtp", "user": "u"}, True, "UTF8LMTPA"),
        ({"protocol": "lmtp", "tls": TLS, "user": "u"}, True, "UTF8LMTPSA"),
    ],
)
def test_protocol_type(changes: dict[str, object], smtputf8: bool, expected: str) -> None:
    assert protocol_type(session(**changes), smtputf8) == expected
    assert f" with {expected} id 01ABC.1" in received(session(**changes), smtputf8=smtputf8)


def test_received_in_full() -> None:
    assert received(session(tls=TLS), client_name="client.example") == (
        "Received: from client.example (client.example [192.0.2.1])\r\n"
        " (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
        " by mx.example.org (Tamis) with ESMTPS id 01ABC.1\r\n"
        " for <bob@example.org>; Sat, 22 Nov 2025 10:15:08 +0000\r\n"
    )
    assert received(session(), None) == (
        "Received: from client.example ([192.0.2.1])\r\n"
        " by mx.example.org (Tamis) with ESMTP id 01ABC.1;\r\n"
        " Sat, 22 Nov 2025 10:15:08 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("recipient", "priority", "end"),
    [
        (BOB, 3, "01ABC.1\r\n for <bob@example.org>\r\n PRIORITY 3;\r\n Sat, 22 Nov 2025 10:15:08 +0000\r\n"),
        (None, -9, "01ABC.1\r\n PRIORITY -9;\r\n Sat, 22 Nov 2025 10:15:08 +0000\r\n"),
        (None, 0, "01ABC.1\r\n PRIORITY 0;\r\n Sat, 22 Nov 2025 10:15:08 +0000\r\n"),
    ],
)
def test_the_priority_in_received(recipient: Address | None, priority: int, end: str) -> None:
    """RFC 6710: what the client asked for by MT-PRIORITY."""
    template = ReceivedTemplate(session(), "mx.example.org", clock=Clock(0))
    octets = template.render("01ABC.1", NOW, recipient, priority=priority)
    assert octets.decode().endswith(end)
    assert Message(octets + b"\r\n").count("received") == 1


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"client_address": "2001:db8::1"}, "Received: from client.example ([IPv6:2001:db8::1])\r\n"),
        ({"client_address": "fe80::1%eth0"}, "Received: from client.example ([IPv6:fe80::1])\r\n"),
        ({"client_address": "unix"}, "Received: from client.example (local socket)\r\n"),
        ({"client_address": "unix", "helo": ""}, "Received: from unknown (local socket)\r\n"),
        ({"client_address": "unknown"}, "Received: from client.example (unknown)\r\n"),
        ({"helo": ""}, "Received: from [192.0.2.1] ([192.0.2.1])\r\n"),
        ({"helo": "[192.0.2.9]"}, "Received: from [192.0.2.9] ([192.0.2.1])\r\n"),
        ({"helo": "[IPv6:::1]"}, "Received: from [IPv6:::1] ([192.0.2.1])\r\n"),
        ({"helo": "host_name"}, "Received: from host_name ([192.0.2.1])\r\n"),
        ({"helo": "a\r\nBcc: b"}, "Received: from a??Bcc:?b ([192.0.2.1])\r\n"),
        ({"helo": "x (y) by z; date"}, "Received: from x??y??by?z??date ([192.0.2.1])\r\n"),
        ({"helo": 'a"b\\c<d>,'}, "Received: from a?b?c?d?? ([192.0.2.1])\r\n"),
        ({"helo": "exämple"}, "Received: from ex?mple ([192.0.2.1])\r\n"),
        ({"helo": "a" * 400}, f"Received: from {'a' * 255}\r\n ([192.0.2.1])\r\n"),
    ],
)
def test_the_client_in_received(changes: dict[str, object], start: str) -> None:
    assert received(session(**changes)).startswith(start)


def test_a_name_without_an_address() -> None:
    octets = received(session(client_address="unknown"), client_name="a.test")
    assert octets.startswith("Received: from client.example (a.test unknown)\r\n")


def test_the_reverse_name_is_reduced_too() -> None:
    assert received(session(), client_name="a) by b").startswith(
        "Received: from client.example (a??by?b [192.0.2.1])\r\n"
    )


def test_the_cipher_is_reduced_too() -> None:
    assert " (using T?? with cipher C?\r" not in received(session(tls=TlsInfo("T(1", "C)\r\nX: y", 1)))
    assert " (using T?1 with cipher C???X:?y (1/1 bits))\r\n" in received(
        session(tls=TlsInfo("T(1", "C)\r\nX: y", 1))
    )


@pytest.mark.parametrize(
    ("recipient", "smtputf8", "clause"),
    [
        (BOB, False, " for <bob@example.org>; Sat, "),
        (Address("a b", "x", '"a b"@x'), False, ' for <"a b"@x>; Sat, '),
        (Address("postmaster", "", "postmaster"), False, " for <postmaster>; Sat, "),
        (Address("ä", "x", "ä@x"), True, " for <ä@x>; Sat, "),
        (Address("ä", "x", "ä@x"), False, None),
        (Address("b", "xn--bcher-kva.test", "b@bücher.test"), True, " for <b@xn--bcher-kva.test>; Sat, "),
        (Address("a\r\nb", "x", "a\r\nb@x"), False, " for <a??b@x>; Sat, "),
        (Address("a\u2028b", "x", "a\u2028b@x"), True, " for <a?b@x>; Sat, "),
        (NULL, False, None),
        (None, False, None),
        (Address("a" * 64, "example.org", "a" * 64 + "@example.org"), False, "@example.org>;\r\n Sat, "),
    ],
)
def test_the_recipient_in_received(recipient: Address | None, smtputf8: bool, clause: str | None) -> None:
    text = received(session(), recipient, smtputf8=smtputf8)
    if clause is None:
        assert " for " not in text
        assert ";\r\n Sat, " in text
    else:
        assert clause in text


@settings(deadline=None)
@given(
    st.text(max_size=300),
    st.text(max_size=80),
    st.one_of(st.none(), st.text(max_size=80)),
    st.booleans(),
    st.one_of(st.none(), st.builds(TlsInfo, st.text(max_size=30), st.text(max_size=90), st.integers(0, 512))),
)
def test_received_is_one_field_whatever_the_client_said(
    helo: str, name: str, path: str | None, smtputf8: bool, tls: TlsInfo | None
) -> None:
    recipient = None if path is None else Address("", "", path)
    text = received(session(helo=helo, tls=tls), recipient, smtputf8=smtputf8, client_name=name)
    message = Message(text.encode("utf-8", "surrogatepass") + b"\r\n")
    assert [field.name for field in message.fields] == ["Received"]
    assert text.endswith("\r\n")
    assert smtputf8 or text.isascii()
    # No control character, balanced comments, one date in its place.
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", text)
    clauses = text.partition(" by mx.example.org (Tamis) with ")
    assert clauses[0].count("(") == clauses[0].count(")")
    assert re.search(r";(\r\n)? Sat, 22 Nov 2025 10:15:08 \+0000\r\n\Z", text)


names = st.from_regex(r"[a-z]{1,12}(\.[a-z]{1,8})?", fullmatch=True)


@settings(deadline=None)
@given(names, names, names, names, st.booleans())
def test_received_keeps_to_the_columns(helo: str, name: str, local: str, domain: str, tls: bool) -> None:
    text = received(
        session(helo=helo, tls=TLS if tls else None),
        Address(local, domain, f"{local}@{domain}"),
        client_name=name,
    )
    assert all(len(line) <= FOLD_COLUMNS for line in text.split("\r\n"))


def test_long_names_of_our_own_fold_before_with() -> None:
    template = ReceivedTemplate(session(), "a" * 60 + ".example", clock=Clock(0))
    text = template.render("01ABC.1", NOW).decode()
    assert "(Tamis)\r\n with ESMTP id 01ABC.1;\r\n Sat, " in text


@pytest.mark.parametrize(
    ("sender", "field"),
    [
        (NULL, b"Return-Path: <>\r\n"),
        (BOB, b"Return-Path: <bob@example.org>\r\n"),
        (Address("ä", "x", "ä@x"), "Return-Path: <ä@x>\r\n".encode()),
        (Address("", "", "a\r\nb@x"), b"Return-Path: <a??b@x>\r\n"),
    ],
)
def test_return_path(sender: Address, field: bytes) -> None:
    assert return_path_field(sender) == field


def test_message_id() -> None:
    assert message_id(NOW, "mx.example.org", bytes(range(12))) == (
        "<20251122101508.000102030405060708090a0b@mx.example.org>"
    )


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (b"From: a\r\n\r\n", ["Date", "Message-ID"]),
        (b"DATE: x\r\n\r\n", ["Message-ID"]),
        (b"message-id : x\r\n\r\n", ["Date"]),
        (b"Date: x\r\nMessage-Id: y\r\n\r\n", []),
        (b"", ["Date", "Message-ID"]),
    ],
)
def test_missing_fields(head: bytes, names: list[str]) -> None:
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    fields, added = missing_fields(Message(head), NOW, "mx.example.org", entropy)
    made = Message(fields + b"\r\n")
    assert [field.name for field in made.fields] == names
    assert asked == ([12] if "Message-ID" in names else [])
    if "Date" in names:
        date = made.text("date")
        assert date is not None
        assert parsedate_to_datetime(date).timestamp() == NOW // 1
    assert added == (f"<20251122101508.{'00' * 12}@mx.example.org>" if "Message-ID" in names else "")
    assert (made.text("message-id") or "") == added


def test_hop_count() -> None:
    assert hop_count(Message(b"Received: a\r\nX: b\r\nRECEIVED: c\r\n\r\nReceived: d\r\n")) == 2


LIMITS = HeaderLimits(octets=1000, fields=20, hops=3, line_octets=100, require_from=True)


@pytest.mark.parametrize(
    ("head", "code", "enhanced", "text"),
    [
        (b"From: a@b\r\n\r\n", 0, "", ""),
        (b"From: a, b@c\r\nX: " + b"x" * 97 + b"\r\n\r\n", 0, "", ""),
        (b"Received: a\r\n" * 3 + b"From: a\r\n\r\n", 0, "", ""),
        (b"X: y\r\n" * 19 + b"From: a\r\n\r\n" + b"body" * 1000, 0, "", ""),
        (b"From: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 552, "5.3.4", "larger than 1000 octets"),
        (b"From: a\r\n" + b"X: y\r\n" * 20 + b"\r\n", 552, "5.3.4", "more than 20 header fields"),
        (b"From: a\r\n" + b"received: y\r\n" * 4 + b"\r\n", 554, "5.4.6", "Too many hops"),
        (b"From: a\r\nX: " + b"x" * 98 + b"\r\n\r\n", 554, "5.6.0", "longer than 100 octets"),
        (b"X: y\r\n\r\n", 550, "5.6.0", "no From field"),
        (b"", 550, "5.6.0", "no From field"),
        (b"From\r\n\r\n", 550, "5.6.0", "no From field"),
        (b"From: a\r\nFROM : b\r\n\r\n", 550, "5.6.0", "more than one From field"),
        (b"From: \r\n\r\n", 550, "5.6.0", "no address in its From field"),
        (b" dkim=pass\r\nFrom: a\r\n\r\n", 554, "5.6.0", "begins with a continuation line"),
        (b"\t\r\nFrom: a\r\n\r\n", 554, "5.6.0", "begins with a continuation line"),
        (b"From: <>\r\n\r\n", 550, "5.6.0", "no address in its From field"),
        (b"From: nobody:;\r\n\r\n", 550, "5.6.0", "no address in its From field"),
        (b"From: Alice Example\r\n\r\n", 550, "5.6.0", "no address in its From field"),
    ],
)
def test_header_problems(head: bytes, code: int, enhanced: str, text: str) -> None:
    reply = header_problems(Message(head), LIMITS)
    if not code:
        assert reply is None
        return
    assert reply is not None
    assert (reply.code, reply.enhanced) == (code, enhanced)
    assert text in reply.text


@pytest.mark.parametrize(
    "head",
    [
        b"\r\nbody",
        b"X: " + b"x" * 5000 + b"\r\n\r\n",
        b"Received: a\r\n" * 100 + b"\r\n",
        b"From: a\r\nFrom: b\r\n\r\n",
        b"hello\r\n\r\n",
        b"X: " + b"x" * (256 * 1024 - 5) + b"\r\n\r\n",
    ],
)
def test_relayed_mail_is_not_refused_for_its_form(head: bytes) -> None:
    assert header_problems(Message(head), HeaderLimits()) is None


@pytest.mark.parametrize(
    "head",
    [
        b"Received: a\r\n" * 101 + b"\r\n",
        b"X: y\r\n" * 2001 + b"\r\n",
        b"X: " + b"x" * (256 * 1024) + b"\r\n\r\n",
    ],
)
def test_default_limits(head: bytes) -> None:
    assert header_problems(Message(head), HeaderLimits()) is not None
    assert header_problems(Message(head), HeaderLimits(octets=0, fields=0, hops=0)) is None


def test_a_header_that_does_not_end_is_too_large() -> None:
    head = b"X: y\r\n" * 10
    message = Message(head, len(head) + 1, lambda: iter((head, b"Z")))
    reply = header_problems(message, HeaderLimits())
    assert reply is not None
    assert reply.enhanced == "5.3.4"


FILLED = b"A: " + b"x" * QUICKLY_READ + b"\r\n"
LOW = HeaderLimits(octets=len(FILLED) + 1000, fields=50)


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (FILLED + b"B:\r\n" * 49 + b"\r\nbody\r\n" * 1000, None),
        (FILLED + b"B:\r\n" * 49, None),
        (FILLED + b"B:\r\n" * 49 + b"\r", None),
        (FILLED + b"B:\r\n" * 50 + b"\r\nbody\r\n", "Message has more than 50 header fields"),
        (FILLED + b"B:\r\n" * 50, "Message has more than 50 header fields"),
        (FILLED + b"B:\r\n x\r\n\tx\r\n" * 49 + b"\r\nB:\r\n", None),
        (FILLED + b"C: " + b"y" * 995 + b"\r\n\r\nbody\r\n", None),
        (FILLED + b"C: " + b"y" * 2000 + b"\r\n\r\nbody\r\n", "Message header is larger than 17389 octets"),
        (FILLED + b"C: " + b"y" * 2000, "Message header is larger than 17389 octets"),
        (FILLED + b"B:\r\n" * 9000, "Message header is larger than 17389 octets"),
        (b"\r\n" + FILLED + b"B:\r\n" * 9000, None),
        (b"\n" + FILLED + b"B:\r\n" * 9000, None),
    ],
)
def test_a_header_that_is_too_large_is_refused_before_it_is_read(head: bytes, text: str | None) -> None:
    reply = oversized(head, LOW)
    assert (reply and reply.text) == text
    assert reply == header_problems(Message(head), LOW)
    assert oversized(head, HeaderLimits(octets=0, fields=0)) is None


def test_what_is_read_quickly_is_not_looked_at() -> None:
    assert oversized(b"A:\r\n" * 4000, LOW) is None
    assert header_problems(Message(b"A:\r\n" * 4000), LOW) is not None
