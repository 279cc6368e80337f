"""Where users are by somebody else's word: a table such as Dovecot's userdb, asked before a route is needed.

A route is found without waiting, so the answer has to be there: `learn` asks, `get` tells what is known. What
a table said is asked again after `FRESH`; while it does not answer, what it said last holds. Of a user of
whom it never said anything nobody knows the place: its mail waits, for the hash may be wrong.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from mta.tables.table import Table, TableUnavailable

FRESH = 30.0
"""Seconds for which an answer is not asked for again."""
REMEMBERED = 100_000
"""Users, about 200 octets each."""


class Places:
    """The places of users by a table."""

    def __init__(
        self,
        table: Table,
        backends: Mapping[str, str],
        clock: Callable[[], float],
        complain: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`backends` gives the name of a back end for what the table may say: its name, its host."""
        self._table = table
        self._backends = backends
        self._clock = clock
        self._complain = complain
        self._known: OrderedDict[str, tuple[float, str]] = OrderedDict()

    async def learn(self, user: str) -> None:
        """Ask about a user unless that was done lately."""
        known = self._known.get(user)
        if known is not None and known[0] > self._clock():
            return
        try:
            found = self._table.get(user)
            value = found if found is None or isinstance(found, str) else await found
        except TableUnavailable as problem:
            self._complain(f"{user}: {problem}")
            return
        name = self._backends.get(value) if value else ""
        if name is None:
            self._complain(f"{user}: there is no back end {value}")
            self._known.pop(user, None)
            return
        self._known[user] = self._clock() + FRESH, name
        self._known.move_to_end(user)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def get(self, user: str) -> str | None:
        """The back end of a user, "" when the table has none for it; None when that is not known."""
        known = self._known.get(user)
        return None if known is None else known[1]
