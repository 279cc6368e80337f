"""Changes of directors in Redis or Valkey, for nodes that share no queue store (extra `redis`).

The revisions of `mta.director.shared` are the fields of one hash, `tamis:directors`; HSETNX creates one if
nobody else has. What Redis forgets at a restart is gone: it needs `appendonly yes`.
"""

from __future__ import annotations

from collections.abc import Iterable

from redis.exceptions import RedisError

from mailqueue.store.base import MissingKey, StoreUnavailable
from mta.tables.redis import connect

HASH = "tamis:directors"
CONNECTIONS = 2
TIMEOUT = 5.0
"""Seconds for an answer."""


class RedisStates:
    """`mta.director.shared.States`."""

    def __init__(self, url: str, password: str) -> None:
        """Opens nothing yet. Raises ValueError for a URL that is none."""
        self.name = url
        self._redis = connect(url, password, CONNECTIONS, TIMEOUT)

    async def put_new(self, key: str, data: bytes) -> bool:
        """Create a revision; True when it is there now with these octets."""
        try:
            if await self._redis.hsetnx(HASH, key, data):
                return True
            return bool(await self._redis.hget(HASH, key) == data)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(self.name, str(error)) from error

    async def get(self, key: str) -> bytes:
        """A revision. Raises MissingKey."""
        try:
            found = await self._redis.hget(HASH, key)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(self.name, str(error)) from error
        if found is None:
            raise MissingKey(self.name, f"{key} is not there")
        return found if isinstance(found, bytes) else found.encode()

    async def list_after(self, prefix: str) -> list[str]:
        """The revisions of a director, in order."""
        try:
            keys = await self._redis.hkeys(HASH)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(self.name, str(error)) from error
        names = [key.decode() if isinstance(key, bytes) else key for key in keys]
        return sorted(name for name in names if name.startswith(prefix))

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove revisions."""
        try:
            await self._redis.hdel(HASH, *keys)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(self.name, str(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose(close_connection_pool=True)
