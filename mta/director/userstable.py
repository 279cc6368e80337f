"""The file of a director that says where users are: an address and the name of a back end a line."""

from __future__ import annotations

from pathlib import Path

from mta.address import AddressError, parse_address
from mta.policy.tablefile import Mistakes, read_lines


def read_users(path: Path, octets: bytes | None = None) -> dict[str, str]:
    """A table of users and back ends. Raises TableError, which names file and line."""
    found: dict[str, str] = {}
    mistakes = Mistakes(path)
    for number, line in enumerate(read_lines(path, octets), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            mistakes.add(number, "expected an address and the name of a back end")
            continue
        try:
            found[parse_address(words[0]).key] = words[1]
        except AddressError as error:
            mistakes.add(number, error)
    mistakes.check()
    return found
