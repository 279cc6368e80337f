"""type = "redis": a string, or a field of a hash, in Redis or Valkey (extra `redis`).

The client library pools connections, speaks TLS for "rediss:" and tries a broken connection once more.
"""

from __future__ import annotations

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mta.tables.table import VALUE_MOST, Found, TableUnavailable
from mta.tables.template import Template


def connect(url: str, password: str, most: int, timeout: float) -> redis.Redis:
    """A client of the server at `url`; opens nothing yet. Raises ValueError for a URL that is none."""
    options = {"password": password} if password else {}
    pool = redis.BlockingConnectionPool.from_url(
        url, max_connections=most, timeout=timeout, socket_timeout=timeout, socket_connect_timeout=timeout,
        decode_responses=False, retry=Retry(NoBackoff(), 1), protocol=2, **options,
    )  # fmt: skip
    return redis.Redis(connection_pool=pool)


class RedisTable:
    """Strings in Redis (`mta.tables.table.Table`)."""

    def __init__(self, client: redis.Redis, query: Template, hash: str = "") -> None:
        """`query` makes Redis' key of ours, or the field of `hash` if there is one."""
        self._client = client
        self._query = query
        self._hash = hash

    async def get(self, key: str) -> Found:
        """The value."""
        name = self._query.expand(key)
        if name is None:
            return None
        try:
            value = await (self._client.hget(self._hash, name) if self._hash else self._client.get(name))
        except (RedisError, OSError) as error:
            raise TableUnavailable(f"Redis: {error}") from error
        if value is None:
            return None
        if len(value) > VALUE_MOST:
            raise TableUnavailable(f"Redis: a value of {len(value)} octets")
        try:
            return value if isinstance(value, str) else value.decode()
        except UnicodeDecodeError as error:
            raise TableUnavailable(f"Redis: the value is no UTF-8: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose(close_connection_pool=True)
