"""The file of a director that says where users are: an address and the name of a back end a line."""

from __future__ import annotations

from pathlib import Path

from mta.address import AddressError, parse_address
from mta.policy.watched import TableError


def read_users(path: Path) -> dict[str, str]:
    """A table of users and back ends. Raises TableError, which names file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise TableError(f"{path}:{number}: expected an address and the name of a back end")
        try:
            found[parse_address(words[0]).key] = words[1]
        except AddressError as error:
            raise TableError(f"{path}:{number}: {error}") from error
    return found
