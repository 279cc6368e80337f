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


def entries(lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """Line number, folded key and value of each entry. Raises ValueError with the number of a bad line."""
    begun = 0
    text = ""
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip()
        if not line or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t":
            if not begun:
                raise ValueError(f"{number}: a line that begins with a blank goes on with the one before")
            text += " " + line.strip()
            continue
        if begun:
            yield (begun, *_split(begun, text))
        begun, text = number, line
    if begun:
        yield (begun, *_split(begun, text))


def _split(number: int, line: str) -> tuple[str, str]:
    if line[0] != '"':
        key, *rest = line.split(None, 1)
        return key.lower(), rest[0] if rest else ""
    key, quote, rest_ = line[1:].partition('"')
    if not quote or (rest_ and not rest_[0].isspace()):
        raise ValueError(f"{number}: the quote is not closed, or something is stuck to it")
    return key.strip().lower(), rest_.strip()
