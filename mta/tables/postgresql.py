"""type = "postgresql": a statement in PostgreSQL (extra `postgresql`).

    url = "postgresql://tamis@db.example.org/mail"
    query = "SELECT target FROM aliases WHERE address = {key}"

Values are sent beside the statement, never pasted into it. The server is told to give up a statement a second
later than we do; when nobody waits for an answer any more, its connection is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass
from typing import Any

import psycopg

from mta.tables.pool import Broken, Pool, Refused
from mta.tables.rows import ROWS_MOST, bindable, joined
from mta.tables.server import GRACE, Server, authorities_file
from mta.tables.table import Found
from mta.tables.template import Template

_Rows = list[tuple[object, ...]]
_MODES = {"none": "disable", "encrypt": "require", "verify": "verify-full"}


class PostgresqlTable:
    """A database of PostgreSQL (`mta.tables.table.Table`)."""

    def __init__(
        self, server: Server, password: str, query: Template, timeout: float, most: int,
        tls: str = "none", authorities: str = "",
    ) -> None:  # fmt: skip
        """Connect when first asked; at most `most` connections, `timeout` seconds for a statement."""
        self._query = query
        escape = (lambda text: text.replace("%", "%%")) if query.places else (lambda text: text)
        self._statement = query.with_marks("%s", escape).encode()
        self._timeout = timeout
        self._settings: dict[str, Any] = {
            "host": server.socket or server.host,
            "port": server.port,
            "user": server.user,
            "dbname": server.database,
            "password": password or None,
            "sslmode": "disable" if server.socket else _MODES[tls],
            "sslrootcert": authorities_file(authorities) if tls == "verify" else None,
            "client_encoding": "UTF8",
            "application_name": "tamis",
            "connect_timeout": max(2, round(timeout)),  # whole seconds, two at least
        }
        self._pool = Pool(self._open, self._shut, most)
        self._closing: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> Found:
        """The value."""
        values = self._query.values(key)
        if values is None or not bindable(key):
            return None
        return await self._pool.use(lambda held: self._ask(held, values))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()
        await asyncio.gather(*self._closing)

    async def _open(self) -> _Held:
        # No prepared statements: a pooler of connections between us and the server may not know them.
        try:
            connection = await psycopg.AsyncConnection.connect(
                autocommit=True, prepare_threshold=None, **self._settings
            )
        except (psycopg.Error, OSError) as error:
            raise Broken(_text(error)) from error
        held = _Held(connection)
        try:
            await self._run(held, f"SET statement_timeout = {int((self._timeout + GRACE) * 1000)}".encode())
        except BaseException:
            self._shut(held)
            raise
        return held

    async def _ask(self, held: _Held, values: tuple[str, ...]) -> Found:
        return joined(await self._run(held, self._statement, values))

    async def _run(self, held: _Held, statement: bytes, values: tuple[str, ...] = ()) -> _Rows:
        # In a task of its own: when the library is cancelled it asks the server to stop, and waits for that.
        held.work = asyncio.ensure_future(_rows(held.connection, statement, values))
        held.work.add_done_callback(_heard)
        return await asyncio.shield(held.work)

    def _shut(self, held: _Held) -> None:
        task = asyncio.ensure_future(held.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


@dataclass(slots=True)
class _Held:
    """A connection, and the last question over it."""

    connection: psycopg.AsyncConnection[Any]
    work: asyncio.Task[_Rows] | None = None

    async def close(self) -> None:
        """End it; whoever still waits for an answer is woken by that."""
        if self.work is not None and not self.work.done():
            with contextlib.suppress(psycopg.Error, OSError), \
                    socket.socket(fileno=os.dup(self.connection.pgconn.socket)) as same:  # fmt: skip
                same.shutdown(socket.SHUT_RDWR)
            await asyncio.wait((self.work,))
        await self.connection.close()


async def _rows(connection: psycopg.AsyncConnection[Any], statement: bytes, values: tuple[str, ...]) -> _Rows:
    try:
        async with connection.cursor() as cursor:
            await cursor.execute(statement, values or None)
            return await cursor.fetchmany(ROWS_MOST) if cursor.description else []
    except (psycopg.Error, OSError, UnicodeError) as error:
        if connection.closed:
            raise Broken(_text(error)) from error
        raise Refused(f"PostgreSQL: {_text(error)}") from error


def _heard(work: asyncio.Task[_Rows]) -> None:
    """Take note of a failure that nobody waits for any more."""
    if not work.cancelled():
        work.exception()


def _text(error: BaseException) -> str:
    return str(error).partition("\n")[0].strip() or type(error).__name__
