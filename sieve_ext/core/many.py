"""One of many strings within a text, in one pass over the text whatever their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import re2

LEAST = 12
"""Strings from which one pass is faster than one search each."""


def finder(keys: Sequence[str]) -> Callable[[str], bool]:
    """A function that tells whether one of `keys` is part of a text."""

    def find_each(text: str) -> bool:
        return any(key in text for key in keys)

    if len(keys) < LEAST:
        return find_each
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        search = re2.compile("|".join(map(re2.escape, keys)), options).search
    except (re2.error, UnicodeEncodeError):  # too many for the memory of one expression, or no Unicode
        return find_each

    def find(text: str) -> bool:
        try:
            return search(text) is not None
        except UnicodeEncodeError:  # octets of a message that are no Unicode
            return find_each(text)

    return find
