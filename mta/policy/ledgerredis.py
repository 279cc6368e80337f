"""The ledger of several nodes: Redis or Valkey (extra `redis`). A change is a transaction that is watched."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError, WatchError

from mta.policy.ledger import Change, LedgerUnavailable
from mta.tables.redis import connect

PREFIX = "tamis:"
TRIES = 20
"""Times that a change is made anew because another node was faster."""
TIMEOUT = 3.0
"""Seconds for an answer of the server."""
CONNECTIONS = 8
"""Of a worker."""


class RedisLedger:
    """`mta.policy.ledger.Ledger` on a server."""

    def __init__(self, url: str, password: str, clock: Callable[[], float]) -> None:
        """Nothing is opened before the first change. `clock` gives the time of day in seconds."""
        self._client = connect(url, password, CONNECTIONS, TIMEOUT)
        self._clock = clock

    async def update(self, key: str, change: Change) -> Any:
        """See `mta.policy.ledger.Ledger`."""
        name = PREFIX + key
        try:
            async with self._client.pipeline() as made:
                pipe: Any = made  # redis-py has no types for a watched transaction
                for _ in range(TRIES):
                    await pipe.watch(name)
                    kept: Any = await pipe.get(name)
                    entry = change(None if kept is None else tuple(json.loads(kept)))
                    if entry.state is None:
                        await pipe.unwatch()
                        return entry.answer
                    pipe.multi()
                    left = max(int((entry.expires - self._clock()) * 1000), 1)
                    pipe.set(name, json.dumps(entry.state), px=left)
                    try:
                        await pipe.execute()
                    except WatchError:
                        continue
                    return entry.answer
        except (RedisError, OSError, ValueError) as error:
            raise LedgerUnavailable(f"Redis: {error}") from error
        raise LedgerUnavailable("Redis: others change the same key all the time")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose(close_connection_pool=True)
