"""The text form of a table: a key and its value a line, as Postfix's maps have it.

    # comment
    ann@example.org     box1.example.org
    "two words"         keys with blanks stand in quotes
    listed.example
    long@example.org    a value that goes on
        in the next line

The value begins behind the first blank and may be missing. Upper and lower case of keys are the same. Of a
key that is there twice the first line counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mta.policy.tablefile import Complain
from mta.tables.table import folded


def entries(lines: Iterable[str], complain: Complain) -> Iterator[tuple[int, str, str]]:
    """Line number, folded key and value of each entry. `complain` hears of lines that are none."""
    begun = 0
    text = ""
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip()
        if not line or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t":
            if not begun:
                complain(number, "a line that begins with a blank goes on with the one before")
                continue
            text += " " + line.strip()
            continue
        if begun and (entry := _split(begun, text, complain)) is not None:
            yield entry
        begun, text = number, line
    if begun and (entry := _split(begun, text, complain)) is not None:
        yield entry


def _split(number: int, line: str, complain: Complain) -> tuple[int, str, str] | None:
    if line[0] != '"':
        key, *rest = line.split(None, 1)
        return number, folded(key), rest[0] if rest else ""
    key, quote, rest_ = line[1:].partition('"')
    if not quote or (rest_ and not rest_[0].isspace()):
        complain(number, "the quote is not closed, or something is stuck to it")
        return None
    return number, folded(key.strip()), rest_.strip()
