"""The MTA's commands as requests, spelt as Postfix spells them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from mailmilter import macros
from mailmilter.constants import Command, Protocol, Stage
from mailmilter.message import Field
from mailmilter.negotiation import Agreement
from mailmilter.packets import strings
from mailmilter.responses import wire_value
from mailmilter.session import Request


class Family(IntEnum):
    """Address families (SMFIA_*)."""

    UNKNOWN = ord("U")
    UNIX = ord("L")
    INET = ord("4")
    INET6 = ord("6")


@dataclass(slots=True, frozen=True)
class Client:
    """The SMTP client: the CONNECT command.

    `name` is its verified name; without one Postfix sends the address in brackets, so do that.
    """

    name: str
    family: Family = Family.UNKNOWN
    port: int = 0
    """0 to 65535; 0 when unknown."""
    address: str = ""
    """Without brackets and without an "IPv6:" prefix."""

    def encode(self) -> bytes:
        """The data of the packet."""
        name = _octets(self.name or f"[{self.address}]")
        if self.family is Family.UNKNOWN:
            return strings((name,)) + b"U"
        port = (self.port & 0xFFFF).to_bytes(2, "big")
        return strings((name,)) + bytes((self.family,)) + port + strings((_octets(self.address),))


LOCAL = Client("localhost", Family.INET, 0, "127.0.0.1")
"""The client of mail that comes from no SMTP session: what Postfix tells its non_smtpd_milters, with
"localhost" for HELO too."""


def connect(client: Client, macro: bytes) -> Request:
    """The session begins."""
    return Request(Command.CONNECT, client.encode(), macro)


def helo(name: str, macro: bytes) -> Request:
    """HELO, EHLO or LHLO."""
    return Request(Command.HELO, strings((_octets(name),)), macro)


def envelope(command: Command, address: bytes, parameters: Iterable[bytes], macro: bytes) -> Request:
    """MAIL or RCPT: the address in angle brackets, then each ESMTP parameter."""
    return Request(command, strings((b"<" + address + b">", *parameters)), macro)


def unknown(line: bytes, macro: bytes) -> Request:
    """A command that the MTA does not know, the whole line."""
    return Request(Command.UNKNOWN, strings((line,)), macro)


def data(macro: bytes) -> Request:
    """DATA."""
    return Request(Command.DATA, b"", macro)


def content(
    agreement: Agreement,
    fields: Iterable[Field],
    body: Iterable[bytes],
    macro: Mapping[Stage, bytes],
) -> Iterator[Request]:
    """The message: headers, their end, the body in pieces of the agreed size, and its end.

    `fields` are those that filters may see; `body` has CRLF line ends. What the filter does not want is not
    even read. Headers go with the macros of their end, the body with those of its end, as with Postfix.
    """
    flags = agreement.protocol
    leading = bool(flags & Protocol.LEADING_SPACE)
    ahead = macro.get(Stage.END_OF_HEADERS, b"")
    behind = macro.get(Stage.END_OF_MESSAGE, b"")
    if not flags & Protocol.NO_HEADERS:
        for field in fields:
            words = strings((field.name, wire_value(field.value, leading_space=leading)))
            yield Request(Command.HEADER, words, ahead)
    yield Request(Command.END_OF_HEADERS, b"", ahead)
    if not flags & Protocol.NO_BODY:
        for piece in pieces(body, agreement.chunk):
            yield Request(Command.BODY, piece, behind)
    yield Request(Command.END_OF_MESSAGE, b"", behind)


def pieces(body: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut or join octets so that every piece but the last has `size` octets."""
    rest = bytearray()
    for part in body:
        if not rest and len(part) == size:
            yield part
            continue
        rest += part
        if len(rest) < size:
            continue
        start = 0
        while len(rest) - start >= size:
            yield bytes(rest[start : start + size])
            start += size
        del rest[:start]
    if rest:
        yield bytes(rest)


def macro_packet(
    command: Command,
    stage: Stage,
    agreement: Agreement,
    values: macros.Values,
    usual: Mapping[Stage, tuple[str, ...]] = macros.DEFAULT,
) -> bytes:
    """The macros of a stage: those that the filter has asked for, or the `usual` ones."""
    names = agreement.symbols.get(stage)
    return macros.encode(command, usual[stage] if names is None else names, values)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
