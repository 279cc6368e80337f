"""type = "aliases": a file as sendmail and Postfix have it, /etc/aliases.

    # comment
    postmaster: root
    root: ann@example.org,
        bob
    "two words": carol
    support+urgent: bob

A line that begins with a blank goes on with the one before. Names are looked up in lower case. Programs,
files and `:include:` are refused with file and line, and so is a name that is there twice. Who looks up is
given the addresses as they stand (`mta.policy.aliases`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mta.policy.aliases import AliasError, read_targets
from mta.policy.watched import TableError
from mta.tables.table import KEY_MOST


def read_aliases(path: Path) -> dict[str, str]:
    """All entries. Raises TableError with file and line."""
    try:
        with open(path, encoding="utf-8") as lines:
            return parse_aliases(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: {error}") from error
    except ValueError as error:
        raise TableError(f"{path}:{error}") from error


def parse_aliases(lines: Iterable[str]) -> dict[str, str]:
    """All entries. Raises ValueError with the number of a bad line in front."""
    found: dict[str, str] = {}
    for number, text in _logical(lines):
        name, value = _split(number, text)
        if name in found:
            raise ValueError(f"{number}: {name} is there twice")
        try:
            read_targets(value)
        except AliasError as error:
            raise ValueError(f"{number}: {name}: {error}") from None
        found[name] = value
    return found


def _logical(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines with those that go on with them, each with the number of the first."""
    begun = 0
    parts: list[str] = []
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip()
        if not line or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t":
            if not begun:
                raise ValueError(f"{number}: a line that begins with a blank goes on with the one before")
            parts.append(line.strip())
            continue
        if begun:
            yield begun, " ".join(parts)
        begun, parts = number, [line]
    if begun:
        yield begun, " ".join(parts)


def _split(number: int, text: str) -> tuple[str, str]:
    """Name and value."""
    if text.startswith('"'):
        name, quote, rest = text[1:].partition('"')
        if not quote or "\\" in name:
            raise ValueError(f"{number}: the quote of the name is not closed, or a backslash is in it")
        domain, colon, value = rest.partition(":")
        name += domain.rstrip()
        if domain.strip() and not domain.startswith("@"):
            raise ValueError(f"{number}: ':' is expected behind the quoted name")
    else:
        name, colon, value = text.partition(":")
        name = name.rstrip()
        if any(character.isspace() for character in name):
            raise ValueError(f"{number}: a name with blanks stands in quotes, and ':' behind it")
    if not colon or not name:
        raise ValueError(f"{number}: 'name: address, ...' is expected")
    if len(name) > KEY_MOST:
        raise ValueError(f"{number}: the name is too long")
    return name.lower(), value.strip()
