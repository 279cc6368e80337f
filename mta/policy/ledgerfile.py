"""The ledger of one node: an SQLite file in the state directory, which lives on over a restart.

All workers open it; a change is one write transaction. Queries run in one thread beside the sessions. Writes
are not synced one by one: what the last moments before a power failure have counted may be lost, and the file
stays sound. What has expired is removed bit by bit, and of more than `MOST` keys those that expire first.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mta.policy.ledger import Change, LedgerUnavailable
from mta.walfile import use_wal

WAIT = 1.0
"""Seconds that a change waits for those of other workers."""
SWEEP_EVERY = 500
"""Changes between two looks for what has expired."""
SWEPT = 2000
"""Keys that are removed in one look: it must not take long."""
MOST = 1_000_000
"""Keys that are kept; about 150 MB of disk."""

_SCHEMA = """ CREATE TABLE IF NOT EXISTS entries
(key TEXT PRIMARY KEY, state TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID; CREATE INDEX IF NOT EXISTS
by_expiry ON entries (expires);
"""
_PUT = (
    "INSERT INTO entries VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET state = excluded.state, expires = excluded.expires"
)
_DROP = "DELETE FROM entries WHERE key IN (SELECT key FROM entries {} ORDER BY expires LIMIT ?)"


class FileLedger:
    """`mta.policy.ledger.Ledger` in a file."""

    def __init__(self, path: str, clock: Callable[[], float], *, most: int = MOST) -> None:
        """Nothing is opened before the first change. `clock` gives the time of day in seconds."""
        self._path = path
        self._clock = clock
        self._most = most
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._connection: sqlite3.Connection | None = None
        self._changes = 0
        self._closed = False

    async def update(self, key: str, change: Change) -> Any:
        """See `mta.policy.ledger.Ledger`."""
        if self._closed:
            raise LedgerUnavailable("the server is closing")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._update, key, change)

    async def close(self) -> None:
        """Close the file when what is under way is done; once more does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _update(self, key: str, change: Change) -> Any:
        try:
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                now = self._clock()
                row = connection.execute(
                    "SELECT state, expires FROM entries WHERE key = ?", (key,)
                ).fetchone()
                found = tuple(json.loads(row[0])) if row is not None and row[1] > now else None
                entry = change(found)
                if entry.state is not None:
                    connection.execute(_PUT, (key, json.dumps(entry.state), entry.expires))
                self._sweep(connection, now)
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise
        except (sqlite3.Error, ValueError, OSError) as error:
            self._close()
            raise LedgerUnavailable(f"{self._path}: {error}{_advice(error)}") from error
        return entry.answer

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                self._path, timeout=WAIT, isolation_level=None, check_same_thread=False
            )
            try:
                use_wal(connection, WAIT)
                connection.executescript(_SCHEMA)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        self._changes += 1
        if self._changes % SWEEP_EVERY:
            return
        connection.execute(_DROP.format("WHERE expires <= ?"), (now, SWEPT))
        (count,) = connection.execute("SELECT count(*) FROM entries").fetchone()
        if count > self._most:
            connection.execute(_DROP.format(""), (min(count - self._most, SWEPT),))

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _advice(error: Exception) -> str:
    """What to do about a damaged file: SQLite forbids to take it away while workers have it open."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ""
    return "; stop the server and delete it with its -wal and -shm: it holds counters, which begin anew"
