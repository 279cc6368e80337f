"""The lines of the Dovecot auth protocol."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.accounts.dovecotprotocol import (
    MAX_BUFFER,
    MAX_LINE,
    Answer,
    DovecotProtocolError,
    Reader,
    auth_line,
    cancel_line,
    cont_line,
    escape,
    greeting,
    unescape,
)

HANDSHAKE = (  # of Dovecot 2.3.19
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\n"
    b"MECH\tANONYMOUS\tanonymous\nSPID\t10122\nCUID\t1\nCOOKIE\tbfc37270292f68f3a139db7c8ebd1975\nDONE\n"
)


def test_handshake() -> None:
    for size in (1, 7, len(HANDSHAKE)):
        reader = Reader()
        for at in range(0, len(HANDSHAKE), size):
            assert not reader.handshake.done
            assert reader.feed(HANDSHAKE[at : at + size]) == []
        assert reader.handshake.done
        assert reader.handshake.version == (1, 2)
        assert reader.handshake.process == "10122"
        assert reader.handshake.mechanisms["PLAIN"] == {"plaintext"}
        assert list(reader.handshake.mechanisms) == ["PLAIN", "LOGIN", "SCRAM-SHA-256", "ANONYMOUS"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"OK\t1\tuser=alice@example.test", Answer("OK", 1, {"user": "alice@example.test"})),
        (b"OK\t4294967295", Answer("OK", 4294967295, {})),
        (b"OK\t1\tnologin\treason=a\x01tb\x011", Answer("OK", 1, {"nologin": "", "reason": "a\tb\x01"})),
        (b"FAIL\t3\tuser=x\ttemp", Answer("FAIL", 3, {"user": "x", "temp": ""})),
        (b"FAIL\t3\tcode=temp_fail", Answer("FAIL", 3, {"code": "temp_fail"})),
        (b"CONT\t2\tVXNlcm5hbWU6", Answer("CONT", 2, {}, b"Username:")),
        (b"CONT\t2\t", Answer("CONT", 2, {}, b"")),
        (b"CONT\t2", Answer("CONT", 2, {}, b"")),
    ],
)
def test_answers(line: bytes, answer: Answer) -> None:
    reader = Reader()
    reader.feed(HANDSHAKE)
    assert reader.feed(line) == []
    assert reader.feed(b"\n" + line + b"\n") == [answer, answer]


def test_unknown_commands_are_ignored_after_the_version() -> None:
    reader = Reader()
    reader.feed(b"VERSION\t1\t9\nNEWS\tx\n")
    reader.feed(HANDSHAKE)
    assert reader.feed(b"NEWS\n\n") == []


@pytest.mark.parametrize(
    "data",
    [
        b"220 mail.example.org ESMTP\r\n",
        b"VERSION\t2\t0\n",
        b"VERSION\n",
        b"VERSION\t1\tx\n",
        b"DONE\n",
        b"OK\n",
        b"OK\tx\n",
        b"OK\t\xc2\xb2\n",
        b"FAIL\t99999999999\n",
        b"CONT\t1\t!\n",
        b"CONT\t1\t\xff\n",
        b"x" * (MAX_BUFFER + 1),
    ],
)
def test_what_is_not_the_protocol(data: bytes) -> None:
    with pytest.raises(DovecotProtocolError):
        Reader().feed(data)


def test_requests() -> None:
    fields = ["service=smtp", "nologin", "local_name=a\tb\n"]
    line = b"AUTH\t7\tPLAIN\tservice=smtp\tnologin\tlocal_name=a\x01tb\x01n"
    assert auth_line(7, "PLAIN", fields, None) == line + b"\n"
    assert auth_line(7, "PLAIN", fields, b"") == line + b"\tresp=\n"
    assert auth_line(7, "PLAIN", fields, b"\0a\0b") == line + b"\tresp=" + b64encode(b"\0a\0b") + b"\n"
    assert cont_line(7, b"") == b"CONT\t7\t\n"
    assert cancel_line(7) == b"CANCEL\t7\n"
    assert greeting(42) == b"VERSION\t1\t2\nCPID\t42\n"
    with pytest.raises(ValueError, match="longer than a line"):
        cont_line(1, bytes(MAX_LINE))
    with pytest.raises(ValueError, match="longer than a line"):
        auth_line(1, "PLAIN", [], bytes(MAX_LINE))


@given(st.text())
def test_escaping(text: str) -> None:
    escaped = escape(text)
    assert not set(escaped) & set("\t\n\r\0")
    assert unescape(escaped) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a\x01nb", "a\nb"),
        ("\x01\x01n", "\x01n"),
        ("\x011n", "\x01n"),
        ("\x0101", "\x001"),
        ("\x01x", "x"),
        ("a\x01", "a"),
    ],
)
def test_unescape(text: str, plain: str) -> None:
    assert unescape(text) == plain


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_no_octets_make_the_reader_raise_anything_else(chunks: list[bytes]) -> None:
    reader = Reader()
    reader.feed(b"VERSION\t1\t2\n")
    for chunk in chunks:
        try:
            reader.feed(chunk)
        except DovecotProtocolError:
            return
