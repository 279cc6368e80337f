"""Comparators that are always there (RFC 5228 section 2.7.3, RFC 4790 section 9). Status: complete.

i;octet compares octets; strings of Unicode characters compare as their UTF-8 octets do.
i;ascii-casemap takes A to Z for a to z, the default.
"""

from __future__ import annotations

from sieve_ext.language.capability import Comparator


def same(text: str) -> str:
    """i;octet: as it is."""
    return text


def fold_ascii(text: str) -> str:
    """i;ascii-casemap: A to Z in lower case, other characters as they are."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


COMPARATORS = (Comparator("i;octet", same), Comparator("i;ascii-casemap", fold_ascii))
