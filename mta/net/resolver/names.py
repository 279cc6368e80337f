"""Domain names between text and wire (RFC 1035 section 3.1), in the one form that the resolver compares.

Names are asked in lower case, so that one cache entry and one question serve all spellings. Labels may hold
any printable ASCII (SPF macros make such names, RFC 7208 section 7.3) but no backslash: an escaped label
means something else in text than on the wire, and no name of mail needs one. Labels beyond ASCII are
converted by the UTS #46 lookup mapping (RFC 5891).
"""

from __future__ import annotations

from functools import lru_cache

import idna

MAX_WIRE_NAME = 255
"""Octets of a name on the wire, with its root label (RFC 1035 section 2.3.4)."""
MAX_LABEL = 63
"""Octets of a label (RFC 1035 section 2.3.4)."""
LONGEST_TEXT = 1024
"""Characters of a text that can be a name: 253 in ASCII, fewer than four times as many before mapping."""
REMEMBERED = 4096
"""Names whose wire form is remembered, 1 MB at the usual length."""


def wire_name(text: str) -> bytes | None:
    """The name in wire form, lower case; None for a text that cannot be a domain name."""
    return _wire_name(text) if len(text) <= LONGEST_TEXT else None


@lru_cache(REMEMBERED)
def _wire_name(text: str) -> bytes | None:
    if text == ".":
        return b"\0"
    parts: list[bytes] = []
    for label in text.removesuffix(".").split("."):
        octets = _label(label)
        if octets is None:
            return None
        parts.append(bytes((len(octets),)))
        parts.append(octets)
    parts.append(b"\0")
    wire = b"".join(parts)
    return wire if len(wire) <= MAX_WIRE_NAME else None


def _label(label: str) -> bytes | None:
    if not label or not label.isprintable() or "\\" in label:
        return None
    if label.isascii():
        octets = label.lower().encode("ascii")
    else:
        try:
            octets = idna.encode(label, uts46=True)
        except UnicodeError:  # idna's own errors, and those of its codecs
            return None
        if b"." in octets:  # the mapping makes dots of their look-alikes
            return None
    return octets if len(octets) <= MAX_LABEL else None


def name_text(wire: bytes) -> str:
    """An uncompressed name as text without the final dot; octets that no host name has become \\DDD."""
    labels: list[str] = []
    position = 0
    while length := wire[position]:
        label = wire[position + 1 : position + 1 + length]
        labels.append(
            "".join(chr(o) if 0x21 <= o <= 0x7E and o not in b".\\" else f"\\{o:03}" for o in label)
        )
        position += 1 + length
    return ".".join(labels) or "."


def read_name(message: bytes, position: int) -> tuple[bytes, int]:
    """A name at `position`, uncompressed and in lower case, and the position behind it.

    Raises IndexError or ValueError where there is none. Pointers must point backwards (RFC 1035 section
    4.1.4), so reading ends.
    """
    parts: list[bytes] = []
    size = 1
    behind = 0
    limit = position
    while True:
        length = message[position]
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | message[position + 1]
            behind = behind or position + 2
            if target >= limit:
                raise ValueError("compression pointer forwards")
            limit = position = target
            continue
        if length > MAX_LABEL:
            raise ValueError("unknown kind of label")
        position += 1
        if not length:
            break
        size += 1 + length
        if size > MAX_WIRE_NAME or position + length > len(message):
            raise ValueError("name too long")
        parts.append(message[position - 1 : position + length])
        position += length
    # Lengths are below 64, so that lower() changes none of them.
    return b"".join(parts).lower() + b"\0", behind or position
