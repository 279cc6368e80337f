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
from mta.policy.tablefile import Complain, Mistakes, read_lines
from mta.tables.table import KEY_MOST, folded


def read_aliases(path: Path, octets: bytes | None = None) -> dict[str, str]:
    """All entries. Raises TableError with file and line."""
    mistakes = Mistakes(path)
    found = parse_aliases(read_lines(path, octets), mistakes.add)
    mistakes.check()
    return found


def parse_aliases(lines: Iterable[str], complain: Complain) -> dict[str, str]:
    """All entries. `complain` hears of those that are none."""
    found: dict[str, str] = {}
    for number, text in _logical(lines, complain):
        try:
            name, value = _split(text)
        except ValueError as error:
            complain(number, error)
            continue
        if name in found:
            complain(number, f"{name} is there twice")
            continue
        found[name] = value
        try:
            read_targets(value)
        except AliasError as error:
            complain(number, f"{name}: {error}")
    return found


def _logical(lines: Iterable[str], complain: Complain) -> Iterator[tuple[int, str]]:
    """Lines with those that go on with them, each with the number of the first."""
    begun = 0
    parts: list[str] = []
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip()
        if not line or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t":
            if not begun:
                complain(number, "a line that begins with a blank goes on with the one before")
                continue
            parts.append(line.strip())
            continue
        if begun:
            yield begun, " ".join(parts)
        begun, parts = number, [line]
    if begun:
        yield begun, " ".join(parts)


def _split(text: str) -> tuple[str, str]:
    """Name and value. Raises ValueError."""
    if text.startswith('"'):
        name, quote, rest = text[1:].partition('"')
        if not quote or "\\" in name:
            raise ValueError("the quote of the name is not closed, or a backslash is in it")
        domain, colon, value = rest.partition(":")
        name += domain.rstrip()
        if domain.strip() and not domain.startswith("@"):
            raise ValueError("':' is expected behind the quoted name")
    else:
        name, colon, value = text.partition(":")
        name = name.rstrip()
        if any(character.isspace() for character in name):
            raise ValueError("a name with blanks stands in quotes, and ':' behind it")
    if not colon or not name:
        raise ValueError("'name: address, ...' is expected")
    if len(name) > KEY_MOST:
        raise ValueError("the name is too long")
    return folded(name), value.strip()
