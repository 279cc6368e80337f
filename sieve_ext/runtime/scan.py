"""What a scanner has found out about a message and written into its header (RFC 5235), as a number.

An administrator says which field that is and how to read it:

    sieve_spamtest_status_header = X-Spam-Status: score=(-?[[:digit:]]+\\.[[:digit:]])
    sieve_spamtest_status_type = score         (or strlen, or text)
    sieve_spamtest_score_max_value = 5.0       (or sieve_spamtest_score_max_header = NAME[: EXPRESSION])
    sieve_spamtest_text_value/10 = spam        (for text: what means which score)

An expression has one group, which is the value; without one the value is all of the field. The same keys with
`virustest` serve that test, whose scores go up to 5.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import re2

if TYPE_CHECKING:
    from sieve_ext.message import Message
    from sieve_ext.runtime.settings import Settings

_number = re.compile(r"[+-]?\d{1,9}(?:[.,]\d{0,9})?").fullmatch

ROUNDING = 0.001
"""What a score may lack to the next number, for decimals are not exact."""


def ratio(message: Message, settings: Settings, test: str, highest: int) -> float | None:
    """How bad a message is, 0 to 1, None when it was not tested, or what was found cannot be read.

    `test` is "spamtest" or "virustest", `highest` its highest score.
    """
    prefix = f"sieve_{test}_"
    status = _status(message, settings.text(f"{prefix}status_header"))
    if status is None:
        return None
    kind = settings.text(f"{prefix}status_type", "score") or "score"
    if kind == "text":
        for score in range(highest + 1):
            if status in (
                settings.text(f"{prefix}text_value/{score}", "\0"),
                settings.text(f"{prefix}text_value{score}", "\0"),
            ):
                return score / highest if score else None
        return None
    found = float(len(status)) if kind == "strlen" else _read(status)
    most = _most(message, settings, prefix)
    if found is None or most is None or most <= 0:
        return None
    return min(max(found / most, 0.0), 1.0)


def score(part: float | None, highest: int) -> str:
    """A ratio as a score from 1 to `highest`; "0" for what was not tested (RFC 5235 section 2.1)."""
    return "0" if part is None else str(int(part * (highest - 1) + 1 + ROUNDING))


def percent(part: float | None) -> str:
    """A ratio as a percentage, "0" also for what was not tested (RFC 5235 section 2.2)."""
    return "0" if part is None else str(int(part * 100 + ROUNDING))


def _most(message: Message, settings: Settings, prefix: str) -> float | None:
    for key in (f"{prefix}score_max_header", f"{prefix}max_header"):
        header = settings.text(key)
        if header:
            status = _status(message, header)
            return None if status is None else _read(status)
    value = settings.text(f"{prefix}score_max_value") or settings.text(f"{prefix}max_value")
    return _read(value) if value else None


def _read(text: str) -> float | None:
    return float(text.strip().replace(",", ".")) if _number(text.strip()) else None


def _status(message: Message, header: str) -> str | None:
    name, _, pattern = header.partition(":")
    name, pattern = name.strip().lower(), pattern.strip()
    field = message.get(name) if name else None
    if field is None:
        return None
    if not pattern:
        return field.text
    expression = _expression(pattern)
    found = expression.search(field.text) if expression is not None else None
    if found is None:
        return None
    return str((found.group(1) if expression.groups else found.group(0)) or "")


@lru_cache(maxsize=32)
def _expression(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None
