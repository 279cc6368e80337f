"""The attribute lists of XCLIENT and XFORWARD."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.introduction import become
from mta.session import Session
from mta.smtp.syntax import SyntaxProblem
from mta.smtp.xclient import (
    MAX_COMMAND,
    TEMPUNAVAIL,
    UNAVAILABLE,
    XCLIENT_ATTRIBUTES,
    XFORWARD_ATTRIBUTES,
    encode_attributes,
    parse_xclient,
    parse_xforward,
)

XCLIENT = [
    (b"ADDR=192.0.2.1", {"ADDR": "192.0.2.1"}),
    (b"addr=192.0.2.1  PORT=25 ", {"ADDR": "192.0.2.1", "PORT": "25"}),
    (b"ADDR=IPV6:2001:DB8:0::1", {"ADDR": "2001:db8::1"}),
    (b"ADDR=ipv6:::ffff:192.0.2.1", {"ADDR": "192.0.2.1"}),
    (b"ADDR=[UNAVAILABLE] PORT=[unavailable]", {"ADDR": UNAVAILABLE, "PORT": UNAVAILABLE}),
    (b"NAME=Mail.Example.ORG", {"NAME": "mail.example.org"}),
    (b"NAME=[TEMPUNAVAIL]", {"NAME": TEMPUNAVAIL}),
    (b"NAME=[tempunavail]", {"NAME": TEMPUNAVAIL}),
    (b"NAME=[UNAVAILABLE]", {"NAME": UNAVAILABLE}),
    (b"HELO=a+20b+3Dc", {"HELO": "a b=c"}),
    (b"HELO=[192.0.2.1]", {"HELO": "[192.0.2.1]"}),
    (b"LOGIN=j+C3+B6rg", {"LOGIN": "jörg"}),
    (b"PROTO=esmtp", {"PROTO": "ESMTP"}),
    (b"DESTADDR=IPV6:::1 DESTPORT=0587", {"DESTADDR": "::1", "DESTPORT": "587"}),
]

XFORWARD = [
    (b"NAME=a.example ADDR=192.0.2.1 PROTO=UTF8SMTPS", None),
    (b"PORT=2525 HELO=x IDENT=4F00A SOURCE=LOCAL", None),
    (b"SOURCE=remote", {"SOURCE": "REMOTE"}),
    (b"SOURCE=[UNAVAILABLE]", {"SOURCE": UNAVAILABLE}),
]

BAD = [
    *(b"", b" ", b"ADDR", b"ADDR=", b"=x", b"FOO=1", b"\xc3\xa9=1", b"ADDR=192.0.2.1\xff"),
    *(b"ADDR=192.0.2.1 addr=192.0.2.2", b"ADDR=192.0.2.1\tPORT=1"),
    *(b"ADDR=192.0.2", b"ADDR=192.0.2.01", b"ADDR=::1", b"ADDR=IPV6:192.0.2.1", b"ADDR=IPV6:fe80::1%eth0"),
    *(b"ADDR=[TEMPUNAVAIL]", b"ADDR=unix", b"ADDR=[192.0.2.1]"),
    *(b"PORT=x", b"PORT=-1", b"PORT=65536", b"PORT=000001", b"PORT=+2B1"),
    *(b"NAME=a+20b", b"NAME=-a", b"NAME=192.0.2.1", b"NAME=a..b", b"NAME=[TEMPFAIL]"),
    *(b"PROTO=HTTP", b"PROTO=a-b", b"PROTO=SMTP+20X"),
    *(b"HELO=a+0Ab", b"HELO=a+00", b"HELO=+", b"HELO=+GG", b"HELO=" + b"x" * 256, b"HELO=\x00", b"HELO=a\r"),
]


def test_names_are_those_of_the_protocols() -> None:
    assert XCLIENT_ATTRIBUTES == ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
    assert XFORWARD_ATTRIBUTES == ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")


@pytest.mark.parametrize(("argument", "expected"), XCLIENT)
def test_xclient(argument: bytes, expected: dict[str, str]) -> None:
    assert parse_xclient(argument) == expected
    (line,) = encode_attributes("XCLIENT", expected)
    assert parse_xclient(line.removeprefix("XCLIENT ").encode()) == expected


@pytest.mark.parametrize(("argument", "expected"), XFORWARD)
def test_xforward(argument: bytes, expected: dict[str, str] | None) -> None:
    if expected is None:
        expected = dict(word.split("=") for word in argument.decode().split())
        assert encode_attributes("XFORWARD", expected) == ["XFORWARD " + argument.decode()]
    assert parse_xforward(argument) == expected


@pytest.mark.parametrize("argument", BAD)
def test_bad_attributes(argument: bytes) -> None:
    for parse in (parse_xclient, parse_xforward):
        if parse is parse_xforward and argument == b"PROTO=HTTP":
            continue
        with pytest.raises(SyntaxProblem) as caught:
            parse(argument)
        assert (caught.value.reply.code, caught.value.reply.enhanced) == (501, "5.5.4")


def test_each_command_has_its_own_names() -> None:
    for argument, parse in (
        (b"LOGIN=x", parse_xforward),
        (b"DESTADDR=::1", parse_xforward),
        (b"IDENT=x", parse_xclient),
        (b"SOURCE=LOCAL", parse_xclient),
    ):
        with pytest.raises(SyntaxProblem, match="attribute name"):
            parse(argument)


def test_what_cannot_be_sent_is_unavailable() -> None:
    assert encode_attributes("XFORWARD", {"HELO": "ö" * 60, "IDENT": ""}) == [
        "XFORWARD HELO=[UNAVAILABLE] IDENT=[UNAVAILABLE]"
    ]
    assert encode_attributes("XFORWARD", {}) == []


@settings(max_examples=80)
@given(
    st.dictionaries(
        st.sampled_from(["HELO", "IDENT"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=80),
    ),
    st.ip_addresses(),
)
def test_round_trip_over_several_lines(texts: dict[str, str], address: object) -> None:
    attributes = {"ADDR": str(address), **texts}
    if getattr(address, "ipv4_mapped", None) is not None:
        return
    lines = encode_attributes("XFORWARD", attributes)
    again: dict[str, str] = {}
    for line in lines:
        assert len(line) <= MAX_COMMAND
        again |= parse_xforward(line.removeprefix("XFORWARD ").encode())
    for name, value in attributes.items():
        assert again[name] == (UNAVAILABLE if value.upper() == UNAVAILABLE else value)


@pytest.mark.parametrize(
    ("argument", "helo", "esmtp"),
    [
        (b"ADDR=192.0.2.1", "", False),
        (b"HELO=spike.test", "spike.test", False),
        (b"PROTO=ESMTP HELO=spike.test", "spike.test", True),
        (b"PROTO=smtp HELO=spike.test", "spike.test", False),
        (b"PROTO=ESMTP HELO=[UNAVAILABLE]", "", True),
    ],
)
def test_what_xclient_says_of_the_introduction(argument: bytes, helo: str, esmtp: bool) -> None:
    """As in Postfix it is kept when it is said, and what the peer said for itself is not."""
    session = Session("id", "mx", "smtp", "127.0.0.1", helo="filter.test", esmtp=True)
    become(session, parse_xclient(argument))
    assert (session.helo, session.esmtp) == (helo, esmtp)


@pytest.mark.parametrize(
    ("argument", "client", "server"),
    [
        (b"ADDR=192.0.2.1 PORT=4711", ("192.0.2.1", 4711), ("127.0.0.1", 25)),
        (b"ADDR=192.0.2.1", ("192.0.2.1", 0), ("127.0.0.1", 25)),
        (b"ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE]", ("unknown", 0), ("127.0.0.1", 25)),
        (b"PORT=[UNAVAILABLE]", ("127.0.0.1", 0), ("127.0.0.1", 25)),
        (b"NAME=a.test", ("127.0.0.1", 1), ("127.0.0.1", 25)),
        (b"DESTADDR=192.0.2.9 DESTPORT=587", ("127.0.0.1", 1), ("192.0.2.9", 587)),
        (b"DESTADDR=192.0.2.9", ("127.0.0.1", 1), ("192.0.2.9", 0)),
        (b"DESTADDR=[UNAVAILABLE] DESTPORT=[UNAVAILABLE]", ("127.0.0.1", 1), ("", 0)),
    ],
)
def test_what_the_peer_does_not_know_is_not_left_as_it_was(
    argument: bytes, client: tuple[str, int], server: tuple[str, int]
) -> None:
    """Whoever is trusted by address would trust the client as it trusts the peer."""
    session = Session("id", "mx", "smtp", "127.0.0.1", 1, "127.0.0.1", 25)
    become(session, parse_xclient(argument))
    assert (session.client_address, session.client_port) == client
    assert (session.server_address, session.server_port) == server
    assert session.client_ip == ("" if client[0] == "unknown" else client[0])
