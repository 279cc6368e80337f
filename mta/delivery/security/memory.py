"""What is remembered of other domains over restarts, shared by all workers of a machine: one SQLite file.

Two tables: pins (a name was once proven: `mta.delivery.security.pins`) and MTA-STS policies. Reading a row
costs some 20 µs and happens on the event loop; writing happens in a thread, in the order of the calls.
When the file cannot be used (full disk, broken) reading finds what this worker has seen itself and writing is
given up with one line in the log until it works again: mail does not wait for our memory.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mta.reporting.store import StoreError, open_database

REMEMBERED = 20_000
"""Rows that a worker keeps besides what it could write: enough for an hour without a disk."""

PIN_DAYS = 180
"""Days without mail after which a domain's pins are forgotten."""
POLICY_DAYS = 60
"""Days after the end of a policy until it is forgotten: longer than any hold-down."""
READ_TIME = 0.02
"""Seconds that reading waits at most; with a write-ahead log it does not wait for writers at all."""
DAY = 86400.0

_SCHEMA = """\
CREATE TABLE IF NOT EXISTS pins (
    kind TEXT, name TEXT, first REAL NOT NULL, last REAL NOT NULL, broken REAL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sts (
    domain TEXT PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL,
    fetched REAL NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
"""


@dataclass(slots=True, frozen=True)
class Pin:
    """A name that has proven something. Times are of the epoch."""

    first: float
    last: float
    """When it was seen to prove it last (to the hour)."""
    broken: float | None = None
    """Since when it does not; None while it does."""


@dataclass(slots=True, frozen=True)
class StoredPolicy:
    """An MTA-STS policy as it was fetched."""

    id: str
    body: bytes
    fetched: float
    expires: float


class Memory:
    """The file. `path` None: nothing is kept beyond this process (tests, `tamis check`)."""

    def __init__(self, path: str | Path | None, complain: Callable[[str], None] | None = None) -> None:
        """Nothing is opened yet."""
        self._path: str | Path = ":memory:" if path is None else path
        self.complain = complain
        """Gets one text whenever trouble begins."""
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        """Of the event loop, so that reading never waits for a write that waits for another worker."""
        self._lock = threading.Lock()
        self._own: dict[tuple[str, str, str], Any] = {}
        """What could not be written (yet), by table and key; None for a row that is gone."""
        self._last: asyncio.Task[None] | None = None
        self._troubled = False

    # --- pins --------------------------------------------------------------------------------------

    def pin(self, kind: str, name: str) -> Pin | None:
        """The pin of a name."""
        key = "pins", kind, name
        if key in self._own:
            found: Pin | None = self._own[key]
            return found
        row = self._read("SELECT first, last, broken FROM pins WHERE kind = ? AND name = ?", kind, name)
        return None if row is None else Pin(*row)

    def set_pin(self, kind: str, name: str, pin: Pin) -> None:
        """Remember a pin."""
        self._write(
            ("pins", kind, name), pin,
            "INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?, ?)", kind, name, pin.first, pin.last, pin.broken,
        )  # fmt: skip

    def drop_pin(self, kind: str, name: str) -> None:
        """Forget a pin."""
        self._write(("pins", kind, name), None, "DELETE FROM pins WHERE kind = ? AND name = ?", kind, name)

    def broken_pins(self) -> list[tuple[str, str, Pin]]:
        """Kind, name and pin of all that do not prove what they did. Blocks; raises StoreError."""
        with self._lock:
            try:
                rows = self._open().execute(
                    "SELECT kind, name, first, last, broken FROM pins WHERE broken NOTNULL ORDER BY broken"
                )
                return [(kind, name, Pin(first, last, broken)) for kind, name, first, last, broken in rows]
            except sqlite3.Error as error:
                raise StoreError(f"{self._path}: {error}") from error

    def prune(self, now: float) -> None:
        """Forget pins that nobody has proven for `PIN_DAYS`, and policies that ended `POLICY_DAYS` ago."""
        statement = "DELETE FROM pins WHERE last < ?"
        self._write(("", "pins", ""), None, statement, now - PIN_DAYS * DAY)
        self._write(("", "sts", ""), None, "DELETE FROM sts WHERE expires < ?", now - POLICY_DAYS * DAY)

    # --- policies ----------------------------------------------------------------------------------

    def policy(self, domain: str) -> StoredPolicy | None:
        """The policy of a domain, expired or not."""
        key = "sts", domain, ""
        if key in self._own:
            found: StoredPolicy | None = self._own[key]
            return found
        row = self._read("SELECT id, body, fetched, expires FROM sts WHERE domain = ?", domain)
        return None if row is None else StoredPolicy(*row)

    def set_policy(self, domain: str, policy: StoredPolicy) -> None:
        """Remember a policy."""
        self._write(
            ("sts", domain, ""), policy, "INSERT OR REPLACE INTO sts VALUES (?, ?, ?, ?, ?)",
            domain, policy.id, policy.body, policy.fetched, policy.expires,
        )  # fmt: skip

    def drop_policy(self, domain: str) -> None:
        """Forget a policy."""
        self._write(("sts", domain, ""), None, "DELETE FROM sts WHERE domain = ?", domain)

    # --- inside ------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Wait until what was to be written is, or could not be."""
        while self._last is not None and not self._last.done():
            await asyncio.wait([self._last])

    def close(self) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._path == ":memory:":
                self._connection = sqlite3.connect(":memory:", check_same_thread=False)
                self._connection.executescript(_SCHEMA)
            else:
                self._connection = open_database(Path(self._path), _SCHEMA)
        return self._connection

    def _read(self, question: str, *values: str) -> Any:
        try:
            if self._path == ":memory:":
                with self._lock:
                    return self._open().execute(question, values).fetchone()
            if self._reader is None:
                if not Path(self._path).exists():
                    return None
                where = f"file:{quote(str(self._path))}?mode=ro"
                self._reader = sqlite3.connect(where, timeout=READ_TIME, uri=True, check_same_thread=False)
            return self._reader.execute(question, values).fetchone()
        except (sqlite3.Error, StoreError) as error:
            if "no such table" not in str(error):  # another worker is making the file at this moment
                self._trouble(error)
            return None

    def _write(self, key: tuple[str, str, str], row: Any, statement: str, *values: Any) -> None:
        self._own.pop(key, None)
        self._own[key] = row
        while len(self._own) > REMEMBERED:
            del self._own[next(iter(self._own))]
        before = self._last
        self._last = asyncio.get_running_loop().create_task(
            self._written(before, key, row, statement, values)
        )

    async def _written(
        self,
        before: asyncio.Task[None] | None,
        key: tuple[str, str, str],
        row: Any,
        statement: str,
        values: tuple[Any, ...],
    ) -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        try:
            await asyncio.to_thread(self._execute, statement, values)
        except (sqlite3.Error, StoreError) as error:
            self._trouble(error)
            return
        self._troubled = False
        if self._own.get(key, key) is row:  # a later row of the same name is still to be written
            del self._own[key]

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._lock, self._open() as connection:
            connection.execute(statement, values)

    def _trouble(self, error: Exception) -> None:
        if not self._troubled and self.complain is not None:
            self.complain(str(error))
        self._troubled = True
