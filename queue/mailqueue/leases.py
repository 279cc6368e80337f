"""Claims to parts of dead streams. They only keep takers out of each other's way: what decides is `retired/`.

A claim is overtaken by the next epoch when it has come to nothing for `lease` seconds, or at once when its
claimer is dead as well: it was stopped or killed at its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import NamedTuple

from mailqueue.clock import Clock
from mailqueue.collector import lease_of
from mailqueue.heartbeat import read_beat
from mailqueue.ids import is_id
from mailqueue.keys import lease_key, lease_prefix, retired_prefix
from mailqueue.store.base import MissingKey, Store


class Claim(NamedTuple):
    """What may be claimed, or has been."""

    part: int
    key: str
    """Of the lease."""


class Leases:
    """The claims that one taker knows of."""

    def __init__(
        self,
        store: Store,
        name: str,
        lease: float,
        clock: Clock,
        random: Callable[[int], bytes],
        is_dead: Callable[[str], Awaitable[bool]],
    ) -> None:
        """`name` is the stream of the taker; `is_dead` tells whether another stream is."""
        self._store, self._name, self._lease = store, name, lease
        self._clock, self._random, self._is_dead = clock, random, is_dead
        self._since: dict[str, float] = {}
        """When we first knew of each lease, in boot time."""
        self._claimers: dict[str, str] = {}

    def keep(self, streams: Collection[str]) -> None:
        """Forget those of all other streams."""
        for known in (self._since, self._claimers):
            for key in [key for key in known if key.split("/")[1] not in streams]:
                del known[key]

    async def unclaimed(self, stream: str, parts: Iterable[int]) -> list[Claim]:
        """Of these parts those that nobody is about to adopt. Raises StoreError."""
        now = self._clock.boottime()
        epochs: dict[int, int] = {}
        for key in await self._store.list_after(lease_prefix(stream)):
            lease = lease_of(key)
            if lease is not None:
                self._since.setdefault(key, now)
                epochs[lease[1]] = lease[2]
        found: list[Claim] = []
        dead: dict[str, bool] = {}
        for part in parts:
            epoch = epochs.get(part, 0)
            newest = lease_key(stream, part, epoch)
            if epoch and now - self._since[newest] < self._lease:
                claimer = await self._claimer(newest)
                if claimer not in dead:
                    dead[claimer] = await self._has_died(claimer)
                if not dead[claimer]:
                    continue
            found.append(Claim(part, lease_key(stream, part, epoch + 1)))
        return found

    async def claim(self, unclaimed: list[Claim], share: int) -> list[Claim]:
        """Claim so many parts, or as many as there are. Raises StoreError."""
        octets = self._name.encode() + b" " + self._random(8).hex().encode()
        ours: list[Claim] = []
        while unclaimed and len(ours) < share:
            # Another may be faster: then there are others to be had.
            wanted, unclaimed = unclaimed[: share - len(ours)], unclaimed[share - len(ours) :]
            won = await asyncio.gather(*(self._store.put_new(claim.key, octets) for claim in wanted))
            ours += [claim for claim, is_ours in zip(wanted, won, strict=True) if is_ours]
        return ours

    async def give_back(self, claims: Iterable[Claim]) -> None:
        """Let others claim what we cannot take. Raises StoreError."""
        await self._store.delete([claim.key for claim in claims])

    async def _claimer(self, key: str) -> str:
        """The stream that has written a lease, "" for one that was given back in this moment."""
        if key not in self._claimers:
            try:
                octets = await self._store.get(key)
            except MissingKey:
                return ""
            self._claimers[key] = octets.decode("ascii", "replace").partition(" ")[0]
        return self._claimers[key]

    async def _has_died(self, claimer: str) -> bool:
        """Whether nothing can come of its claims any more; not so of a claimer of whom nothing is known."""
        if claimer == self._name or not is_id(claimer):
            return False
        if await self._store.list_after(retired_prefix(claimer), limit=1):
            return True
        return (await read_beat(self._store, claimer))[1] is not None and await self._is_dead(claimer)
