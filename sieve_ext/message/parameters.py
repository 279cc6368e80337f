"""Structured MIME fields: a value and parameters (RFC 2045 section 5.1, RFC 2231).

Content-Type and Content-Disposition as senders write them: values with blanks and without quotation marks,
missing or doubled semicolons, comments, values continued over several parameters and percent-encoded in a
charset (RFC 2231), encoded words where none may stand. Of a parameter given twice the first counts. Linear;
nothing raises.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sieve_ext.message.charset import decode_charset, decode_unlabelled
from sieve_ext.message.limits import PARAMETERS
from sieve_ext.message.words import decode_words

_main = re.compile(rb"\s*+([^\s;()]*+)").match
_parameter = re.compile(
    rb'[;\s]*+(?:([^\s=;"()]++)(?:\s*+\([^()]*+\))*+\s*+=\s*+(?:\([^()]*+\)\s*+)*+(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"?|([^;]*+))|\([^)]*+\)?|[^;\s]++)',
    re.DOTALL,
).match
_media_type = re.compile(r"[!#$%&'*+.^_`{|}~0-9a-z-]++/[!#$%&'*+.^_`{|}~0-9a-z-]++").fullmatch
_continued = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?").fullmatch


class Parameterised(NamedTuple):
    """A structured value."""

    value: str
    """What stands before the parameters, in lower case."""
    parameters: dict[str, str]
    """Values, decoded, by lower-case name."""


def parse_parameters(value: bytes) -> Parameterised:
    """The value and the first `limits.PARAMETERS` parameters of an unfolded field value."""
    start = _main(value)
    if start is None:
        return Parameterised("", {})
    pieces: dict[str, dict[int, tuple[bool, bytes]]] = {}
    position = start.end()
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
        pieces.setdefault(base, {}).setdefault(int(number or 0), (percent is not None, octets))
    parameters = {name: _assembled(numbered) for name, numbered in pieces.items()}
    return Parameterised(start[1].decode("latin-1").lower(), parameters)


def media_type(value: bytes, default: str) -> Parameterised:
    """A Content-Type value: "type/subtype" in lower case; `default` without parameters when it is none."""
    parsed = parse_parameters(value)
    if not _media_type(parsed.value):
        return Parameterised(default, {})
    return parsed


def _assembled(numbered: dict[int, tuple[bool, bytes]]) -> str:
    if len(numbered) == 1 and not (first := next(iter(numbered.values())))[0]:
        return decode_words(first[1])
    charset = ""
    out: list[bytes] = []
    for position, (_, (percent, octets)) in enumerate(sorted(numbered.items())):
        if percent:
            if position == 0 and octets.count(b"'") >= 2:
                label, _, octets = octets.split(b"'", 2)
                charset = label.decode("latin-1")
            octets = unquote_to_bytes(octets)
        out.append(octets)
    whole = b"".join(out)
    text = decode_charset(whole, charset) if charset else None
    return decode_unlabelled(whole) if text is None else text
