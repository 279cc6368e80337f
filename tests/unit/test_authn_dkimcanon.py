"""Canonical forms of header and body: tables, any division into pieces, and dkimpy as oracle."""

from __future__ import annotations

from itertools import pairwise

import dkim  # type: ignore[import-untyped]
import dkim.canonicalization  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.authn.dkimcanon import BLOCK, RelaxedBody, SimpleBody, relaxed_field, simple_field
from sieve_ext.message import HeaderIndex
from sieve_ext.message.header import Header

KINDS = {SimpleBody: dkim.canonicalization.Simple, RelaxedBody: dkim.canonicalization.Relaxed}


def canonical(kind: type[SimpleBody], *pieces: bytes) -> bytes:
    found: list[bytes] = []
    body = kind(found.append)
    for piece in pieces:
        body.update(piece)
    body.finish()
    octets = b"".join(found)
    assert body.size == len(octets)
    return octets


BODIES: list[tuple[bytes, bytes, bytes]] = [
    # body, simple, relaxed
    (b"", b"\r\n", b""),
    (b"\r\n", b"\r\n", b""),
    (b"\r\n\r\n\r\n", b"\r\n", b""),
    (b" \r\n\t\r\n", b" \r\n\t\r\n", b""),
    (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),  # RFC 6376 section 3.4.5
    (b"x", b"x\r\n", b"x\r\n"),
    (b"x\r\n \t", b"x\r\n \t\r\n", b"x\r\n"),
    (b"\r\n\r\nx\r\n", b"\r\n\r\nx\r\n", b"\r\n\r\nx\r\n"),
    (b"x\r", b"x\r\r\n", b"x\r\r\n"),
    (b"x \r", b"x \r\r\n", b"x \r\r\n"),
    (b"x\n\r\n\r\n", b"x\n\r\n", b"x\n\r\n"),
    (b"x\r\r\n\r\n", b"x\r\r\n", b"x\r\r\n"),
    (b"x\r\r", b"x\r\r\r\n", b"x\r\r\r\n"),
    (b"\r\n\r", b"\r\n\r\r\n", b"\r\n\r\r\n"),
    (b"x\r\n\n", b"x\r\n\n\r\n", b"x\r\n\n\r\n"),
]


@pytest.mark.parametrize(("body", "simple", "relaxed"), BODIES)
def test_bodies(body: bytes, simple: bytes, relaxed: bytes) -> None:
    for kind, wanted in ((SimpleBody, simple), (RelaxedBody, relaxed)):
        assert canonical(kind, body) == wanted
        assert canonical(kind, *(body[place : place + 1] for place in range(len(body)))) == wanted
        assert canonical(kind, b"", body, b"") == wanted


text = st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b"\r", b"\n", b"\xff"]), max_size=40)


@given(text, st.lists(st.integers(0, 40), max_size=6), st.sampled_from(list(KINDS)))
def test_pieces_make_no_difference(parts: list[bytes], cuts: list[int], kind: type[SimpleBody]) -> None:
    body = b"".join(parts)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[start:end] for start, end in pairwise(places)]
    assert canonical(kind, *pieces) == canonical(kind, body)


@given(
    st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b"\xff"]), max_size=40),
    st.sampled_from(list(KINDS)),
)
def test_like_dkimpy(parts: list[bytes], kind: type[SimpleBody]) -> None:
    body = b"".join((*parts, b"\r\n"))
    assert canonical(kind, body) == KINDS[kind].canonicalize_body(body)


def test_like_dkimpy_across_blocks() -> None:
    body = (b"some text \t with  blanks \r\n" * 9000)[: 3 * BLOCK + 5] + b" \r\n\r\n\r\n"
    for kind, theirs in KINDS.items():
        assert canonical(kind, body) == theirs.canonicalize_body(body)


FIELDS: list[tuple[bytes, bytes, bytes]] = [
    (b"A: X", b"A: X\r\n", b"a:X\r\n"),
    (b"B : Y\t\r\n\tZ  ", b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),  # RFC 6376 section 3.4.5
    (b"Subject:", b"Subject:\r\n", b"subject:\r\n"),
    (b"Subject: \r\n \r\n x", b"Subject: \r\n \r\n x\r\n", b"subject:x\r\n"),
    (b"Subject:a:b", b"Subject:a:b\r\n", b"subject:a:b\r\n"),
    (b"Subject: \xc3\xbc", b"Subject: \xc3\xbc\r\n", b"subject:\xc3\xbc\r\n"),
]


@pytest.mark.parametrize(("raw", "simple", "relaxed"), FIELDS)
def test_fields(raw: bytes, simple: bytes, relaxed: bytes) -> None:
    (field,) = Header(HeaderIndex(raw + b"\r\n\r\n")).fields
    assert simple_field(field) == simple
    assert relaxed_field(field) == relaxed


@given(st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n ", b":", b"\xff"]), max_size=30))
def test_fields_like_dkimpy(parts: list[bytes]) -> None:
    value = b"".join(parts)
    (field,) = Header(HeaderIndex(b"Name:" + value + b"\r\n\r\n")).fields
    ((name, theirs),) = dkim.canonicalization.Relaxed.canonicalize_headers([(b"Name", value + b"\r\n")])
    assert relaxed_field(field) == name + b":" + theirs
