"""A resolver whose patience has an end of its own, whatever time its caller has."""

from __future__ import annotations

import asyncio

from mta.net.resolver.base import Answer, Resolver


class Patient:
    """A `Resolver`: one question takes `seconds` at most, so that a dead server leaves time for the rest."""

    def __init__(self, resolver: Resolver, seconds: float) -> None:
        """Asks `resolver`. Needs no running loop yet."""
        self._resolver = resolver
        self._seconds = seconds

    async def query(self, name: str, rdtype: str, deadline: float) -> Answer:
        """See `mta.net.resolver.base.Resolver`."""
        limit = min(deadline, asyncio.get_running_loop().time() + self._seconds)
        return await self._resolver.query(name, rdtype, limit)
