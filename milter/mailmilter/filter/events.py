"""Commands of the MTA, read into values: the sans-IO core of the filter's side."""

from __future__ import annotations

from mailmilter.message import Field
from mailmilter.packets import MilterProtocolError, pairs, split_strings
from mailmilter.requests import Client, Family


def parse_connect(data: bytes) -> Client:
    """The client. Raises MilterProtocolError."""
    name, nul, rest = data.partition(b"\0")
    if not nul or not rest:
        raise MilterProtocolError("CONNECT without an address family")
    try:
        family = Family(rest[0])
    except ValueError:
        raise MilterProtocolError(f"CONNECT with address family {rest[:1]!r}") from None
    host = name.decode("utf-8", "surrogateescape")
    if family is Family.UNKNOWN:
        return Client(host)
    if len(rest) < 3:
        raise MilterProtocolError("CONNECT without a port")
    address = rest[3:].rstrip(b"\0").decode("utf-8", "surrogateescape")
    return Client(host, family, int.from_bytes(rest[1:3], "big"), address.removeprefix("IPv6:"))


def parse_text(data: bytes) -> str:
    """The argument of HELO."""
    return data.rstrip(b"\0").decode("utf-8", "surrogateescape")


def parse_envelope(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Address, without its brackets, and ESMTP parameters of MAIL and RCPT. Raises MilterProtocolError."""
    words = split_strings(data)
    if not words:
        raise MilterProtocolError("a command without an address")
    address = words[0]
    if address.startswith(b"<") and address.endswith(b">"):
        address = address[1:-1]
    return address, tuple(words[1:])


def parse_header(data: bytes) -> Field:
    """A header field; its value keeps what the MTA sent, with CRLF where it is folded."""
    words = split_strings(data)
    if len(words) != 2:
        raise MilterProtocolError(f"a header of {len(words)} strings")
    value = words[1]
    return Field(words[0], value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def parse_macros(data: bytes) -> tuple[int, dict[str, str]]:
    """The command that macros belong to, and the macros by bare name. Raises MilterProtocolError."""
    if not data:
        raise MilterProtocolError("macros for no command")
    found = {
        name.strip(b"{}").decode("utf-8", "replace"): value.decode("utf-8", "surrogateescape")
        for name, value in pairs(split_strings(data[1:]))
    }
    return data[0], found
