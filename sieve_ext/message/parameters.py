"""Structured MIME fields: a value and parameters (RFC 2045 section 5.1, RFC 2231).

Content-Type and Content-Disposition as senders write them: values with blanks and without quotation marks,
missing or doubled semicolons, comments wherever RFC 2045 lets them stand, values continued over several
parameters and percent-encoded in a charset (RFC 2231), encoded words where none may stand. Of a parameter
given twice, in whatever form, the first counts; `all_parameters` has them all, for readers differ over it.
Linear; nothing raises.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sieve_ext.message.charset import decode_charset, decode_unlabelled
from sieve_ext.message.limits import PARAMETERS
from sieve_ext.message.words import decode_words

_main = re.compile(rb"\s*+([^\s;()]*+)").match
_subtype = re.compile(rb"\s*+(?:/\s*+)?([^\s;()=/]++)(?!\s*+=)").match
_slash = re.compile(rb"\s*+/").match
_parameter = re.compile(
    rb'[;\s]*+(?:([^\s=;"()]++)\s*+=\s*+(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"?|([^;]*+))|[^;\s]++)',
    re.DOTALL,
).match
_mark = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|=\s*+|\(', re.DOTALL).search
_comment_mark = re.compile(rb"[()]|\\.", re.DOTALL).finditer
_media_type = re.compile(r"[!#$%&'*+.^_`{|}~0-9a-z-]++/[!#$%&'*+.^_`{|}~0-9a-z-]++").fullmatch
_continued = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?").fullmatch
_token_end = re.compile(rb"[\s(]").split


class Parameterised(NamedTuple):
    """A structured value."""

    value: str
    """What stands before the parameters, in lower case."""
    parameters: dict[str, str]
    """Values, decoded, by lower-case name."""


class _Piece(NamedTuple):
    """A parameter, or one section of it."""

    percent: bool
    """It is percent-encoded."""
    quoted: bool
    octets: bytes


_Sections = dict[int, _Piece]
"""The sections of one parameter by number; a parameter that is not continued is one section, -1."""


def parse_parameters(value: bytes) -> Parameterised:
    """The value and the first `limits.PARAMETERS` parameters of an unfolded field value."""
    main, found = _read(value)
    parameters: dict[str, str] = {}
    for name, sections in found:
        if name not in parameters:
            parameters[name] = _assembled(sections)
    return Parameterised(main, parameters)


def all_parameters(value: bytes) -> list[tuple[str, str]]:
    """Name and value of each parameter, those given twice too, in the order in which they begin."""
    return [(name, _assembled(sections)) for name, sections in _read(value)[1]]


def media_type(value: bytes, default: str) -> Parameterised:
    """A Content-Type value: "type/subtype" in lower case; `default` without parameters when it is none.

    A multipart whose subtype is none is taken for mixed, as one of an unknown subtype is (RFC 2046 section
    5.1.7): mail programs show its parts.
    """
    parsed = parse_parameters(value)
    if _media_type(parsed.value):
        return parsed
    if parsed.value.startswith("multipart/"):
        return Parameterised("multipart/mixed", parsed.parameters)
    return Parameterised(default, {})


def boundary_of(value: bytes) -> bytes | None:
    """The boundary in an unfolded Content-Type, octet by octet, None if there is none.

    It is compared with lines of the body, so nothing in it is decoded but RFC 2231, where that is its only
    form: `=?utf-8?q?x?=` is a boundary like any other. Without quotation marks it ends at a blank or a
    comment. Blanks at its end are not part of it (RFC 2046 section 5.1.1).
    """
    found = [list(sections.items()) for name, sections in _read(value)[1] if name == "boundary"]
    if not found:
        return None
    usual = (sections for sections in found if sections[0][0] < 0 and not sections[0][1].percent)
    pieces = [piece for _, piece in sorted(next(usual, found[0]))]
    octets = [piece.octets if piece.quoted else _token_end(piece.octets, 1)[0] for piece in pieces]
    pieces = [piece._replace(octets=plain) for piece, plain in zip(pieces, octets, strict=True)]
    return _octets(pieces)[0].rstrip(b" \t")


def _read(value: bytes) -> tuple[str, list[tuple[str, _Sections]]]:
    """The value in lower case, and the parameters in sections."""
    if b"(" in value:
        value = _without_comments(value)
    start = _main(value)
    if start is None:
        return "", []
    main, position = start[1], start.end()
    if b"/" not in main[:-1] and (main.endswith(b"/") or _slash(value, position)):
        subtype = _subtype(value, position)  # blanks beside the slash
        if subtype is not None and main:
            main, position = main.removesuffix(b"/") + b"/" + subtype[1], subtype.end()
    found: list[tuple[str, _Sections]] = []
    continued: dict[str, _Sections] = {}
    for _ in range(PARAMETERS):
        match = _parameter(value, position)
        if match is None:
            break
        position = match.end()
        name, quoted, plain = match.groups()
        if name is None:
            continue
        parsed = _continued(name.decode("latin-1").lower())
        if parsed is None:
            continue
        base, number, percent = parsed.groups()
        if quoted is not None:
            octets = re.sub(rb"\\(.)", rb"\1", quoted, flags=re.DOTALL)
        else:
            octets = plain.strip()
            if octets.endswith(b")"):  # else the parenthesis is part of a file name
                octets = octets.partition(b" (")[0].rstrip()
        piece = _Piece(percent is not None, quoted is not None, octets)
        if number is None:
            found.append((base, {-1: piece}))
            continue
        if base not in continued:
            continued[base] = {}
            found.append((base, continued[base]))
        continued[base].setdefault(int(number), piece)
    return main.decode("latin-1").lower(), found


def _without_comments(value: bytes) -> bytes:
    """The value with a blank for each comment (RFC 5322 section 3.2.2).

    In an unquoted parameter only what has a semicolon in it is taken for one: `report(1).pdf` is a name. A
    parenthesis that is never closed begins no comment.
    """
    ends = _comment_ends(value)
    out: list[bytes] = []
    copied = position = 0
    while (mark := _mark(value, position)) is not None:
        position = mark.end()
        match mark.group()[:1]:
            case b"=":
                if value[position : position + 1] not in (b'"', b"("):
                    position = _plain_end(value, position, ends)
            case b"(":
                out += (value[copied : mark.start()], b" ")
                copied = position = ends.get(mark.start(), position)
    out.append(value[copied:])
    return b"".join(out)


def _plain_end(value: bytes, position: int, ends: dict[int, int]) -> int:
    """Where an unquoted parameter ends: at its semicolon, or where a comment begins that has one in it."""
    end = value.find(b";", position)
    if end < 0:
        return len(value)
    while (opened := value.find(b"(", position, end)) >= 0:
        position = ends.get(opened, opened + 1)
        if position > end:
            return opened
    return end


def _comment_ends(value: bytes) -> dict[int, int]:
    """The place behind each comment by the place of its parenthesis; of none that is never closed."""
    ends: dict[int, int] = {}
    opened: list[int] = []
    for mark in _comment_mark(value):
        if mark.group() == b"(":
            opened.append(mark.start())
        elif mark.group() == b")" and opened:
            ends[opened.pop()] = mark.end()
    return ends


def _assembled(sections: _Sections) -> str:
    if len(sections) == 1:
        (piece,) = sections.values()
        if not piece.percent:
            return decode_words(piece.octets)
    octets, charset = _octets([piece for _, piece in sorted(sections.items())])
    text = decode_charset(octets, charset) if charset else None
    return decode_unlabelled(octets) if text is None else text


def _octets(pieces: list[_Piece]) -> tuple[bytes, str]:
    """The sections of a parameter put together, and the charset that the first one names."""
    charset = ""
    out: list[bytes] = []
    for position, piece in enumerate(pieces):
        octets = piece.octets
        if piece.percent:
            if position == 0 and octets.count(b"'") >= 2:
                label, _, octets = octets.split(b"'", 2)
                charset = label.decode("latin-1")
            octets = unquote_to_bytes(octets)
        out.append(octets)
    return b"".join(out), charset
