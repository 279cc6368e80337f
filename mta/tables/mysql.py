"""type = "mysql": a statement in MySQL or MariaDB (extra `mysql`).

    url = "mysql://tamis@db.example.org/mail"
    query = "SELECT target FROM aliases WHERE address = {key}"

The statement is prepared by the server, once for each connection, and values are sent beside it, never
pasted into it. The server is told to give up a statement a second later than we do: functions such as SLEEP
would turn its end into an answer.
"""

from __future__ import annotations

import ssl
import struct
from dataclasses import dataclass

from asyncmy.connection import Connection, PreparedStatement
from asyncmy.errors import MySQLError

from mta.tables.pool import Broken, Pool, Refused
from mta.tables.rows import ROWS_MOST, bindable, joined
from mta.tables.server import GRACE, Server
from mta.tables.table import Found, TableUnavailable
from mta.tables.template import Template

_GONE = (1053, 1077, 1079, 1927, 4031)
"""Errors of servers that end, and with which they end a connection; those of the client are 2000 to 2999."""

_NONSENSE = (LookupError, ValueError, TypeError, AttributeError, RuntimeError, struct.error)
"""What the library raises when octets that it reads are no MySQL."""


@dataclass(slots=True)
class _Held:
    """A connection with its statement."""

    connection: Connection
    statement: PreparedStatement


class MysqlTable:
    """A database of MySQL or MariaDB (`mta.tables.table.Table`)."""

    def __init__(
        self, server: Server, password: str, query: Template, timeout: float, most: int,
        context: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        """Connect when first asked; at most `most` connections, `timeout` seconds for a statement."""
        self._server = server
        self._password = password
        self._query = query
        self._statement = query.with_marks("?")
        self._timeout = timeout
        self._context = context
        self._pool = Pool(self._open, _shut, most)

    async def get(self, key: str) -> Found:
        """The value."""
        values = self._query.values(key)
        if values is None or not bindable(key):
            return None
        return await self._pool.use(lambda held: _ask(held, values))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    async def _open(self) -> _Held:
        server = self._server
        connection = Connection(
            host=server.host or None, port=server.port, unix_socket=server.socket or None,
            user=server.user, password=self._password, database=server.database, charset="utf8mb4",
            autocommit=True, connect_timeout=self._timeout, ssl=None if server.socket else self._context,
            init_command=_limit(self._timeout + GRACE),
        )  # fmt: skip
        connected = False
        try:
            await connection.connect()
            connected = True
            return _Held(connection, await connection.prepare(self._statement))
        except (MySQLError, OSError, TimeoutError, EOFError) as error:
            connection.close()
            if connected and isinstance(error, MySQLError) and not _is_end(error):
                raise Refused(f"MySQL: {_text(error)}") from error
            raise Broken(_text(error)) from error
        except _NONSENSE as error:
            connection.close()
            raise Broken(f"the answer makes no sense: {_text(error)}") from error
        except BaseException:
            connection.close()
            raise


def _limit(timeout: float) -> str:
    """Each of the two servers reads its own comment and passes over the other's."""
    return (
        f"SET @@SESSION.autocommit = 1 /*M!100101 , SESSION max_statement_time = {timeout:.3f} */"
        f" /*!50708 , SESSION max_execution_time = {int(timeout * 1000)} */"
    )


async def _ask(held: _Held, values: tuple[str, ...]) -> Found:
    try:
        result = await held.statement.execute(values)
    except MySQLError as error:
        if _is_end(error):
            raise Broken(_text(error)) from error
        raise Refused(f"MySQL: {_text(error)}") from error
    except (OSError, EOFError) as error:
        raise Broken(_text(error)) from error
    except _NONSENSE as error:
        raise TableUnavailable(f"the answer makes no sense: {_text(error)}") from error
    return joined(_texts(row) for row in (result.rows or ())[:ROWS_MOST])


def _is_end(error: MySQLError) -> bool:
    """Whether the connection is over; else the server has said what is wrong with the statement."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    return number == 0 or 2000 <= number < 3000 or number in _GONE


def _texts(row: tuple[object, ...]) -> tuple[object, ...]:
    """Columns of a binary collation come as octets."""
    return tuple(one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in row)


def _shut(held: _Held) -> None:
    held.connection.close()


def _text(error: BaseException) -> str:
    return " ".join(str(one) for one in error.args).partition("\n")[0] or type(error).__name__
