"""comparator-i;ascii-numeric (RFC 4790 section 9.1) and comparator-i;unicode-casemap (RFC 5051).

Status: complete. A string that does not begin with a digit is greater than every number and equal to others
of its kind. Numbers are compared as strings of digits, for they may be as long as a message.
"""

from __future__ import annotations

import re
from unicodedata import normalize

from sieve_ext.extend import Capability, Comparator

_digits = re.compile(r"[0-9]+").match


def number_of(text: str) -> str:
    """The digits at the start without leading zeros, "" where there are none: infinity."""
    match = _digits(text)
    return "" if match is None else match.group().lstrip("0") or "0"


def number_order(text: str) -> tuple[bool, int, str]:
    """What sorts strings by their number."""
    digits = number_of(text)
    return (not digits, len(digits), digits)


def fold_unicode(text: str) -> str:
    """Title case, then decomposed for compatibility (RFC 5051 section 2)."""
    if text.isascii():
        return text.upper()
    titled = "".join(one if len(one := character.title()) == 1 else character for character in text)
    return normalize("NFKD", titled)


CAPABILITIES = (
    Capability(
        "comparator-i;ascii-numeric",
        comparators=(Comparator("i;ascii-numeric", number_of, has_substring=False, order=number_order),),
        specification="RFC 4790 section 9.1",
    ),
    Capability(
        "comparator-i;unicode-casemap",
        comparators=(Comparator("i;unicode-casemap", fold_unicode, keeps_length=False),),
        specification="RFC 5051",
    ),
)
