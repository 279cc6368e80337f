"""type = "sqlite": a statement on an SQLite file; it is opened for reading only.

    query = "SELECT target FROM aliases WHERE address = {key}"

The key is bound, never pasted into the text. The first column of the rows is the value, several with ", "
between. Queries run in one thread of their own, for a writer may hold the file for some time; one that is
too slow is interrupted. A file that was put in its place (`mv new.db users.db`) is seen at the next query:
SQLite itself would read the old one for as long as it is open.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from mta.tables.rows import ROWS_MOST, bindable, joined
from mta.tables.table import Found, TableUnavailable
from mta.tables.template import Template


class SqliteTable:
    """An SQLite file (`mta.tables.table.Table`)."""

    def __init__(self, path: str, query: Template, timeout: float) -> None:
        """Open `path` when first asked; a query may take `timeout` seconds."""
        self._path = path
        self._query = query
        self._statement = query.with_marks("?")
        self._timeout = timeout
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode of what is open

    async def get(self, key: str) -> Found:
        """The value."""
        values = self._query.values(key)
        if values is None or not bindable(key):
            return None
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._ask, values)
        try:
            return await work
        except asyncio.CancelledError:
            if self._connection is not None:
                self._connection.interrupt()
            raise

    async def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.interrupt()
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _ask(self, values: tuple[str, ...]) -> Found:
        try:
            there = self._there()
            if self._connection is not None and there != self._opened:
                self._close()
            if self._connection is None:
                self._connection = sqlite3.connect(
                    f"file:{quote(self._path)}?mode=ro", uri=True, timeout=self._timeout,
                    check_same_thread=False,
                )  # fmt: skip
                self._opened = there
            return joined(self._connection.execute(self._statement, values).fetchmany(ROWS_MOST))
        except sqlite3.Error as error:
            self._close()
            raise TableUnavailable(f"SQLite: {error}") from error

    def _there(self) -> tuple[int, int] | None:
        """Which file has the name now, None when there is none."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
