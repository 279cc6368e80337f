"""DataDecoder and TextCheck: every case is fed whole, octet by octet and cut at each place."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.wire import DataDecoder, Defect, TextCheck
from tests.fuzz import fuzz_wire

CASES = [
    # (octets after DATA, decoded, rest, defect)
    (b".\r\n", b"", b"", None),
    (b"\r\n.\r\n", b"\r\n", b"", None),
    (b"a\r\n.\r\n", b"a\r\n", b"", None),
    (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n", None),
    (b"..a\r\n.\r\n", b".a\r\n", b"", None),
    (b"...\r\n.\r\n", b"..\r\n", b"", None),
    (b".a\r\n.\r\n", b"a\r\n", b"", None),
    (b"a\r\n..\r\n..b\r\n.\r\n", b"a\r\n.\r\n.b\r\n", b"", None),
    (b"a\r\n.b\r\n.\r\nX", b"a\r\nb\r\n", b"X", None),
    (b"a.\r\n.\r\n", b"a.\r\n", b"", None),
    # Smuggling: everything but CRLF . CRLF is content, and bad content.
    (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n", b"", Defect.BARE_LINE_END),
    (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n", b"", Defect.BARE_LINE_END),
    (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n", b"", Defect.BARE_LINE_END),
    (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n", b"", Defect.BARE_LINE_END),
    (b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n", b"", Defect.BARE_LINE_END),
    (b"a\r.\r\nb\r\n.\r\n", b"a\r.\r\nb\r\n", b"", Defect.BARE_LINE_END),
    (b"a\r\r\n.\r\n", b"a\r\r\n", b"", Defect.BARE_LINE_END),
    (b"a\r\n.\r\r\n.\r\n", b"a\r\n\r\r\n", b"", Defect.BARE_LINE_END),
    (b"a\r\n\x00.\r\nb\r\n.\r\n", b"a\r\n\x00.\r\nb\r\n", b"", Defect.NUL),
    (b"a\r\n.\x00\r\nb\r\n.\r\n", b"a\r\n\x00\r\nb\r\n", b"", Defect.NUL),
    (b"a\r\x00\n.\r\n.\r\n", b"a\r\x00\n.\r\n", b"", Defect.NUL),
    (b"\n.\r\n\r\n.\r\n", b"\n.\r\n\r\n", b"", Defect.BARE_LINE_END),
    (b"\r.\r\n\r\n.\r\n", b"\r.\r\n\r\n", b"", Defect.BARE_LINE_END),
]


def decode(pieces: list[bytes], *, normalise: bool = False) -> tuple[bytes, bytes, Defect | None, bool]:
    decoder = DataDecoder(TextCheck(normalise=normalise))
    out = b""
    for index, piece in enumerate(pieces):
        out += decoder.feed(piece)
        if decoder.done:
            return out, decoder.rest + b"".join(pieces[index + 1 :]), decoder.text.defect, True
    return out, b"", decoder.text.defect, False


@pytest.mark.parametrize(("octets", "decoded", "rest", "defect"), CASES)
def test_each_case_however_it_is_cut(
    octets: bytes, decoded: bytes, rest: bytes, defect: Defect | None
) -> None:
    expected = (decoded, rest, defect, True)
    assert decode([octets]) == expected
    assert decode([octets[i : i + 1] for i in range(len(octets))]) == expected
    for cut in range(1, len(octets)):
        assert decode([octets[:cut], octets[cut:]]) == expected


@pytest.mark.parametrize(
    "octets", [b"a\r\n.", b"a\r\n", b"a", b"", b"a\r\n.\r", b"a\n.\n", b"\r.\r", b".\n", b".\r\x00\n"]
)
def test_no_end_of_data(octets: bytes) -> None:
    assert decode([octets])[3] is False


@pytest.mark.parametrize(
    ("octets", "decoded"),
    [
        (b"a\nb\rc\r\nd\r\n.\r\n", b"a\r\nb\r\nc\r\nd\r\n"),
        (b"a\r\r\nb\r\n.\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\n\r\n.\r\n", b"a\r\n\r\n"),
    ],
)
def test_normalised_line_ends(octets: bytes, decoded: bytes) -> None:
    for pieces in ([octets], [octets[i : i + 1] for i in range(len(octets))]):
        assert decode(pieces, normalise=True) == (decoded, b"", None, True)


@pytest.mark.parametrize(
    ("octets", "decoded", "defect"),
    [
        (b"a\0b\r\n.\r\n", b"ab\r\n", None),
        (b"a\r\n\0.\r\n.\r\n", b"a\r\n.\r\n", None),
        (b"a\r\0\n\r\n.\r\n", b"a\r\n\r\n", Defect.BARE_LINE_END),
    ],
)
def test_stripped_nul_ends_nothing(octets: bytes, decoded: bytes, defect: Defect | None) -> None:
    for pieces in ([octets], [octets[i : i + 1] for i in range(len(octets))]):
        decoder = DataDecoder(TextCheck(strip_nul=True))
        out = b"".join(decoder.feed(piece) for piece in pieces)
        assert (out, decoder.text.defect, decoder.done) == (decoded, defect, True)


ALPHABET = st.sampled_from([b"\r", b"\n", b".", b"a", b"\x00", b"\r\n", b"\r\n.", b"\r\n.\r\n"])


@given(st.lists(ALPHABET, max_size=30), st.data())
def test_cuts_never_matter(parts: list[bytes], data: st.DataObject) -> None:
    octets = b"".join(parts)
    whole = decode([octets])
    cuts = sorted(data.draw(st.sets(st.integers(0, len(octets)), max_size=6)))
    edges = [0, *cuts, len(octets)]
    pieces = [octets[a:b] for a, b in itertools.pairwise(edges)]
    assert decode(pieces) == whole


@given(st.lists(ALPHABET, max_size=30), st.integers(1, 40))
def test_what_is_called_plain_needs_no_stuffing(parts: list[bytes], step: int) -> None:
    octets = b"".join(parts)
    decoder = DataDecoder(TextCheck())
    out = b""
    for start in range(0, len(octets), step):
        out += decoder.feed(octets[start : start + step])
        if decoder.done:
            break
    if decoder.plain:
        assert not (b"\r\n" + out).count(b"\n.")
        assert out.count(b"\r\n") == out.count(b"\r") == out.count(b"\n")
        assert b"\0" not in out


def test_an_ordinary_message_is_plain_however_it_is_cut() -> None:
    octets = b"Subject: x\r\n\r\nhello.\r\n.\r\n"
    for step in (1, 2, 3, 7, 100):
        decoder = DataDecoder(TextCheck())
        for start in range(0, len(octets), step):
            decoder.feed(octets[start : start + step])
        assert decoder.done
        assert decoder.plain


@given(st.lists(ALPHABET, max_size=30))
def test_end_is_exactly_the_first_crlf_dot_crlf(parts: list[bytes]) -> None:
    octets = b"".join(parts)
    position = (b"\r\n" + octets).find(b"\r\n.\r\n")
    _, rest, _, done = decode([octets])
    assert done is (position >= 0)
    if done:
        assert rest == octets[position + 3 :]


@given(st.lists(ALPHABET, max_size=30))
def test_normalised_output_has_only_crlf(parts: list[bytes]) -> None:
    octets = b"".join(parts) + b"\r\n.\r\n"
    out = decode([octets], normalise=True)[0]
    assert out.count(b"\r\n") == out.count(b"\r") == out.count(b"\n")


@pytest.mark.parametrize(
    ("pieces", "defect"),
    [
        ([b"a\r", b"\nb"], None),
        ([b"a\r", b"b"], Defect.BARE_LINE_END),
        ([b"a\r"], Defect.BARE_LINE_END),
        ([b"a", b"\nb"], Defect.BARE_LINE_END),
        ([b"a\x00"], Defect.NUL),
        ([b"a\r\n", b"\r\n"], None),
    ],
)
def test_text_in_chunks(pieces: list[bytes], defect: Defect | None) -> None:
    text = TextCheck()
    out = b"".join(text.feed(piece) for piece in pieces) + text.finish()
    assert out == b"".join(pieces)
    assert text.defect is defect


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=20))
def test_the_invariant_of_the_fuzzer(way: bytes, octets: bytes) -> None:
    fuzz_wire.check(way + octets)
    fuzz_wire.check(bytes((way[0] | 4,)) + way[1:] + octets)
