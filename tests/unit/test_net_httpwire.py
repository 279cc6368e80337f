"""Responses of HTTP/1.1, whole and octet by octet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.net.httpwire import FIELDS_MOST, MAX_HEAD, HttpError, Incomplete, Response, ResponseReader, TooLong

LIMIT = 100
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(octets: bytes, *, step: int = 0, end: bool = False) -> Response | None:
    """What is read of pieces of `step` octets."""
    reader = ResponseReader(LIMIT)
    for start in range(0, len(octets), step or len(octets) or 1):
        reader.feed(octets[start : start + step] if step else octets)
    if end:
        reader.end()
    return reader.response


@pytest.mark.parametrize(
    ("octets", "status", "body"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", 200, b"abc"),
        (OK + b"Content-Length: 0\r\n\r\n", 200, b""),
        (OK + b"content-length:3\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
        (b"HTTP/1.0 200\nContent-Length: 3\n\nabc", 200, b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx", 200, b"x"),
        (CHUNKED + b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", 200, b"abc0123456789"),
        (OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200, b"x"),
    ],
)
@pytest.mark.parametrize("step", [0, 1, 7])
def test_responses(octets: bytes, status: int, body: bytes, step: int) -> None:
    found = read(octets, step=step)
    assert found is not None
    assert (found.status, found.body) == (status, body)
    assert read(octets[:-1], step=step) is None
    with pytest.raises(Incomplete):
        read(octets[:-1], step=step, end=True)


def test_content_up_to_the_end() -> None:
    assert read(OK + b"\r\nabc") is None
    found = read(OK + b"Content-Type: Text/Plain; charset=utf-8\r\n\r\nabc", end=True)
    assert found is not None
    assert (found.body, found.media_type) == (b"abc", "text/plain")


def test_what_comes_behind_is_not_lost_from_sight() -> None:
    reader = ResponseReader(LIMIT)
    reader.feed(OK + b"Content-Length: 1\r\n\r\nx")
    assert reader.rest == b""
    reader.feed(b"HTTP")
    assert reader.rest == b"HTTP"


@pytest.mark.parametrize(
    "octets",
    [
        b"220 mx.test ESMTP\r\n", b"HTTP/2 200\r\n", b"HTTP/1.1 20\r\n", b"HTTP/1.1 2000 x\r\n", b"\r\n",
        b"HTTP/1.1 099 x\r\n", OK + b"x\r\n", OK + b"a : b\r\n", OK + b": b\r\n", OK + b" folded: x\r\n",
        OK + b"Content-Length: -1\r\n\r\n", OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        OK + b"Content-Length: \xb2\r\n\r\n", OK + b"Content-Length: 1000000000000\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", CHUNKED + b"zz\r\n", CHUNKED + b"\r\n",
        CHUNKED + b"-1\r\n", CHUNKED + b"0x1\r\n", CHUNKED + b"1_1\r\n", CHUNKED + b"1\r\nab\r\n",
        b"x" * (MAX_HEAD + 1), OK + b"a: b\r\n" * (FIELDS_MOST + 1), OK + b"a: " + b"b" * MAX_HEAD + b"\r\n",
        b"HTTP/1.1 100 x\r\n\r\n" * MAX_HEAD,
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_no_response(octets: bytes, step: int) -> None:
    with pytest.raises(HttpError):
        read(octets, step=step)


@pytest.mark.parametrize(
    "octets",
    [
        OK + b"Content-Length: 101\r\n\r\n", CHUNKED + b"65\r\n", CHUNKED + b"1\r\nx\r\n" * 101,
        OK + b"\r\n" + b"x" * 101,
    ],
)  # fmt: skip
def test_more_than_was_bargained_for(octets: bytes) -> None:
    with pytest.raises(TooLong):
        read(octets, end=True)


@given(
    st.lists(st.sampled_from([OK, CHUNKED, b"Content-Length: 5\r\n", b"\r\n", b"5\r\nhello\r\n", b"0\r\n"]))
)
def test_pieces_make_no_difference(parts: list[bytes]) -> None:
    octets = b"".join(parts)
    found: list[Response | str | None] = []
    for step in (0, 1, 3):
        try:
            found.append(read(octets, step=step, end=True))
        except HttpError as error:
            found.append(type(error).__name__)
    assert found[0] == found[1] == found[2]
