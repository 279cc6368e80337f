"""SQLite files that several processes write to, with a write-ahead log."""

from __future__ import annotations

import sqlite3
import time


def use_wal(connection: sqlite3.Connection, seconds: float) -> None:
    """Give the database a write-ahead log that is written without a sync for each change.

    Of two who do so with a new file at the same moment, SQLite refuses one at once, whatever its timeout: it
    tries again for `seconds`. Raises sqlite3.Error.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)
    connection.execute("PRAGMA synchronous = NORMAL")
