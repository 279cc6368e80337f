"""A log line as octets: JSON for machines, text for people.

Of what a field holds only the absurd makes it raise (a list in itself, a number of thousands of digits);
`mta.log` then writes the line without its fields.

JSON is one object a line: `time` (UTC, ISO 8601, milliseconds), `level`, `logger`, `event`, then the fields
as they were given. Text is the same in one line that reads like a sentence with details:

    2026-11-22T10:21:46.123Z info    smtp: message  session=4fTx from=<a@example.org> size=4096

Strings from outside cannot forge a line: what is not printable, or would be ambiguous, is quoted and
escaped. A field that has no JSON form is written as its repr.
"""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Mapping, MutableMapping
from math import isfinite
from typing import Any

import msgspec

_has_unclear = re.compile('[ "=,\\]}]').search
"""Finds a character for which a word in a list is quoted."""
_MILLISECONDS = [f".{count:03d}Z" for count in range(1000)]

_RESET, _DIM, _BOLD = "\x1b[0m", "\x1b[2m", "\x1b[1m"
_LEVELS = {name: f"{name:<7}" for name in ("debug", "info", "warning", "error")}
_COLOURS = {"debug": _DIM, "info": "", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31;1m"}


class TimeStamp:
    """The current time as text; the part down to the second is made once a second."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        """Nothing made yet."""
        self._second = -1
        self._prefix = ""

    def __call__(self, now: float) -> str:
        """`now` (seconds of the epoch) as 2026-11-22T10:21:46.123Z."""
        second = int(now)
        if second != self._second:
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return self._prefix + _MILLISECONDS[int((now - second) * 1000)]


def as_json(stamp: str, level: str, name: str, fields: MutableMapping[str, Any]) -> bytes:
    """One line of JSON with its line end; `fields` has `event` and is used up."""
    event = fields.pop("event", "")
    _explain(fields)
    line = {"time": stamp, "level": level, "logger": name, "event": event, **fields}
    try:
        octets = _ENCODER.encode(line)
        # What needs an escape for JSON has one. A line in ASCII, as nearly all are, holds nothing else that
        # does anything to the terminal of who reads the log.
        return (octets if octets.isascii() else _escaped(octets)) + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError, AttributeError):
        return json.dumps({key: _plain(value) for key, value in line.items()}).encode("ascii") + b"\n"


def _escaped(line: bytes) -> bytes:
    """A line of JSON with escapes for what is not printable, such as marks of direction."""
    text = line.decode()
    if text.isprintable():
        return line
    return "".join([c if c.isprintable() else json.dumps(c)[1:-1] for c in text]).encode()


def as_text(
    stamp: str, level: str, name: str, fields: MutableMapping[str, Any], *, colour: bool = False
) -> bytes:
    """One line of text with its line end, a traceback indented under it; `fields` is used up."""
    event = word(fields.pop("event", ""), spaces=True)
    _explain(fields)
    trouble = fields.pop("exception", None)
    if colour:
        shade = _COLOURS.get(level, "")
        text = f"{_DIM}{stamp}{_RESET} {shade}{level:<7}{_RESET} {name}: {_BOLD}{shade}{event}{_RESET}"
        if fields:
            text += " " + "".join([f" {_DIM}{key}={_RESET}{_value(fields[key])}" for key in fields])
    else:
        text = f"{stamp} {_LEVELS.get(level, level)} {name}: {event}"
        if fields:
            details = _details(fields)
            if not details.isprintable():  # one look at all instead of one at each: they nearly always are
                details = "".join([f" {key}={_value(fields[key])}" for key in fields])
            text = f"{text} {details}"
    if trouble is not None:
        text += "\n    " + "\n    ".join(map(_printable, str(trouble).rstrip().split("\n")))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _details(fields: Mapping[str, Any]) -> str:
    """The fields as text, right only when the result is printable."""
    parts = []
    for key, value in fields.items():
        kind = type(value)
        if kind is str:
            if " " in value or '"' in value or "=" in value or not value:
                value = word(value)
        elif kind is not int:
            value = _brief(value) if kind is list or kind is dict else _value(value)
        parts.append(f" {key}={value}")
    return "".join(parts)


def _brief(value: object) -> str:
    """`_value` of what is no string, and of what is listed in it, right only when the result is printable."""
    kind = type(value)
    if kind is list:
        return "[" + ", ".join([_item(one) if type(one) is str else _brief(one) for one in value]) + "]"  # type: ignore[attr-defined]
    if kind is dict:
        parts = []
        for key, one in value.items():  # type: ignore[attr-defined]
            name = key if type(key) is str and key.isidentifier() else word(key, listed=True)
            if type(one) is not str:
                one = _brief(one)
            elif not one or _has_unclear(one):
                one = _item(one)
            parts.append(f"{name}={one}")
        return "{" + ", ".join(parts) + "}"
    return _value(value, True)


def _item(text: str) -> str:
    """`word` of something listed, right only when it is printable."""
    if _has_unclear(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text or '""'


def word(value: object, *, spaces: bool = False, listed: bool = False) -> str:
    """A string as it is when that is unmistakable, else in quotes with escapes.

    `spaces` need no quotes in an event; commas and brackets do when `listed`.
    """
    text = value if type(value) is str else str(_plain(value))
    if not text.isprintable() or not text:
        return json.dumps(text)
    clear = (spaces or " " not in text) and '"' not in text and "=" not in text
    if clear and not (listed and ("," in text or "]" in text or "}" in text)):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _value(value: object, listed: bool = False) -> str:
    kind = type(value)
    if kind is str:
        return word(value, listed=listed)
    if kind is int:
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return (
            "["
            + ", ".join([word(v, listed=True) if type(v) is str else _value(v, True) for v in value])
            + "]"
        )
    if kind is float:
        return f"{value:.6g}"
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        items = [f"{word(key, listed=True)}={_value(item, True)}" for key, item in value.items()]
        return "{" + ", ".join(items) + "}"
    return word(value, listed=listed)


def _explain(fields: MutableMapping[str, Any]) -> None:
    """Turn `exc_info` (True is resolved by the caller) into the text of the traceback."""
    if "exc_info" not in fields:
        return
    problem = fields.pop("exc_info")
    if isinstance(problem, tuple):
        problem = problem[1]
    if isinstance(problem, BaseException):
        fields["exception"] = "".join(traceback.format_exception(problem))


def _plain(value: object) -> object:
    if value is None or isinstance(value, (str, int)) or (isinstance(value, float) and isfinite(value)):
        return value
    try:
        return str(value)
    except Exception as problem:  # noqa: BLE001 - a broken __str__ must not break the log
        return f"<{type(value).__name__}: {type(problem).__name__} in str()>"


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
