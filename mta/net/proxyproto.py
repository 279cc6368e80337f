"""The PROXY protocol, versions 1 and 2: the header that a load balancer sends in front of everything else.

aiosmtpd's parser does the reading. It is written as a coroutine over a stream; `ProxyParser` runs it
without one: each time it asks for octets it is suspended until `feed` has them. `feed` takes only octets
that belong to the header and says how many, so a caller that peeks at its socket never takes the first
octets of what follows (a TLS ClientHello may be in the same segment).

What aiosmtpd lets pass and the specification does not is refused here: versions of TCP that do not exist
("TCPX4"), port numbers with blanks or underscores, datagrams, broken TLVs, a wrong CRC-32C; and a header
of more than `MAX_HEADER` octets. What it refuses and the specification takes is taken: LOCAL with any family.

A header without a client of its own - LOCAL (health checks), UNKNOWN, UNSPEC, Unix sockets - is taken; the
connection then belongs to the proxy itself, under the proxy's address. Whoever trusts the networks of its
proxies (to relay, say) must know that.
"""

from __future__ import annotations

import logging
import types
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from aiosmtpd.proxy_protocol import AF, PROTO, V2_CMD, MalformedTLV, ProxyData, ProxyTLV, get_proxy

MAX_V1 = 107
"""Octets of a version 1 header, by the specification."""
MAX_HEADER = 4096
"""Octets of a version 2 header with its TLVs. A real one has under 400 even with a certificate's name."""

# The parser warns through this logger about what clients send; our caller decides what is logged, and once.
logging.getLogger("mail.debug").disabled = True

_LINE = 0
_FIXED_V2 = 16
_LOCAL = 0x20
_TYPE_SSL = 0x20
_CRC_POLYNOMIAL = 0x82F63B78


class ProxyError(Exception):
    """The octets are no acceptable PROXY header (remote fault)."""


@dataclass(slots=True, frozen=True)
class ProxyTls:
    """What the proxy tells of the client's TLS (TLV PP2_TYPE_SSL), "" for what it does not."""

    version: str
    cipher: str


@dataclass(slots=True, frozen=True)
class ProxyHeader:
    """A PROXY header."""

    version: int
    client_address: str = ""
    """Canonical text, IPv4-mapped addresses as IPv4; "" when the header names no client."""
    client_port: int = 0
    server_address: str = ""
    server_port: int = 0
    local: bool = False
    """The proxy speaks for itself (LOCAL)."""
    authority: str = ""
    """The server name that the client asked the proxy for."""
    tls: ProxyTls | None = None


class ProxyParser:
    """Reads one header, in pieces of any size."""

    __slots__ = ("_buffer", "_coroutine", "_taken", "_want", "header")

    def __init__(self) -> None:
        self.header: ProxyHeader | None = None
        """The header, once it is complete."""
        self._buffer = bytearray()
        self._taken = 0
        self._coroutine: Coroutine[int, bytes, ProxyData] = get_proxy(_Feed())
        self._want = self._coroutine.send(None)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> int:
        """Take octets and return how many of them belong to the header: all of them until `header` is set.

        Raises ProxyError; the connection is then to be closed.
        """
        start = 0
        while self.header is None and start < len(data):
            start = self._take(data, start)
        return start

    def _take(self, data: bytes, start: int) -> int:
        """Satisfy what the parser asks for, from `start` on; returns where the rest begins."""
        if self._want == _LINE:
            end = data.find(b"\n", start) + 1 or len(data)
            if self._taken + end - start > MAX_V1:
                raise ProxyError("version 1 header too long")
            complete = data[end - 1 : end] == b"\n"
        else:
            end = min(start + self._want - len(self._buffer), len(data))
            complete = end - start + len(self._buffer) == self._want
        self._buffer += data[start:end]
        self._taken += end - start
        if complete:
            self._resume()
        return end

    def _resume(self) -> None:
        octets = bytes(self._buffer)
        self._buffer.clear()
        if self._taken == _FIXED_V2 and self._want == 4 and octets[0] == _LOCAL:
            octets = bytes((octets[0], 0)) + octets[2:]  # its family is ignored, by the specification
        try:
            self._want = self._coroutine.send(octets)
        except StopIteration as stop:
            self.header = _header(stop.value)
            return
        if self._taken + self._want > MAX_HEADER:
            self._coroutine.close()
            raise ProxyError("header too long")


class _Feed:
    """The reader that aiosmtpd's parser is given: it suspends the parser until octets are there."""

    async def read(self, n: int = -1) -> bytes:
        return await _wait_for(n)

    async def readexactly(self, n: int) -> bytes:
        return await _wait_for(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        return await _wait_for(_LINE)


@types.coroutine
def _wait_for(n: int) -> Generator[int, bytes, bytes]:
    return (yield n)


def _header(data: ProxyData) -> ProxyHeader:
    if data.error.startswith("PROXY exception"):  # its parser's own words, as of a missing field
        raise ProxyError("PROXY header malformed")
    if data.error:
        raise ProxyError(data.error)
    if data.version == 1:
        return _header_v1(data)
    return _header_v2(data)


def _header_v1(data: ProxyData) -> ProxyHeader:
    fields = bytes(data.whole_raw[:-2]).split(b" ")
    if data.family == AF.UNSPEC:
        return ProxyHeader(1)
    ports = [str(data.src_port).encode(), str(data.dst_port).encode()]
    if fields[1] not in (b"TCP4", b"TCP6") or fields[4:] != ports:
        raise ProxyError("version 1 header malformed")
    return ProxyHeader(1, *_end_points(data))


def _header_v2(data: ProxyData) -> ProxyHeader:
    if data.command == V2_CMD.LOCAL:
        return ProxyHeader(2, local=True)
    tlv = _tlvs(data)
    names_client = data.family in (AF.INET, AF.INET6) and data.protocol != PROTO.UNSPEC
    if data.protocol == PROTO.DGRAM:
        raise ProxyError("version 2 header for datagrams on a stream")
    ends = _end_points(data) if names_client else ("", 0, "", 0)
    return ProxyHeader(
        2,
        *ends,
        authority=_text(tlv.get("AUTHORITY")),
        tls=_tls(tlv) if "SSL" in tlv else None,
    )


def _end_points(data: ProxyData) -> tuple[str, int, str, int]:
    client, server = data.src_addr, data.dst_addr
    if not isinstance(client, IPv4Address | IPv6Address) or not isinstance(server, IPv4Address | IPv6Address):
        raise ProxyError("no addresses")
    return _canonical(client), data.src_port or 0, _canonical(server), data.dst_port or 0


def _canonical(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _tlvs(data: ProxyData) -> dict[str, Any]:
    if not data.rest or data.family == AF.UNSPEC or data.tlv_start is None:
        return {}
    _check_vectors(bytes(data.rest))
    try:
        tlv = ProxyTLV.from_raw(bytes(data.rest))
    except (MalformedTLV, IndexError) as error:  # IndexError: an SSL vector without its first octet
        raise ProxyError("version 2 header with broken TLVs") from error
    if tlv is None:
        return {}
    if "CRC32C" in tlv:
        _check_crc(bytes(data.whole_raw), data.tlv_start + tlv.tlv_loc["CRC32C"], tlv["CRC32C"])
    return tlv


def _check_vectors(data: bytes, *, within_ssl: bool = False) -> None:
    """Every vector is whole, and none nested in itself.

    aiosmtpd takes one or two octets at the end for an empty vector and follows any depth.
    """
    position = 0
    while position < len(data):
        value = position + 3
        end = value + int.from_bytes(data[position + 1 : value], "big")
        if value > len(data) or end > len(data):
            raise ProxyError("version 2 header with broken TLVs")
        if data[position] == _TYPE_SSL:
            if within_ssl or end - value < 5:
                raise ProxyError("version 2 header with broken TLVs")
            _check_vectors(data[value + 5 : end], within_ssl=True)
        position = end


def _tls(tlv: dict[str, Any]) -> ProxyTls | None:
    if not int(tlv["SSL_CLIENT"]) & 1:  # PP2_CLIENT_SSL
        return None
    return ProxyTls(_text(tlv.get("SSL_VERSION")), _text(tlv.get("SSL_CIPHER")))


def _text(value: bytes | None) -> str:
    text = (value or b"").decode("utf-8", "replace")
    return text if text.isprintable() else ""


def _check_crc(raw: bytes, position: int, expected: bytes) -> None:
    """The checksum is that of the header with its own four octets zero (specification section 2.2.3)."""
    start = position + 3
    if crc32c(raw[:start] + bytes(4) + raw[start + 4 :]).to_bytes(4, "big") != expected:
        raise ProxyError("version 2 header with a wrong checksum")


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 9260 appendix A), bit by bit: headers are short and few balancers send it."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
