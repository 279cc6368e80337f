"""Durations and sizes as an administrator writes them: "5s", "1m30s", "50MiB".

A number without its unit is refused: 300 could be seconds, minutes or kilobytes, and a wrong guess is
noticed in production. Inside the program a duration is a float in seconds and a size an int in octets.
All functions are pure; `ValueError` carries a sentence for the administrator.
"""

from __future__ import annotations

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_OCTETS = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
LONGEST_DURATION = 10 * 365 * 86400.0
"""Ten years, in seconds: more is a slip of the pen, and event loops refuse far timers."""

LARGEST_SIZE = (1 << 63) - 1
"""Octets, as files count them."""
_MOST_DIGITS = 30
"""Of a number in front of a unit of size; Python would refuse some thousand in words of its own."""


def parse_duration(text: str) -> float:
    """Seconds of a duration such as "5s", "1.5h", "1m30s" or "250ms". Raises ValueError."""
    rest = text.strip()
    if not rest:
        raise ValueError("the duration is empty")
    total = 0.0
    last = float("inf")
    while rest:
        number, rest = _number(rest)
        unit, rest = _letters(rest)
        if not number:
            raise ValueError("a duration begins with a number")
        if not unit:
            raise ValueError("the unit is missing")
        factor = _SECONDS.get(unit)
        if factor is None:
            raise ValueError(f"{unit!r} is no unit of time")
        if factor >= last:
            raise ValueError("units must become smaller from left to right, each used once")
        last = factor
        total += float(number) * factor
    if total > LONGEST_DURATION:
        raise ValueError("the duration is longer than ten years")
    return total


def format_duration(seconds: float) -> str:
    """The shortest usual text of a duration: 90 is "1m30s", 0.25 is "250ms"."""
    if seconds == 0:
        return "0s"
    milliseconds = round(seconds * 1000)
    parts = []
    for unit, factor in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, factor)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Octets of a size such as "50MiB", "10 MB" or "512B". Raises ValueError.

    KiB, MiB, GiB and TiB are powers of 1024; kB, MB, GB and TB are powers of 1000.
    """
    number, rest = _number(text.strip())
    if not number:
        raise ValueError("a size begins with a number")
    unit = rest.strip()
    if not unit:
        raise ValueError("the unit is missing")
    factor = _OCTETS.get(unit)
    if factor is None:
        raise ValueError(f"{unit!r} is no unit of size")
    if len(number) > _MOST_DIGITS:
        raise ValueError("the number has too many digits")
    octets = float(number) * factor if "." in number else int(number) * factor
    if octets > LARGEST_SIZE:
        raise ValueError("it is larger than 8 EiB")
    if octets != int(octets):
        raise ValueError("the size is not a whole number of octets")
    return int(octets)


def format_size(octets: int) -> str:
    """The shortest exact text of a size: 52428800 is "50MiB", 1000 is "1000B"."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        count, rest = divmod(octets, _OCTETS[unit])
        if count and not rest:
            return f"{count}{unit}"
    return f"{octets}B"


def _number(text: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and (text[end] in "0123456789" or (text[end] == "." and end)):
        end += 1
    number = text[:end]
    if number.count(".") > 1 or number.endswith("."):
        raise ValueError(f"{number!r} is no number")
    return number, text[end:]


def _letters(text: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and text[end].isalpha():
        end += 1
    return text[:end], text[end:]
