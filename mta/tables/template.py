"""Texts with a place for the key: SQL statements, names in the DNS, URLs, filters.

    {key}        the key as it is looked up
    {local}      what is before its last "@" (all of it where there is none)
    {domain}     what is behind it
    {reversed}   the key as an address turned round for DNS lists: 7.2.0.192

What has no domain is in no table that asks for one, and so with addresses: `expand` answers None. Braces that
name none of these stand for themselves.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

PLACES = ("key", "local", "domain", "reversed")
_place = re.compile(r"\{(" + "|".join(PLACES) + r")\}")


def _local(key: str) -> str | None:
    return key.rpartition("@")[0] if "@" in key else key


def _domain(key: str) -> str | None:
    return key.rpartition("@")[2] if "@" in key else None


def reversed_address(text: str) -> str | None:
    """An IP address as DNS lists have it (RFC 5782 sections 2.1 and 2.4), None for what is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.reverse_pointer.rsplit(".", 2)[0]


_VALUES: dict[str, Callable[[str], str | None]] = {
    "key": lambda key: key,
    "local": _local,
    "domain": _domain,
    "reversed": reversed_address,
}


@dataclass(slots=True, frozen=True)
class Template:
    """A text with places."""

    literals: tuple[str, ...]
    """One more than places."""
    places: tuple[str, ...]

    def expand(self, key: str, quote: Callable[[str], str] = lambda text: text) -> str | None:
        """The text for `key`, what is put in through `quote`; None when a place has nothing."""
        values = self.values(key)
        if values is None:
            return None
        parts = [self.literals[0]]
        for value, literal in zip(values, self.literals[1:], strict=True):
            parts += (quote(value), literal)
        return "".join(parts)

    def values(self, key: str) -> tuple[str, ...] | None:
        """What is put in, in order; None when a place has nothing."""
        found = []
        for place in self.places:
            value = _VALUES[place](key)
            if value is None:
                return None
            found.append(value)
        return tuple(found)

    def with_marks(self, mark: str, escape: Callable[[str], str] = lambda text: text) -> str:
        """The text with `mark` for each place: a statement whose values are sent beside it.

        Quotes around a place go with it, for a quoted mark would be a text.
        """
        parts = [escape(self.literals[0])]
        for literal in self.literals[1:]:
            literal = escape(literal)
            if parts[-1].endswith("'") and literal.startswith("'"):
                parts[-1] = parts[-1][:-1]
                literal = literal[1:]
            parts += (mark, literal)
        return "".join(parts)


def parse(text: str) -> Template:
    """Read a text with places."""
    pieces = _place.split(text)
    return Template(tuple(pieces[::2]), tuple(pieces[1::2]))
