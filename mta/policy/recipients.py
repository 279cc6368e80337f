"""Who exists: the sources of valid recipients that a domain may name.

A source answers None for "exists", or the Reply that refuses the recipient; at once, or by an awaitable
when somebody else has to be asked. The caller has removed the subaddress from the local part.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mta.address import NULL, Address, AddressError, parse_address
from mta.lastgood import NOBODY, LastGood
from mta.policy.tablefile import Mistakes, read_lines
from mta.policy.watched import Watched
from mta.reply import Reply
from mta.tables.table import Found, Table, TableUnavailable, folded

NO_SUCH_USER = Reply(550, "5.1.1", "no such user")
TABLE_AWAY = Reply(451, "4.3.0", "the recipient cannot be looked up now, try again later")

Existence = Reply | None


class RecipientSource(Protocol):
    """Knows the recipients of a domain."""

    def find(self, address: Address) -> Existence | Awaitable[Existence]:
        """None when `address` exists, else the refusal."""


class Everybody:
    """recipients = "all": the back end refuses after the data."""

    def find(self, address: Address) -> Existence:
        """Everybody exists."""
        return None


class Directory:
    """recipients = "users": a lookup in memory, such as the users file."""

    def __init__(self, exists: Callable[[str], bool]) -> None:
        """`exists` is asked with `Address.key`."""
        self._exists = exists

    def find(self, address: Address) -> Existence:
        """Look the address up."""
        return None if self._exists(address.key) else NO_SUCH_USER


class Lookup:
    """recipients = "table:NAME": a table of the configuration has the address."""

    def __init__(self, table: Table, *, is_file: bool = False) -> None:
        """Look up in `table`; where to look first is its own business (search = "address").

        A file may name a local part for every domain that uses it, as one without a section does.
        """
        self._table = table
        self._is_file = is_file

    def find(self, address: Address) -> Existence | Awaitable[Existence]:
        """Look the address up; a table that cannot say means "try later"."""
        try:
            found = self._table.get(address.key)
            if found is None and self._is_file:
                found = self._table.get(folded(address.local))
        except TableUnavailable as error:
            return replace(TABLE_AWAY, cause=str(error))
        if isinstance(found, str) or found is None:
            return NO_SUCH_USER if found is None else None
        return self._wait(found)

    async def _wait(self, found: Awaitable[Found]) -> Existence:
        try:
            return NO_SUCH_USER if await found is None else None
        except TableUnavailable as error:
            return replace(TABLE_AWAY, cause=str(error))


class RecipientFile:
    """recipients = "table:FILE": one address, or one local part for every domain that uses it, a line.

    Blank lines and lines that begin with "#" are skipped.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        *,
        complain: Callable[[str], None] = lambda text: None,
        good: LastGood = NOBODY,
    ) -> None:
        """Read `path`. Raises TableError. `complain` hears about a bad file later on.

        `good` has what others have read there.
        """
        self._keys = Watched(path, read_table, clock, complain=complain, good=good)

    def find(self, address: Address) -> Existence:
        """Look address and local part up."""
        keys = self._keys.content()
        return None if address.key in keys or folded(address.local) in keys else NO_SUCH_USER


def read_table(path: Path, octets: bytes | None = None) -> frozenset[str]:
    """The keys of a recipient table. Raises TableError with file and line."""
    keys, mistakes = set(), Mistakes(path)
    for number, line in enumerate(read_lines(path, octets), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if "@" in word:
            try:
                keys.add(parse_address(word).key)
            except AddressError as error:
                first, *more = word.split()
                # As in the maps of Postfix.
                reason = "a value stands behind it: a file of keys and values is a [tables.NAME]"
                mistakes.add(number, f"{first}: {reason}" if more else f"{word}: {error}")
        elif any(character.isspace() for character in word):
            mistakes.add(number, f"one address or local part a line is expected, found {word!r}")
        else:
            keys.add(folded(word))
    mistakes.check()
    return frozenset(keys)


Verify = Callable[[Address, Address], Awaitable[Reply]]
"""Ask a back end whether it takes mail from a sender for a recipient; the reply to its RCPT."""


class AskBackend:
    """recipients = "ask": the LMTP back end says at RCPT what it would say later, and is remembered.

    Only lasting answers are remembered: acceptance for `positive` seconds, a permanent refusal for
    `negative`. A temporary answer, or a back end that is away, is passed on each time.
    """

    def __init__(
        self,
        verify: Verify,
        clock: Callable[[], float],
        *,
        positive: float = 600.0,
        negative: float = 60.0,
        entries: int = 50_000,
    ) -> None:
        """`verify` asks; at most `entries` answers are kept, the oldest make room."""
        self._verify = verify
        self._clock = clock
        self._positive = positive
        self._negative = negative
        self._entries = entries
        self._cache: dict[str, tuple[float, Reply | None]] = {}

    def find(self, address: Address) -> Existence | Awaitable[Existence]:
        """Answer from memory, or ask."""
        cached = self._cache.get(address.key)
        if cached is not None and cached[0] > self._clock():
            return cached[1]
        return self._ask(address)

    async def _ask(self, address: Address) -> Existence:
        # The null sender: what is asked is whether the recipient exists, not whom it likes.
        reply = await self._verify(NULL, address)
        if reply.is_temporary:
            return reply
        answer = None if reply.is_positive else reply
        cache = self._cache
        cache.pop(address.key, None)
        cache[address.key] = (self._clock() + (self._positive if answer is None else self._negative), answer)
        if len(cache) > self._entries:
            del cache[next(iter(cache))]
        return answer
