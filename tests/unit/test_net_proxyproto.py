"""PROXY headers: every piece size, every truncation, hostile lengths and lies."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.net.proxyproto import (
    MAX_HEADER,
    MAX_V1,
    ProxyError,
    ProxyHeader,
    ProxyParser,
    ProxyTls,
    crc32c,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, family: int, body: bytes, *, version: int = 2, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack("!H", size) + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack("!H", len(value)) + value


INET = bytes([192, 0, 2, 7, 198, 51, 100, 25]) + struct.pack("!HH", 40000, 25)
INET6 = bytes.fromhex("20010db800000000000000000000000720010db8000000000000000000000019") + struct.pack(
    "!HH", 40000, 465
)
MAPPED = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 7]) + bytes(10) + b"\xff\xff" + bytes([198, 51, 100, 25])
SSL = tlv(0x20, b"\x07" + bytes(4) + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"alice") + tlv(0x23, b"AES"))
CLIENT4 = ("192.0.2.7", 40000, "198.51.100.25", 25)
CLIENT6 = ("2001:db8::7", 40000, "2001:db8::19", 465)

GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25\r\n", ProxyHeader(1, *CLIENT4)),
    (b"PROXY TCP6 2001:DB8:0::7 2001:db8::19 40000 465\r\n", ProxyHeader(1, *CLIENT6)),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.25 40000 25\r\n", ProxyHeader(1, *CLIENT4)),
    (
        b"PROXY TCP4 192.0.2.7 198.51.100.25 0 65535\r\n",
        ProxyHeader(1, "192.0.2.7", 0, "198.51.100.25", 65535),
    ),
    (b"PROXY UNKNOWN\r\n", ProxyHeader(1)),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", ProxyHeader(1)),
    (v2(1, 0x11, INET), ProxyHeader(2, *CLIENT4)),
    (v2(1, 0x21, INET6), ProxyHeader(2, *CLIENT6)),
    (v2(1, 0x21, MAPPED + struct.pack("!HH", 40000, 25)), ProxyHeader(2, *CLIENT4)),
    (v2(0, 0x00, b""), ProxyHeader(2, local=True)),
    (v2(0, 0x11, INET), ProxyHeader(2, local=True)),
    (v2(0, 0x11, b"garbage is ignored for LOCAL"), ProxyHeader(2, local=True)),
    (v2(0, 0x11, b""), ProxyHeader(2, local=True)),
    (v2(0, 0x21, b"short"), ProxyHeader(2, local=True)),
    (v2(0, 0xFF, b"and so is its family"), ProxyHeader(2, local=True)),
    (v2(1, 0x00, b""), ProxyHeader(2)),
    (v2(1, 0x00, b"whatever"), ProxyHeader(2)),
    (v2(1, 0x31, bytes(216)), ProxyHeader(2)),
    (v2(1, 0x11, INET + tlv(0x04, bytes(50))), ProxyHeader(2, *CLIENT4)),
    (
        v2(1, 0x11, INET + tlv(0x02, b"mx.example.org") + tlv(0x01, b"smtp") + tlv(0x05, b"\x00id")),
        ProxyHeader(2, *CLIENT4, authority="mx.example.org"),
    ),
    (
        v2(1, 0x21, INET6 + SSL),
        ProxyHeader(2, *CLIENT6, tls=ProxyTls("TLSv1.3", "AES")),
    ),
    (
        v2(1, 0x11, INET + tlv(0x20, b"\x03\x00\x00\x00\x01" + tlv(0x21, b"TLSv1.2"))),
        ProxyHeader(2, *CLIENT4, tls=ProxyTls("TLSv1.2", "")),
    ),
    (v2(1, 0x11, INET + tlv(0x20, bytes(5))), ProxyHeader(2, *CLIENT4)),
]


def with_checksum(header: bytes) -> bytes:
    """The header (without TLVs) with a CRC32C vector that is right."""
    body = header[16:] + tlv(0x03, bytes(4))
    raw = header[:14] + struct.pack("!H", len(body)) + body
    return raw[:-4] + crc32c(raw).to_bytes(4, "big")


BAD = [
    b"EHLO client.example.org\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY  TCP4 192.0.2.7 198.51.100.25 40000 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25 \r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25 1\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 40000\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 65536 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 -1 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 040000 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 4_0 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25\r\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25\xa0\r\n",
    b"PROXY TCP4 192.0.2.007 198.51.100.25 40000 25\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.25 40000 25\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::19 40000 25\r\n",
    b"PROXY TCP6 192.0.2.7 198.51.100.25 40000 25\r\n",
    b"PROXY TCP6 fe80::1%eth0 fe80::2 40000 25\r\n",
    b"PROXY TCP5 192.0.2.7 198.51.100.25 40000 25\r\n",
    b"PROXY TCPX4 192.0.2.7 198.51.100.25 40000 25\r\n",
    b"PROXY UDP4 192.0.2.7 198.51.100.25 40000 25\r\n",
    b"PROXY tcp4 192.0.2.7 198.51.100.25 40000 25\r\n",
    b"PROXY UNKNOWN " + b"x" * MAX_V1 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * 10000,
    b"\r\n\r\n\x00\r\nQUIT\r" + bytes(4),
    v2(1, 0x11, INET, version=1),
    v2(1, 0x11, INET, version=3),
    v2(2, 0x11, INET),
    v2(1, 0x41, INET),
    v2(1, 0x13, INET),
    v2(1, 0x12, INET),
    v2(1, 0x22, INET6),
    v2(1, 0x11, INET[:-1]),
    v2(1, 0x11, b""),
    v2(1, 0x21, INET),
    v2(1, 0x31, bytes(215)),
    v2(1, 0x11, INET + b"\x02"),
    v2(1, 0x11, INET + b"\x02\x00\x05abc"),
    v2(1, 0x11, INET + tlv(0x20, b"")),
    v2(1, 0x11, INET + tlv(0x20, b"\x07\x00")),
    v2(1, 0x11, INET + tlv(0x20, bytes(5) + tlv(0x20, bytes(5)))),
    v2(1, 0x11, INET + tlv(0x20, b"\x01" + bytes(4) + b"\x21\x00\x09TLS")),
    v2(1, 0x11, INET + tlv(0x03, bytes(4))),
    v2(1, 0x11, INET + tlv(0x03, b"")),
    v2(1, 0x11, b"", length=65535),
    v2(0, 0x00, b"", length=MAX_HEADER - 15),
    v2(1, 0x11, b"", length=MAX_HEADER - 15),
]


def read(octets: bytes, piece: int) -> ProxyHeader | None:
    parser = ProxyParser()
    for start in range(0, len(octets), piece):
        parser.feed(octets[start : start + piece])
    return parser.header


def test_crc32c_has_the_check_value_of_its_catalogue_entry() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(("octets", "expected"), GOOD)
def test_a_header_is_read_in_pieces_of_any_size_and_not_one_octet_more(
    octets: bytes, expected: ProxyHeader
) -> None:
    for piece in (1, 2, 3, 7, 16, len(octets), len(octets) + 9):
        stream = octets + b"EHLO x\r\n\x16\x03\x01"
        parser = ProxyParser()
        taken = 0
        while parser.header is None:
            part = stream[taken : taken + piece]
            assert part, "the parser wants more than the header"
            taken += parser.feed(part)
        assert taken == len(octets)
        assert parser.header == expected
        assert parser.feed(b"more") == 0


@pytest.mark.parametrize(("octets", "expected"), GOOD)
def test_no_truncated_header_is_complete(octets: bytes, expected: ProxyHeader) -> None:
    for length in range(len(octets)):
        parser = ProxyParser()
        assert parser.feed(octets[:length]) == length
        assert parser.header is None


@pytest.mark.parametrize("octets", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("piece", [1, 5, 100000])
def test_what_is_no_header_is_refused(octets: bytes, piece: int) -> None:
    with pytest.raises(ProxyError):
        read(octets, piece)


@pytest.mark.parametrize("octets", [b"PROXY\r\n", b"PROXY TCP4 192.0.2.7 198.51.100.25 1\r\n"])
def test_the_reason_is_for_people(octets: bytes) -> None:
    with pytest.raises(ProxyError, match=r"^PROXY header malformed$"):
        read(octets, 1000)


def test_the_checksum_is_verified() -> None:
    octets = with_checksum(v2(1, 0x11, INET))
    parser = ProxyParser()
    parser.feed(octets)
    assert parser.header == ProxyHeader(2, *CLIENT4)
    for position in (16, 27, len(octets) - 1):
        damaged = bytearray(octets)
        damaged[position] ^= 1
        with pytest.raises(ProxyError, match="checksum"):
            ProxyParser().feed(bytes(damaged))


def test_control_characters_from_the_proxy_reach_no_log() -> None:
    tls = tlv(0x20, b"\x01" + bytes(4) + tlv(0x22, b"\x1b[2J"))
    header = read(v2(1, 0x11, INET + tlv(0x02, b"mx\r\nevil") + tls), 1000)
    assert header is not None
    assert header.authority == ""
    assert header.tls == ProxyTls("", "")


def test_the_parser_says_nothing_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ProxyError):
        ProxyParser().feed(b"PROXY NONSENSE\r\n")
    assert not caplog.records


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"!\x11"]),
)
@settings(max_examples=300, deadline=None)
def test_any_octets_give_a_header_or_an_error_and_never_take_too_much(data: bytes, start: bytes) -> None:
    octets = start + data
    whole, single = ProxyParser(), ProxyParser()
    try:
        taken: int | None = whole.feed(octets)
    except ProxyError:
        taken = None
    count = 0
    try:
        for position in range(len(octets)):
            count += single.feed(octets[position : position + 1])
    except ProxyError:
        assert taken is None
        return
    assert taken == count
    assert whole.header == single.header
    assert taken == len(octets) or whole.header is not None
