"""Dot-stuffing: tables, and the promise that a decoder gets back what was stuffed, however it was cut."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtp.dotstuff import BareLineEnd, DotStuffer, LineEnds, PlainText, plain_whole, stuff_whole
from mta.smtp.wire import DataDecoder, TextCheck


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def stuff(data: bytes, size: int) -> bytes:
    stuffer = DotStuffer()
    return b"".join(stuffer.stuff(piece) for piece in pieces(data, size)) + stuffer.finish()


def check(data: bytes, size: int) -> None:
    ends = LineEnds()
    for piece in pieces(data, size):
        ends.check(piece)
    ends.end()


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n", b"...\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.b", b"a\r\n..b\r\n.\r\n"),
        (b"a.\r\nb.c\r\n", b"a.\r\nb.c\r\n.\r\n"),
        (b"\r\n\r\n.\r\n.", b"\r\n\r\n..\r\n..\r\n.\r\n"),
        (b"\xff\0\r\n", b"\xff\0\r\n.\r\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_table(content: bytes, wire: bytes, size: int) -> None:
    assert stuff(content, size) == wire


@pytest.mark.parametrize(
    "content",
    [
        b"a\nb\r\n",
        b"a\rb\r\n",
        b"a\r\r\n",
        b"a\r\n\n",
        b"\n",
        b"a\r\n\r",
        b"a\r\n.\n",
        b"a\n.\r\n",
        b"a\r.\r\n",
        b"\rx\ny",
        b"a\n\rb",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_bare_line_ends_are_never_sent(content: bytes, size: int) -> None:
    with pytest.raises(BareLineEnd):
        stuff(content, size)
    with pytest.raises(BareLineEnd):
        check(content, size)


def test_no_copy_when_nothing_is_to_do() -> None:
    chunk = b"Subject: x\r\n\r\n" + b"line with a dot. And another.\r\n" * 100
    assert DotStuffer().stuff(chunk) is chunk


def test_linear() -> None:
    def cost(size: int) -> float:
        content = b".\r\n" * (size // 3)
        best = 1e9
        for _ in range(3):
            start = time.perf_counter()
            stuff_whole(content)
            best = min(best, time.perf_counter() - start)
        return best

    # 30 times the octets: about 30 times the time (900 if it were quadratic).
    assert cost(3_000_000) < 300 * cost(100_000)


_TEXT = st.lists(
    st.sampled_from([b".", b"..", b"\r\n", b"\r\n.", b"a", b"\r\n.\r\n", b"\xe4", b" "]), max_size=30
).map(b"".join)


@given(content=_TEXT, size=st.integers(1, 7), read=st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_a_decoder_gets_it_back(content: bytes, size: int, read: int) -> None:
    decoder = DataDecoder(TextCheck())
    wire = stuff(content, size) + b"QUIT\r\n"
    decoded = b""
    rest = b""
    for piece in pieces(wire, read):
        if decoder.done:
            rest += piece
            continue
        decoded += decoder.feed(piece)
        rest = decoder.rest
    assert decoder.done
    assert decoder.text.defect is None
    assert rest == b"QUIT\r\n"
    assert decoded == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")


@given(content=st.lists(st.sampled_from([b".", b"\r", b"\n", b"a"]), max_size=24).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_what_is_sent_has_no_bare_line_end(content: bytes) -> None:
    try:
        wire = stuff_whole(content)
    except BareLineEnd:
        assert content.replace(b"\r\n", b"").strip(b".a") != b""
        return
    assert b"\r" not in wire.replace(b"\r\n", b"")
    assert b"\n" not in wire.replace(b"\r\n", b"")
    assert wire.find(b"\r\n.\r\n") in (-1, len(wire) - 5)


@given(st.lists(st.sampled_from([b"a", b"\r\n", b"a.b", b"line\r\n"]), max_size=12))
def test_plain_text_is_sent_as_the_stuffer_would(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    plain, stuffer = PlainText(), DotStuffer()
    sent = b"".join(plain.stuff(piece) for piece in pieces) + plain.finish()
    assert sent == b"".join(stuffer.stuff(piece) for piece in pieces) + stuffer.finish()
    assert sent == plain_whole(content) == stuff_whole(content)
