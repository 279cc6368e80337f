"""Where the keys that sign come from: the folder of `tamis dkim`, or a table that names files.

    # domain        selector        file
    example.org     20261127-rsa    /etc/tamis/keys/example.rsa.pem
    example.org     20261127-ed     example.ed25519.pem

A file of the table without a leading "/" is in the table's folder. All keys of a domain sign. A changed table
is read again within a second; one that cannot be read leaves the old content in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mta.address import AddressError, domain_key
from mta.authn.dkimkeys import SigningKey, check_selector, load_key
from mta.lastgood import NOBODY, LastGood
from mta.policy.tablefile import Mistakes, read_lines
from mta.policy.watched import Watched

LOOK = 60.0
"""Seconds until `FirstWithKeys` looks again which domain that is."""
AT_ONCE = 100
"""Domains that it looks at before sessions have their turn: some milliseconds."""

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


class FirstWithKeys:
    """The first of some domains that has keys, or a domain above it.

    Thousands may have none, and a look at each costs a system call or two. So the domain is remembered for
    `LOOK` seconds; its keys are those of now.
    """

    def __init__(self, source: KeySource, domains: Sequence[str]) -> None:
        """Nothing is looked for yet."""
        self._source = source
        self._domains = domains
        self._found: str | None = None
        self._next = 0.0
        self._looking = asyncio.Lock()

    async def keys(self) -> tuple[SigningKey, ...]:
        """Its keys, empty when no domain has any. Raises KeyFileError."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next and (self._found is None or not self._looking.locked()):
            async with self._looking:
                if loop.time() >= self._next:
                    self._found, _ = await self._look("")
                    self._next = loop.time() + LOOK
        keys = nearest_keys(self._source, self._found) if self._found else ()
        if self._found and not keys:
            self._next = 0.0
        return keys

    async def with_selector(self, selector: str) -> tuple[SigningKey, ...]:
        """The key of this selector of the first domain that has one. Raises KeyFileError."""
        return (await self._look(selector))[1]

    async def _look(self, selector: str) -> tuple[str, tuple[SigningKey, ...]]:
        for number, domain in enumerate(self._domains, 1):
            keys = nearest_keys(self._source, domain)
            if selector:
                keys = tuple(key for key in keys if key.selector == selector)
            if keys:
                return domain, keys
            if not number % AT_ONCE:
                await asyncio.sleep(0)
        return "", ()
