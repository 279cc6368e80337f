"""The attribute lists of XCLIENT and XFORWARD, both directions (Postfix's XCLIENT_README, XFORWARD_README).

A trusted peer tells with XCLIENT whose session this really is, with XFORWARD where a message that it
passes on came from. Both carry ``NAME=value`` attributes with values in xtext. `[UNAVAILABLE]` says that
a fact does not exist, `[TEMPUNAVAIL]` that it could not be found out now.

Parsing checks each value by its attribute and returns addresses in canonical text form, without the
``IPV6:`` of the protocol. Unknown names, duplicates and bad values raise SyntaxProblem (501 5.5.4).
Whether the peer is trusted is asked before, by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from mta.address import AddressError, domain_key
from mta.reply import Reply
from mta.smtp.syntax import SyntaxProblem
from mta.smtp.xtext import XtextError, encode_xtext, parse_xtext

UNAVAILABLE = "[UNAVAILABLE]"
"""The value of a fact that does not exist."""
TEMPUNAVAIL = "[TEMPUNAVAIL]"
"""The value of a fact that could not be found out now."""
MAX_VALUE = 255
"""Octets of a value, encoded (XFORWARD_README)."""
MAX_COMMAND = 510
"""Octets of a command line without its CRLF (RFC 5321 section 4.5.3.1.4)."""
MAX_PORT = 65535

_Check = Callable[[str], str]


def parse_xclient(argument: bytes) -> dict[str, str]:
    """The attributes of XCLIENT: NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT, names in upper case."""
    return _parse("XCLIENT", argument, _XCLIENT)


def parse_xforward(argument: bytes) -> dict[str, str]:
    """The attributes of XFORWARD: NAME ADDR PORT PROTO HELO IDENT SOURCE, names in upper case."""
    return _parse("XFORWARD", argument, _XFORWARD)


def encode_attributes(command: str, attributes: Mapping[str, str]) -> list[str]:
    """The command lines (without CRLF) that send `attributes`, as many as `MAX_COMMAND` asks for.

    `command` is "XCLIENT" or "XFORWARD". Values are written as parsing returns them; one that is longer
    than `MAX_VALUE` when encoded goes out as `[UNAVAILABLE]`, an empty one too.
    """
    lines: list[str] = []
    line = command
    for name, value in attributes.items():
        if name in ("ADDR", "DESTADDR") and ":" in value:
            value = f"IPV6:{value}"
        encoded = encode_xtext(value)
        if not 0 < len(encoded) <= MAX_VALUE:
            encoded = UNAVAILABLE
        if line != command and len(line) + len(name) + len(encoded) + 2 > MAX_COMMAND:
            lines.append(line)
            line = command
        line += f" {name}={encoded}"
    if line != command:
        lines.append(line)
    return lines


def _parse(command: str, argument: bytes, checks: Mapping[str, _Check]) -> dict[str, str]:
    if not argument.isascii() or not argument.strip():
        raise _bad(f"Syntax: {command} attribute=value ...")
    attributes: dict[str, str] = {}
    for word in argument.decode("ascii").split(" "):
        if not word:
            continue
        name, equals, encoded = word.partition("=")
        name = name.upper()
        check = checks.get(name)
        if check is None:
            raise _bad(f"Bad {command} attribute name")
        if name in attributes:
            raise _bad(f"{name} given twice")
        if not equals or not encoded or len(encoded) > MAX_VALUE:
            raise _bad(f"Bad {name} value")
        try:
            value = parse_xtext(encoded)
            attributes[name] = UNAVAILABLE if value.upper() == UNAVAILABLE else check(value)
        except (XtextError, AddressError, AddressValueError) as error:
            raise _bad(f"Bad {name} value", str(error)) from error
    return attributes


def _name(value: str) -> str:
    if value.upper() == TEMPUNAVAIL:
        return TEMPUNAVAIL
    return domain_key(value)


def _address(value: str) -> str:
    if value[:5].upper() != "IPV6:":
        return str(IPv4Address(value))
    address = IPv6Address(value[5:])
    if address.scope_id is not None:
        raise AddressError("an address with a zone")
    return str(address.ipv4_mapped or address.compressed)


def _port(value: str) -> str:
    if not value.isascii() or not value.isdigit() or len(value) > len(str(MAX_PORT)) or int(value) > MAX_PORT:
        raise AddressError("no port number")
    return str(int(value))


def _text(value: str) -> str:
    return value


def _client_protocol(value: str) -> str:
    if value.upper() not in ("SMTP", "ESMTP", "LMTP"):
        raise AddressError("no protocol that a client could speak")
    return value.upper()


def _protocol(value: str) -> str:
    # XFORWARD repeats what another MTA wrote into its trace header: any atom, such as UTF8SMTPS.
    if not value.isalnum():
        raise AddressError("no protocol name")
    return value.upper()


def _source(value: str) -> str:
    if value.upper() not in ("LOCAL", "REMOTE"):
        raise AddressError("neither LOCAL nor REMOTE")
    return value.upper()


_XCLIENT: dict[str, _Check] = {
    "NAME": _name,
    "ADDR": _address,
    "PORT": _port,
    "PROTO": _client_protocol,
    "HELO": _text,
    "LOGIN": _text,
    "DESTADDR": _address,
    "DESTPORT": _port,
}

_XFORWARD: dict[str, _Check] = {
    "NAME": _name,
    "ADDR": _address,
    "PORT": _port,
    "PROTO": _protocol,
    "HELO": _text,
    "IDENT": _text,
    "SOURCE": _source,
}

XCLIENT_ATTRIBUTES = tuple(_XCLIENT)
"""What EHLO announces after XCLIENT."""
XFORWARD_ATTRIBUTES = tuple(_XFORWARD)
"""What EHLO announces after XFORWARD."""


def _bad(text: str, cause: str = "") -> SyntaxProblem:
    return SyntaxProblem(Reply(501, "5.5.4", text, cause=cause))
