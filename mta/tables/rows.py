"""What the rows of a database come to as a value, and which keys can be asked for at all."""

from __future__ import annotations

from collections.abc import Iterable

from mta.tables.table import VALUE_MOST, Found, TableUnavailable

ROWS_MOST = 1000
"""Rows of one key."""


def joined(rows: Iterable[tuple[object, ...]]) -> Found:
    """The value that rows come to; NULL is no value. Raises TableUnavailable for too much."""
    found = [str(row[0]) for row in rows if row and row[0] is not None]
    text = ", ".join(found)
    if len(text) > VALUE_MOST:
        raise TableUnavailable(f"a value of {len(text)} characters")
    return text if found else None


def bindable(key: str) -> bool:
    """Whether a database of Unicode texts can have `key` at all; octets that are none come as surrogates."""
    return "\0" not in key and not any("\ud800" <= one <= "\udfff" for one in key)
