"""What is the same for every source: deadline, rest after failures, cache, spelling, search order, others.

    Ignoring(Searched(Folded(Cached(Guarded(source)))))

Each is a `mta.tables.table.Table` around another; what answers at once goes through without a task.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence

from mta.tables.table import KEY_MOST, Found, Table, TableUnavailable, folded

REST = 2.0
"""Seconds for which a source that failed `FAILURES` times in a row is not asked: sessions do not queue up
before a dead server."""
FAILURES = 3
ABOVE_MOST = 8
"""Domains above another one that are looked up: who sends chooses the name, and each costs a question."""


class Guarded:
    """A source that answers in time, or says that it cannot; the administrator hears when that changes."""

    def __init__(
        self,
        name: str,
        source: Table,
        timeout: float,
        clock: Callable[[], float],
        changed: Callable[[str, bool, str], None] = lambda name, there, reason: None,
    ) -> None:
        """`changed` is told name, whether it answers, and why not."""
        self._name = name
        self._source = source
        self._timeout = timeout
        self._clock = clock
        self._changed = changed
        self._failures = 0
        self._rests_until = 0.0

    def get(self, key: str) -> Found | Awaitable[Found]:
        """Ask the source, unless it rests."""
        if len(key) > KEY_MOST:
            return None
        if self._failures >= FAILURES:
            now = self._clock()
            if now < self._rests_until:
                raise TableUnavailable(f"table {self._name}: it has just failed {self._failures} times")
            # One question finds out for all whether it is back: they would all wait for `timeout`.
            self._rests_until = now + self._timeout
        try:
            found = self._source.get(key)
        except TableUnavailable as error:
            raise self._failed(str(error)) from error
        if isinstance(found, str) or found is None:
            self._well()
            return found
        return self._wait(found)

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()

    async def _wait(self, found: Awaitable[Found]) -> Found:
        try:
            async with asyncio.timeout(self._timeout):
                value = await found
        except TableUnavailable as error:
            raise self._failed(str(error)) from error
        except TimeoutError as error:
            raise self._failed(f"no answer within {self._timeout:g} s") from error
        self._well()
        return value

    def _well(self) -> None:
        if self._failures >= FAILURES:
            self._changed(self._name, True, "")
        self._failures = 0

    def _failed(self, reason: str) -> TableUnavailable:
        self._failures += 1
        self._rests_until = self._clock() + REST
        if self._failures == FAILURES:
            self._changed(self._name, False, reason)
        return TableUnavailable(f"table {self._name}: {reason}")


class Cached:
    """Remembers what a source said, found or not, for some time; failures are not remembered.

    Whoever asks for a key that is being asked for waits for the same answer.
    """

    def __init__(
        self, source: Table, positive: float, negative: float, entries: int, clock: Callable[[], float]
    ) -> None:
        """Keep values `positive` seconds, absence `negative`; of more than `entries` the oldest goes."""
        self._source = source
        self._positive = positive
        self._negative = negative
        self._entries = entries
        self._clock = clock
        self._known: dict[str, tuple[float, Found]] = {}
        self._asked: dict[str, asyncio.Task[Found]] = {}

    def get(self, key: str) -> Found | Awaitable[Found]:
        """From memory, or from the source."""
        known = self._known.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        asked = self._asked.get(key)
        if asked is None:
            found = self._source.get(key)
            if isinstance(found, str) or found is None:
                self._keep(key, found)
                return found
            asked = self._asked[key] = asyncio.ensure_future(self._ask(key, found))
            asked.add_done_callback(_heard)
        return asyncio.shield(asked)

    async def close(self) -> None:
        """Close the source."""
        for task in tuple(self._asked.values()):
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        await self._source.close()

    async def _ask(self, key: str, found: Awaitable[Found]) -> Found:
        try:
            value = await found
        finally:
            del self._asked[key]
        self._keep(key, value)
        return value

    def _keep(self, key: str, value: Found) -> None:
        lasts = self._negative if value is None else self._positive
        if lasts <= 0:
            return
        known = self._known
        known.pop(key, None)
        known[key] = (self._clock() + lasts, value)
        if len(known) > self._entries:
            del known[next(iter(known))]


def _heard(asked: asyncio.Task[Found]) -> None:
    """Take note of a failure that nobody waits for any more: it was told when it happened."""
    if not asked.cancelled():
        asked.exception()


class Folded:
    """A server that is asked for keys as files have them, as Postfix asks: databases tell letters apart, and
    a client chooses how it writes an address."""

    def __init__(self, source: Table) -> None:
        """Around the cache, so that one answer is kept for all spellings."""
        self._source = source

    def get(self, key: str) -> Found | Awaitable[Found]:
        """The value of the key in its one spelling."""
        return self._source.get(folded(key))

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()


class Ignoring:
    """on_error = "ignore": what cannot be said is not there."""

    def __init__(self, source: Table) -> None:
        """Around everything else, so that no failure is remembered."""
        self._source = source

    def get(self, key: str) -> Found | Awaitable[Found]:
        """The value, None as well when the table cannot say."""
        try:
            found = self._source.get(key)
        except TableUnavailable:
            return None
        return found if isinstance(found, str) or found is None else self._wait(found)

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()

    async def _wait(self, found: Awaitable[Found]) -> Found:
        try:
            return await found
        except TableUnavailable:
            return None


def address_keys(key: str, delimiters: str) -> tuple[str, ...]:
    """Where an address is looked for, in order: user+ext@dom, user@dom, @dom; other keys as they are."""
    local, at, domain = key.rpartition("@")
    if not at:
        return (key,)
    found = [key]
    cut = min((place for one in delimiters if (place := local.find(one, 1)) > 0), default=-1)
    if cut > 0:
        found.append(f"{local[:cut]}@{domain}")
    if local:
        found.append(f"@{domain}")
    return tuple(found)


def access_keys(key: str, delimiters: str) -> tuple[str, ...]:
    """Where a client, a domain or an address is looked for in an access map, in the order of access(5)."""
    _, at, domain = key.rpartition("@")
    if not at:
        if _is_ipv4(key):
            parts = key.split(".")
            return tuple(".".join(parts[:count]) for count in (4, 3, 2, 1))
        return _above(key)
    whole = address_keys(key, delimiters)
    user = whole[1] if len(whole) > 1 and not whole[1].startswith("@") else key
    return tuple(dict.fromkeys((key, user, *_above(domain), f"{user.rpartition('@')[0]}@")))


def _above(domain: str) -> tuple[str, ...]:
    """A domain and those above it, of which the nearest are left out where there are too many."""
    labels = domain.split(".")
    if domain.startswith("[") or ":" in domain:
        return (domain,)
    return (
        domain,
        *(".".join(labels[first:]) for first in range(max(1, len(labels) - ABOVE_MOST), len(labels))),
    )


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


SEARCHES = {"address": address_keys, "access": access_keys}
"""By the name of the option `search`."""


class Searched:
    """Looks a key up in several forms, as Postfix does."""

    def __init__(
        self, source: Table, delimiters: str, forms: Callable[[str, str], tuple[str, ...]] = address_keys
    ) -> None:
        """`delimiters` each begin an extension; `forms` says where a key is looked for."""
        self._source = source
        self._delimiters = delimiters
        self._forms = forms

    def get(self, key: str) -> Found | Awaitable[Found]:
        """The value of the first form that is there."""
        return _first([(self._source, one) for one in self._forms(key, self._delimiters)])

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()


class Chain:
    """type = "chain": several tables in order; the first that has the key says its value."""

    def __init__(self, tables: Sequence[Table]) -> None:
        """Of tables that others close."""
        self._tables = tables

    def get(self, key: str) -> Found | Awaitable[Found]:
        """The first value; a table that cannot say ends the search, for it may have had it."""
        return _first([(table, key) for table in self._tables])

    async def close(self) -> None:
        """Nothing: the tables are closed by themselves."""


def _first(places: Sequence[tuple[Table, str]]) -> Found | Awaitable[Found]:
    for number, (table, key) in enumerate(places):
        found = table.get(key)
        if found is None:
            continue
        if isinstance(found, str):
            return found
        return _first_later(found, places[number + 1 :])
    return None


async def _first_later(found: Awaitable[Found], places: Sequence[tuple[Table, str]]) -> Found:
    value = await found
    if value is not None:
        return value
    rest = _first(places)
    return rest if isinstance(rest, str) or rest is None else await rest


class Failover:
    """type = "failover": several tables that know the same; the first that can say counts."""

    def __init__(self, tables: Sequence[Table]) -> None:
        """Of tables that others close, at least one."""
        self._tables = tables

    def get(self, key: str) -> Found | Awaitable[Found]:
        """What the first table that can says. Raises TableUnavailable of the last one when none can."""
        return _able(self._tables, key)

    async def close(self) -> None:
        """Nothing: the tables are closed by themselves."""


def _able(tables: Sequence[Table], key: str) -> Found | Awaitable[Found]:
    *before, last = tables
    for number, table in enumerate(before, 1):
        try:
            found = table.get(key)
        except TableUnavailable:
            continue
        return found if isinstance(found, str) or found is None else _able_later(found, tables[number:], key)
    return last.get(key)


async def _able_later(found: Awaitable[Found], others: Sequence[Table], key: str) -> Found:
    try:
        return await found
    except TableUnavailable:
        other = _able(others, key)
    return other if isinstance(other, str) or other is None else await other
