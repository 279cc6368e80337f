"""The directors of a worker, put together from the configuration: the part of `mta.daemon` about them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailqueue.store.base import StoreError
from mta import config, log
from mta.address import domain_key
from mta.delivery.fixed import FixedTransport
from mta.delivery.outcome import BACKEND
from mta.director.director import Director
from mta.director.places import Places
from mta.director.shared import States, read
from mta.director.state import DirectorState
from mta.director.userstable import read_users
from mta.envelope import Recipient
from mta.lastgood import NOBODY, LastGood
from mta.policy.ground import without_detail
from mta.policy.watched import Watched
from mta.spool.service import QueueService
from mta.tables.table import Table

if TYPE_CHECKING:
    from mta.director.redisstore import RedisStates

FIRST = 5.0
"""Seconds of a start that may go into reading the states; what is not read by then is answered 451."""


UNREAD = 0.2
"""Seconds between two looks while a state was never read."""


def configured_weights(director: config.Director) -> dict[str, int]:
    """Back ends and weights as the configuration has them."""
    weights = director.weights or (100,) * len(director.backends)
    return dict(zip(director.backends, weights, strict=True))


def hashing(settings: config.Config) -> dict[str, Director]:
    """The directors as they are by the configuration alone, for who asks nobody."""
    found = {name: Director(name, configured_weights(section)) for name, section in settings.director.items()}
    for director in found.values():
        director.apply(DirectorState())
    return found


def open_states(section: config.Director) -> RedisStates:
    """Where the changes of a director are, if not in the queue's store. Raises ValueError and OSError."""
    from mta.director.redisstore import RedisStates  # the library is loaded where it is used

    file = section.changes_password_file
    return RedisStates(section.changes, config.read_secret(file) if file else "")


def backend_names(settings: config.Config) -> dict[str, str]:
    """Back ends by what a table may call them: the name, host:port, and the host of only one of them."""
    found: dict[str, str] = {}
    hosts: dict[str, set[str]] = {}
    for name, backend in settings.backends.items():
        for address in backend.addresses:
            if isinstance(address, config.Inet):
                found[str(address)] = name
                hosts.setdefault(address.host, set()).add(name)
    found |= {host: names.pop() for host, names in hosts.items() if len(names) == 1}
    return found | {name: name for name in settings.backends}


Finding = Callable[[Sequence[Recipient]], Awaitable[None]]
"""Learns what has to be known before some recipients are routed."""


class Directors(Mapping[str, Director]):
    """All directors of a worker, by name, and what keeps them up to date."""

    def __init__(
        self,
        settings: config.Config,
        transports: Mapping[str, FixedTransport],
        tables: Mapping[str, Table] | None = None,
        good: LastGood = NOBODY,
    ) -> None:
        """`good` has what others have read of their files. Raises TableError."""
        self._good = good
        self._tables = tables or {}
        self._settings = settings
        self._log = log.get("director")
        self._made = {
            name: self._make(name, section, transports) for name, section in settings.director.items()
        }
        self._queue: QueueService | None = None
        self._states = {
            name: open_states(section) for name, section in settings.director.items() if section.changes
        }
        self._revisions: dict[str, int] = {}
        self._silent: set[str] = set()
        """Directors whose state could not be read the last time."""

    def __getitem__(self, name: str) -> Director:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def finding(self) -> Finding | None:
        """What has to be done before recipients are routed, None where nothing has to."""
        rules = {
            domain_key(name): (director, domain.subaddress_delimiter)
            for name, domain in self._settings.domains.items()
            if (director := self._made.get(domain.backend)) is not None and director.places is not None
        }
        if not rules:
            return None

        async def find(recipients: Sequence[Recipient]) -> None:
            for recipient in recipients:
                rule = rules.get(recipient.address.domain)
                if rule is not None:
                    await rule[0].find(without_detail(recipient.address, rule[1]).key)

        return find

    async def begin(self, queue: QueueService | None) -> Coroutine[Any, Any, None]:
        """Read the states if they can be had soon; returns what goes on reading them, to be run as a task."""
        self._queue = queue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST):
                await self._look()
        return self._follow()

    async def close(self) -> None:
        """Give connections back."""
        for states in self._states.values():
            await states.close()

    async def _follow(self) -> None:
        usual = min(section.refresh for section in self._settings.director.values())
        while True:
            unread = any(director.state is None for director in self._made.values())
            await asyncio.sleep(min(UNREAD, usual) if unread else usual)
            await self._look()

    async def _look(self) -> None:
        """Read all states once; what cannot be read leaves what was known in force."""
        for name, director in self._made.items():
            store: States | None = self._states.get(name)
            if store is None:
                store = None if self._queue is None else self._queue.store
            if store is None:
                continue
            try:
                revision, state = await read(store, name)
                if revision < self._revisions.get(name, 0):
                    raise ValueError(f"{store.name} has lost revision {self._revisions[name]}")
            except (StoreError, ValueError) as error:
                if name not in self._silent:
                    self._log.error("state not read, what was known holds", director=name, reason=str(error))
                self._silent.add(name)
                continue
            self._silent.discard(name)
            self._revisions[name] = revision
            if director.apply(state):
                weights = state.effective(director.configured)
                self._log.info("state", director=name, weights=weights, moved=len(state.moved))

    def _make(
        self, name: str, section: config.Director, transports: Mapping[str, FixedTransport]
    ) -> Director:
        director = Director(name, configured_weights(section))
        if section.table:
            users = Watched(
                Path(section.table), read_users, time.monotonic,
                complain=lambda text: self._log.error("table", reason=text), good=self._good,
            )  # fmt: skip
            director.table = users.content
        if section.users:
            director.places = Places(
                self._tables[section.users], backend_names(self._settings), time.monotonic,
                lambda text: self._log.error("where users are", director=name, reason=text),
            )  # fmt: skip
        if section.on_down == "move":
            director.is_down = partial(_is_down, transports)
        if not self._settings.queue.enabled and not section.changes:
            director.apply(DirectorState())  # there is no place for another one
        return director


def _is_down(transports: Mapping[str, FixedTransport], name: str) -> bool:
    transport = transports.get(f"{BACKEND}{name}")
    return transport is None or transport.is_down
