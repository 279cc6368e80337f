"""Where the keys that sign come from: the folder of `tamis dkim`, or a table that names files.

    # domain        selector        file
    example.org     20261127-rsa    /etc/tamis/keys/example.rsa.pem
    example.org     20261127-ed     example.ed25519.pem

A file of the table without a leading "/" is in the table's folder. All keys of a domain sign. A changed table
is read again within a second; one that cannot be read leaves the old content in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mta.address import AddressError, domain_key
from mta.authn.dkimkeys import SigningKey, check_selector, load_key
from mta.lastgood import NOBODY, LastGood
from mta.policy.tablefile import Mistakes, read_lines
from mta.policy.watched import Watched

Entries = Mapping[str, Sequence[tuple[str, Path]]]
"""Selector and file of the keys of each domain."""


class KeySource(Protocol):
    """Something that has keys."""

    def signing_keys(self, domain: str) -> tuple[SigningKey, ...]:
        """The keys that sign for a domain (in lower case and A-labels), RSA first; empty when it has none.

        Raises KeyFileError when it has some that cannot be used.
        """


class KeyTable:
    """A table of key files."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        complain: Callable[[str], None],
        good: LastGood = NOBODY,
    ) -> None:
        """Read the table. Raises TableError; later on it goes to `complain`. `good` has what others read."""
        self._entries = Watched(path, read_key_table, clock, complain=complain, good=good)

    def signing_keys(self, domain: str) -> tuple[SigningKey, ...]:
        """See `KeySource`."""
        entries = self._entries.content().get(domain, ())
        keys = [load_key(path, domain, selector) for selector, path in entries]
        keys.sort(key=lambda key: key.type != "rsa")
        return tuple(keys)


def read_key_table(path: Path, octets: bytes | None = None) -> Entries:
    """The content of a table. Raises TableError, which names file and line."""
    found: dict[str, list[tuple[str, Path]]] = {}
    mistakes = Mistakes(path)
    for number, line in enumerate(read_lines(path, octets), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split()
        if len(words) != 3:
            mistakes.add(number, "expected a domain, a selector and a file")
            continue
        try:
            domain, selector = domain_key(words[0]), check_selector(words[1])
        except (AddressError, ValueError) as error:
            mistakes.add(number, error)
            continue
        found.setdefault(domain, []).append((selector, path.parent / words[2]))
    mistakes.check()
    return found


def nearest_keys(source: KeySource, domain: str) -> tuple[SigningKey, ...]:
    """The keys of a domain, or else of the nearest domain above it that has some; empty if none has.

    A signature of the domain above is aligned with the one below (RFC 9989, unless "adkim=s"). Raises
    KeyFileError.
    """
    while "." in domain:
        keys = source.signing_keys(domain)
        if keys:
            return keys
        domain = domain.partition(".")[2]
    return ()
