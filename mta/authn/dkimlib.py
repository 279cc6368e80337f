"""The adapter to dkimpy: all that we take of it, made safe.

dkimpy (1.1.8) knows the grammar of tag lists and which tags a signature must have. Its engine is not used:
it holds a message several times in memory, needs quadratic time for blanks and for long `h=`, asks the DNS
while it hashes and calls an unreachable DNS a bad signature. What stands here is linear, takes the clock from
its caller and raises nothing but `Malformed`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import dkim  # type: ignore[import-untyped]
import dkim.util  # type: ignore[import-untyped]

LARGEST_LIST = 16 * 1024
"""Octets of a tag list that are read: ten times the longest signature with RSA-4096 and 50 names."""

_is_tag_name = re.compile(rb"[A-Za-z][A-Za-z0-9_]*").fullmatch
_white = re.compile(rb"[ \t\r\n]+").sub

SIGNATURE_TAGS = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")
"""What a DKIM-Signature must have (RFC 6376 section 3.5)."""
MESSAGE_TAGS = (b"i", b"a", b"b", b"bh", b"d", b"h", b"s")
"""What an ARC-Message-Signature must have (RFC 8617 section 4.1.2)."""
SEAL_TAGS = (b"i", b"a", b"b", b"cv", b"d", b"s")
"""What an ARC-Seal must have (RFC 8617 section 4.1.3)."""


class Malformed(Exception):
    """What a stranger wrote is not what the standard says (remote fault); the text says in which way."""


def tag_list(octets: bytes) -> dict[bytes, bytes]:
    """The tags of a list (RFC 6376 section 3.2), values without blanks around them. Raises Malformed."""
    if len(octets) > LARGEST_LIST:
        raise Malformed("it is too long")
    try:
        tags: dict[bytes, bytes] = dkim.util.parse_tag_value(octets)
    except dkim.util.DuplicateTag:
        raise Malformed("a tag occurs twice") from None
    except (dkim.util.InvalidTagValueList, LookupError, ValueError):
        raise Malformed("it is no list of tags") from None
    for name in tags:
        if not _is_tag_name(name):
            raise Malformed("it has something that is no tag")
    return tags


def check_signature(tags: Mapping[bytes, bytes], mandatory: tuple[bytes, ...], *, arc: bool) -> None:
    """Raise Malformed unless all `mandatory` tags are there and well formed.

    Times and query methods are not looked at: the caller knows the clock and the policy.
    """
    checked = {name: value for name, value in tags.items() if name not in (b"t", b"x", b"q")}
    for name in (b"b", b"bh"):
        if name in checked:
            checked[name] = without_white(checked[name])
    if arc and checked.get(b"a") == b"ed25519-sha256":
        checked[b"a"] = b"rsa-sha256"  # RFC 8617 takes the algorithms of DKIM, dkimpy only this one
    try:
        dkim.validate_signature_fields(checked, list(mandatory), arc)
    except dkim.ValidationError as error:
        raise Malformed(_plain(error)) from None
    except (LookupError, ValueError, TypeError):
        raise Malformed("a tag has a value that it cannot have") from None


def without_white(value: bytes) -> bytes:
    """A value without the folding white space that base64 may have anywhere."""
    return _white(b"", value)


def _plain(error: Exception) -> str:
    """The words of dkimpy without the value that it quotes, which a stranger wrote."""
    return str(error).partition(" (")[0].partition(": ")[0].replace("b'", "").replace("'", "")
