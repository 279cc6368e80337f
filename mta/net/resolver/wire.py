"""Questions and replies as octets: built from a template, read with one walk (RFC 1035, RFC 6891).

A query asks for recursion with AD set and DO clear: a validating resolver then tells whether the answer is
secure without sending the signatures (RFC 6840 section 5.7). Records are read by dnspython; walking the
message ourselves costs a fifth of building its message object. Whatever a reply holds, reading it is linear
in its size and raises nothing but `WireError`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import dns.exception
import dns.rcode
import dns.rdata
import dns.rdatatype
from dns.edns import EDECode
from dns.rdata import Rdata
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from mta.net.resolver.names import name_text, read_name

PAYLOAD = 1232
"""Octets of a UDP reply that we ask for: fits every path without fragments."""
LONGEST_CHAIN = 16
"""CNAMEs of one reply: with as many and more it counts as none. Resolvers follow about ten."""
MAX_RECORDS = 4096
"""Records of a reply that are looked at: a message of 64 kB can hold no more real ones."""

_IN = b"\0\1"
_OPT = b"\0" + struct.pack("!HHIH", 41, PAYLOAD, 0, 0)
_QUERY = b"\x01\x20\0\1\0\0\0\0\0\1"  # RD and AD; one question, one additional record
_QUERY_CD = b"\x01\x30\0\1\0\0\0\0\0\1"
_header = struct.Struct("!HHHHHH").unpack_from
_record = struct.Struct("!HHIH").unpack_from
_ASKED = b"\xc0\x0c"  # a pointer to the name in the question

_CNAME = int(dns.rdatatype.CNAME)
_SOA = int(dns.rdatatype.SOA)
_OPT_TYPE = int(dns.rdatatype.OPT)
_EDE = 15
NOERROR = 0
SERVFAIL = 2
NXDOMAIN = 3


class WireError(ValueError):
    """The octets are no reply to the question (remote; the text repeats no input)."""


@lru_cache(256)
def type_number(rdtype: str) -> int:
    """The number of a record type. Raises ValueError for an unknown one."""
    try:
        return int(dns.rdatatype.from_text(rdtype))
    except dns.exception.DNSException as error:
        raise ValueError(f"unknown type of DNS record: {rdtype!r}") from error


def question(name: bytes, rdtype: int) -> bytes:
    """The question section for a name in wire form."""
    return name + rdtype.to_bytes(2, "big") + _IN


def query_tail(asked: bytes, *, check_disabled: bool = False) -> bytes:
    """A whole query without its first two octets, the id: header, the question, and EDNS.

    `check_disabled` asks for the answer even if it does not validate (CD, RFC 4035 section 3.2.2).
    """
    return (_QUERY_CD if check_disabled else _QUERY) + asked + _OPT


@dataclass(slots=True, frozen=True)
class Reply:
    """What a resolver said."""

    rcode: int
    authenticated: bool
    """The AD bit."""
    truncated: bool
    """Nothing else but `rcode` counts then: ask over TCP."""
    records: tuple[Rdata, ...] = ()
    ttl: int = 0
    """Lowest TTL of the records and the CNAMEs before them, or the negative TTL (RFC 2308 section 5)."""
    canonical: str = ""
    """Where CNAMEs led, "" without any."""
    error: str = ""
    """The extended error (RFC 8914) in words, "" if there is none."""

    @property
    def rcode_text(self) -> str:
        """The return code in words."""
        return dns.rcode.to_text(dns.rcode.Rcode.make(self.rcode))


def is_reply(message: bytes, asked: bytes) -> bool:
    """Whether `message` is a reply that repeats the question, octet by octet; its id is not looked at."""
    return len(message) >= 12 + len(asked) and message[2] & 0xF8 == 0x80 and message.startswith(asked, 12)


def read_reply(message: bytes, asked: bytes) -> Reply:
    """Read a message for which `is_reply` holds. Raises `WireError` when it makes no sense."""
    try:
        return _read(message, asked)
    except (IndexError, ValueError, struct.error, dns.exception.DNSException) as error:
        raise WireError("malformed reply") from error


def _read(message: bytes, asked: bytes) -> Reply:
    _, flags, questions, answers, authorities, additionals = _header(message)
    if questions != 1:
        raise WireError("not one question")
    authenticated = bool(flags & 0x20)
    if flags & 0x200:
        return Reply(flags & 15, authenticated, True)
    position = 12 + len(asked)
    name = asked[:-4]
    rdtype = int.from_bytes(asked[-4:-2], "big")
    total = answers + authorities + additionals
    if total > MAX_RECORDS:
        raise WireError("too many records")
    found: dict[bytes, list[tuple[int, int, int]]] = {}
    aliases: dict[bytes, tuple[bytes, int]] = {}
    negative = 0
    rcode = flags & 15
    error = ""
    for number in range(total):
        if message.startswith(_ASKED, position):
            owner = name
            position += 2
        else:
            owner, position = read_name(message, position)
        kind, rdclass, ttl, length = _record(message, position)
        position += 10
        end = position + length
        if end > len(message):
            raise WireError("record goes beyond the message")
        if ttl >= 0x80000000:
            ttl = 0  # RFC 2181 section 8
        if number < answers:
            if kind == rdtype and rdclass == RdataClass.IN:
                found.setdefault(owner, []).append((ttl, position, length))
            elif kind == _CNAME:
                aliases[owner] = read_name(message, position)[0], ttl
        elif number < answers + authorities:
            if kind == _SOA and length >= 20:
                negative = min(ttl, int.from_bytes(message[end - 4 : end], "big"))
        elif kind == _OPT_TYPE:
            _, _, extended, _ = _record(message, position - 10)
            rcode |= (extended >> 24) << 4
            error = _extended_error(message[position:end])
        position = end
    lowest: list[int] = []
    target = name
    for _ in range(LONGEST_CHAIN):
        if target in found or target not in aliases:
            break
        target, ttl = aliases[target]
        lowest.append(ttl)
    else:
        # Resolvers say SERVFAIL to a circle; that there is nothing at its end is proven by nobody.
        raise WireError("aliases without end")
    records: list[Rdata] = []
    record_type = RdataType.make(rdtype)
    for ttl, start, length in found.get(target, ()):
        records.append(_rdata(record_type, message, start, length))
        lowest.append(ttl)
    if not records:
        lowest.append(negative)
    canonical = "" if target == name else name_text(target)
    return Reply(rcode, authenticated, False, tuple(records), min(lowest), canonical, error)


def _rdata(rdtype: RdataType, message: bytes, start: int, length: int) -> Rdata:
    try:
        return dns.rdata.from_wire(RdataClass.IN, rdtype, message, start, length)
    except (ValueError, dns.exception.DNSException):
        if rdtype != RdataType.TLSA:
            raise
        # A digest of a wrong length: the record is there and unusable, and those beside it count
        # (RFC 7671 section 2.1). `mta.delivery.security.tlsa.read_tlsa` knows this form.
        return dns.rdata.GenericRdata(RdataClass.IN, rdtype, message[start : start + length])


def _ede_words(number: int) -> str:
    for code in EDECode:
        if code == number:
            return code.name.lower().replace("_", " ")
    return f"extended error {number}"


def _extended_error(options: bytes) -> str:
    """The first extended error among EDNS options, with the text that came with it, printable only."""
    position = 0
    while position + 4 <= len(options):
        code = int.from_bytes(options[position : position + 2], "big")
        length = int.from_bytes(options[position + 2 : position + 4], "big")
        data = options[position + 4 : position + 4 + length]
        if code == _EDE and len(data) >= 2:
            number = int.from_bytes(data[:2], "big")
            words = _ede_words(number)
            text = data[2:].decode("utf-8", "replace")
            text = "".join(c if c.isprintable() else " " for c in text[:200]).strip()
            return f"{words}: {text}" if text else words
        position += 4 + length
    return ""
