"""encoded-character (RFC 5228 section 2.4.2.4): `${hex: 24}` and `${unicode: 40}`. Status: complete.

Strings are rewritten once, when the script is loaded, before variables are looked for in them. What does not
have the form of an encoding stays as it is; a number that is no Unicode character is an error. Octets that
do not make UTF-8 become U+FFFD.
"""

from __future__ import annotations

import re

from sieve_ext.extend import Capability

_encoded = re.compile(
    rb"\$\{(?:(hex):[ \t\r\n]*+([0-9a-f]{1,2}(?:[ \t\r\n]++[0-9a-f]{1,2})*+)"
    rb"|(unicode):[ \t\r\n]*+([0-9a-f]++(?:[ \t\r\n]++[0-9a-f]++)*+))[ \t\r\n]*+\}",
    re.IGNORECASE,
)


def decode(text: str) -> str:
    """`text` with encodings replaced. Raises ValueError for a number that is no character."""
    if "${" not in text:
        return text
    return _encoded.sub(_decoded, text.encode("utf-8", "replace")).decode("utf-8", "replace")


def _decoded(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes(int(pair, 16) for pair in match[2].split())
    return b"".join(map(_character, match[4].split()))


def _character(digits: bytes) -> bytes:
    digits = digits.lstrip(b"0")
    value = int(digits or b"0", 16) if len(digits) <= 6 else 0x110000
    if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
        shown = digits[:16].decode("ascii").lower()
        raise ValueError(f"invalid unicode character 0x{shown:0>8} in encoded character substitution")
    return chr(value).encode("utf-8")


CAPABILITIES = (
    Capability("encoded-character", read_string=decode, specification="RFC 5228 section 2.4.2.4"),
)
