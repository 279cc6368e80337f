"""Filters of LDAP with places for the key (RFC 4515), and names with such places (RFC 4514).

    (&(objectClass=inetOrgPerson)(|(mail={key})(mailAlias={key})))
    ou={domain},dc=example,dc=org

A filter is read first and the key put in later, as a value between its elements: whatever it is made of, it
cannot become a part of the filter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.tables.ldapwire import element, octets
from mta.tables.template import Template, parse

DEPTH_MOST = 50
"""Filters within filters."""
_LISTS = {"&": 0xA0, "|": 0xA1, "!": 0xA2}
_KINDS = {"=": 0xA3, ">=": 0xA5, "<=": 0xA6, "~=": 0xA8}
_item = re.compile(
    r"(?P<attribute>[A-Za-z0-9.;-]*)(?:(?P<dn>:dn)?(?::(?P<rule>[A-Za-z0-9.-]+))?(?P<extended>:))?"
    r"(?P<kind>>=|<=|~=|=)(?P<value>[^()]*)",
    re.DOTALL,
)
_escape = re.compile(r"\\([0-9A-Fa-f]{2})|(\\)|([^\\]+)", re.DOTALL)


class FilterError(ValueError):
    """It is no filter; the text says why."""


@dataclass(slots=True, frozen=True)
class Value:
    """Octets with places."""

    template: Template
    literals: tuple[bytes, ...]

    def fill(self, key: str) -> bytes | None:
        """The octets for `key`, None when a place has nothing."""
        values = self.template.values(key)
        if values is None:
            return None
        found = [self.literals[0]]
        for value, literal in zip(values, self.literals[1:], strict=True):
            found += (value.encode("utf-8", "surrogateescape"), literal)
        return b"".join(found)


@dataclass(slots=True, frozen=True)
class Filter:
    """An element with octets, values and other elements in it."""

    tag: int
    parts: tuple[bytes | tuple[int, Value] | Filter, ...]

    def fill(self, key: str) -> bytes | None:
        """The filter for `key` as it is sent, None when a place has nothing."""
        found: list[bytes] = []
        for part in self.parts:
            match part:
                case bytes():
                    found.append(part)
                case Filter():
                    inner = part.fill(key)
                    if inner is None:
                        return None
                    found.append(inner)
                case (tag, value):
                    filled = value.fill(key)
                    if filled is None:
                        return None
                    found.append(element(tag, filled))
        return element(self.tag, *found)


def parse_filter(text: str) -> Filter:
    """Read a filter. Raises FilterError."""
    found, end = _filter(text.strip(), 0, 0)
    if end != len(text.strip()):
        raise FilterError(f"something follows it: {text.strip()[end:]!r}")
    return found


def _filter(text: str, place: int, depth: int) -> tuple[Filter, int]:
    if depth > DEPTH_MOST:
        raise FilterError("it is too deep")
    if text[place : place + 1] != "(":
        raise FilterError(f"a parenthesis is expected at {text[place:][:20]!r}")
    tag = _LISTS.get(text[place + 1 : place + 2])
    if tag is None:
        matched = _item.match(text, place + 1)
        if matched is None:
            raise FilterError(f"a comparison is expected at {text[place + 1 :][:20]!r}")
        found, place = _comparison(matched), matched.end()
    else:
        place += 2
        inner: list[Filter] = []
        while text[place : place + 1] == "(":
            one, place = _filter(text, place, depth + 1)
            inner.append(one)
        if not inner or (tag == _LISTS["!"] and len(inner) > 1):
            raise FilterError('"&" and "|" need filters, "!" needs one')
        found = Filter(tag, tuple(inner))
    if text[place : place + 1] != ")":
        raise FilterError(f"a closing parenthesis is expected at {text[place:][:20]!r}")
    return found, place + 1


def _comparison(matched: re.Match[str]) -> Filter:
    attribute, kind, value = matched["attribute"], matched["kind"], matched["value"]
    if matched["extended"]:
        if kind != "=" or not (attribute or matched["rule"]):
            raise FilterError(f"{matched[0]!r} is no comparison by a rule")
        parts: list[bytes | tuple[int, Value] | Filter] = []
        if matched["rule"]:
            parts.append(element(0x81, matched["rule"].encode()))
        if attribute:
            parts.append(element(0x82, attribute.encode()))
        parts.append((0x83, _value(value)))
        if matched["dn"]:
            parts.append(element(0x84, b"\xff"))
        return Filter(0xA9, tuple(parts))
    if not attribute:
        raise FilterError(f"{matched[0]!r} names no attribute")
    name = octets(attribute.encode())
    if kind == "=" and value == "*":
        return Filter(0x87, (attribute.encode(),))
    if kind == "=" and "*" in value:
        first, *middle, last = value.split("*")
        pieces = [(0x80, first), *((0x81, one) for one in middle), (0x82, last)]
        some = tuple((tag, _value(piece)) for tag, piece in pieces if piece)
        return Filter(0xA4, (name, Filter(0x30, some)))
    return Filter(_KINDS[kind], (name, (0x04, _value(value))))


def _value(text: str) -> Value:
    template = parse(text)
    return Value(template, tuple(_octets(literal) for literal in template.literals))


def _octets(text: str) -> bytes:
    found = b""
    for one in _escape.finditer(text):
        if one[2]:
            raise FilterError(rf"{text!r}: \ stands before two hexadecimal digits")
        found += bytes.fromhex(one[1]) if one[1] else one[3].encode()
    return found


def in_name(value: str) -> str:
    """A value as a part of a distinguished name (RFC 4514 section 2.4)."""
    found = "".join(f"\\{one}" if one in ',+"\\<>;=' else "\\00" if one == "\0" else one for one in value)
    if found[:1] in ("#", " "):
        found = "\\" + found
    if found[-1:] == " " and found[-2:] != "\\ ":
        found = found[:-1] + "\\ "
    return found
