"""The three encodings of text inside ESMTP parameters.

*xtext* (RFC 3461 section 4) writes an octet that is no printable ASCII, a blank, "+" or "=" as "+HH".
*utf-8-addr-xtext* and *utf-8-addr-unitext* (RFC 6533 section 3) write a character as "\\x{HEX}": the first
one every character outside ASCII too, the second one, for SMTPUTF8, leaves those as they are.

Decoders accept a little more than the grammar (hex digits in lower case, a raw "=", and a raw "+" in the
RFC 6533 forms), since clients send it and it has one meaning only. They never yield a control character.
Encoders write exactly the grammar. Everything raises XtextError, a ValueError.
"""

from __future__ import annotations

from mta.address import has_controls

_PLAIN = "".join(chr(c) for c in range(33, 127) if chr(c) not in "+=")
_PLAIN_SET = frozenset(_PLAIN)
_QCHAR = _PLAIN_SET - {"\\"}
_HEX = frozenset("0123456789abcdefABCDEF")
MAX_HEXPOINT = 6
"""Hex digits of a code point: the largest is 10FFFF."""


class XtextError(ValueError):
    """Text that is not encoded as it must be (remote fault)."""


def parse_xtext(text: str) -> str:
    """Decode xtext; the octets must be UTF-8. Raises XtextError."""
    if "+" not in text:
        return _checked(text)
    head, *rest = text.encode("utf-8").split(b"+")
    out = bytearray(head)
    for part in rest:
        digits = part[:2].decode("latin-1")
        if len(digits) < 2 or not _HEX.issuperset(digits):
            raise XtextError("a + without two hexadecimal digits")
        out.append(int(digits, 16))
        out += part[2:]
    try:
        return _checked(out.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise XtextError("decoded text is not UTF-8") from error


def encode_xtext(text: str) -> str:
    """Encode as xtext, characters outside ASCII as their UTF-8 octets."""
    if not text.strip(_PLAIN):
        return text
    return "".join(
        c if c in _PLAIN_SET else "".join(f"+{octet:02X}" for octet in c.encode("utf-8")) for c in text
    )


def parse_utf8_address(text: str) -> str:
    """Decode utf-8-addr-xtext or utf-8-addr-unitext. Raises XtextError."""
    if "\\" not in text:
        return _checked(text)
    head, *rest = text.split("\\")
    out = [head]
    for part in rest:
        digits, brace, tail = part[2:].partition("}")
        if part[:2] != "x{" or not brace or not digits or len(digits) > MAX_HEXPOINT:
            raise XtextError("a backslash without a code point")
        if not _HEX.issuperset(digits):
            raise XtextError("a code point that is not hexadecimal")
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise XtextError("a code point that Unicode does not have")
        out += (chr(code), tail)
    return _checked("".join(out))


def encode_utf8_address(text: str, *, unitext: bool) -> str:
    """Encode as utf-8-addr-unitext (`unitext`; for a session with SMTPUTF8) or as utf-8-addr-xtext."""
    return "".join(
        c if c in _QCHAR or (unitext and not c.isascii()) else f"\\x{{{ord(c):02X}}}" for c in text
    )


def _checked(text: str) -> str:
    if has_controls(text):
        raise XtextError("a control character")
    return text
