"""What reports will be made of: counted rows by kind, day and domain, shared by all workers of a machine.

A report counts equal events. Whoever sees one calls `add` with a row that says all that tells it from others
(a TLS failure at a host; a source address with its results); `add` only counts in memory. Once in a while,
off the event loop, the counts are added to one SQLite file in the state directory, in which all workers meet
(`mta.reporting.daily` does that). A crash loses what was counted since the last time, no more.

A kind is a word: "tlsrpt", "dmarc". Days are UTC dates as text ("2026-11-28"). The `subject` is what one
report is about: the policy's domain. How another kind plugs in: choose a word, call `add`, and give
`mta.reporting.daily` a `Reporter` for the word.

Memory and disk are bounded: rows beyond `MAX_ROWS` of one subject and day, beyond `MAX_DAY_ROWS` of one kind
and day (anybody can have as many domains as he likes), and beyond `MAX_PENDING` between two writes, are
dropped and counted in `dropped`. When the file cannot be written (full disk) the counts stay in memory for
the next time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from mta.walfile import use_wal

MAX_PENDING = 20_000
"""Different rows in memory between two writes, about 500 octets each."""
MAX_ROWS = 10_000
"""Different rows of one subject on one day: more than a report that anybody reads."""
MAX_DAY_ROWS = 500_000
"""Different rows of one kind on one day, about 250 MB of disk."""
KEEP_DAYS = 8
"""Days that rows are kept at most: reports are tried for a day, the rest is for people who look."""
CLAIM_TIME = 3600
"""Seconds after which a claim of a worker that did not finish is void."""
BUSY = 5.0
"""Seconds to wait for another worker."""

_SCHEMA = """\
CREATE TABLE IF NOT EXISTS tally (
    kind TEXT, day TEXT, subject TEXT, row TEXT, count INTEGER NOT NULL,
    PRIMARY KEY (kind, day, subject, row)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS days (
    kind TEXT, day TEXT, rows INTEGER NOT NULL,
    PRIMARY KEY (kind, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sending (
    kind TEXT, day TEXT, subject TEXT, until INTEGER NOT NULL, tries INTEGER NOT NULL, done TEXT,
    PRIMARY KEY (kind, day, subject)
) WITHOUT ROWID;
"""

_WHERE = "WHERE kind = ? AND day = ? AND subject = ?"
_MORE = f"UPDATE tally SET count = count + ? {_WHERE} AND row = ?"
_CLAIMABLE = """\
SELECT DISTINCT subject FROM tally WHERE kind = ? AND day = ? AND NOT EXISTS (
    SELECT 1 FROM sending WHERE sending.kind = tally.kind AND sending.day = tally.day
        AND sending.subject = tally.subject AND (done NOTNULL OR until > ? OR tries >= ?)
)"""
_COUNT_DAYS = "INSERT OR IGNORE INTO days SELECT kind, day, count(*) FROM tally GROUP BY kind, day"
_DAY_ROWS = "SELECT rows FROM days WHERE kind = ? AND day = ?"
_ROWS = f"SELECT count(*) FROM tally {_WHERE}"


class StoreError(OSError):
    """The file cannot be used; the text says why."""


class ReportStore:
    """The counts of one worker, and the file of all. `add` belongs to one thread, the rest to any."""

    def __init__(self, path: str | Path) -> None:
        """Nothing is opened yet."""
        self._path = Path(path)
        self._pending: Counter[tuple[str, str, str, str]] = Counter()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.dropped = 0
        """Rows that were one too many."""

    def add(
        self, kind: str, subject: str, row: Mapping[str, Any], count: int = 1, *, now: float = 0.0
    ) -> None:
        """Count a row (what JSON can hold). `now` is the time of the epoch, 0 for this moment."""
        day = day_of(now or time.time())
        try:
            key = kind, day, subject, msgspec.json.encode(row, order="deterministic").decode()
            subject.encode()
        except UnicodeEncodeError:  # octets that are no text, which no file and no report can hold
            self.dropped += 1
            return
        pending = self._pending
        if key not in pending and len(pending) >= MAX_PENDING:
            self.dropped += 1
            return
        pending[key] += count

    @property
    def pending(self) -> int:
        """Rows that wait to be written."""
        return len(self._pending)

    def take(self) -> Counter[tuple[str, str, str, str]]:
        """What was counted since the last time, for `write`. Belongs to the thread of `add`."""
        taken, self._pending = self._pending, Counter()
        return taken

    def put_back(self, taken: Counter[tuple[str, str, str, str]]) -> None:
        """`write` failed: keep the counts for the next time. Belongs to the thread of `add`."""
        for key, count in taken.items():
            if key not in self._pending and len(self._pending) >= MAX_PENDING:
                self.dropped += 1
            else:
                self._pending[key] += count

    def write(self, taken: Counter[tuple[str, str, str, str]]) -> None:
        """Add counts to the file, all or none. Blocks; raises StoreError."""
        if not taken:
            return
        try:
            with self._lock, self._open() as connection:
                rows: dict[tuple[str, str, str], int] = {}
                days: dict[tuple[str, str], int] = {}
                for (kind, day, subject, row), count in taken.items():
                    where = kind, day, subject
                    if connection.execute(_MORE, (count, *where, row)).rowcount:
                        continue
                    if where not in rows:
                        rows[where] = connection.execute(_ROWS, where).fetchone()[0]
                    if (kind, day) not in days:
                        known = connection.execute(_DAY_ROWS, (kind, day)).fetchone()
                        days[kind, day] = known[0] if known else 0
                    if rows[where] >= MAX_ROWS or days[kind, day] >= MAX_DAY_ROWS:
                        self.dropped += 1
                        continue
                    rows[where] += 1
                    days[kind, day] += 1
                    connection.execute("INSERT INTO tally VALUES (?, ?, ?, ?, ?)", (*where, row, count))
                connection.executemany(
                    "INSERT OR REPLACE INTO days VALUES (?, ?, ?)",
                    [(*of, number) for of, number in days.items()],
                )
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def subjects(self, kind: str, day: str, *, now: float, most: int) -> list[str]:
        """The subjects of one day that `claim` may give out now. Blocks; raises StoreError."""
        found = self._ask(_CLAIMABLE, kind, day, int(now), most)
        return sorted(subject for (subject,) in found)

    def days(self, kind: str) -> list[str]:
        """The days of which there is something, oldest first. Blocks; raises StoreError."""
        return sorted(day for (day,) in self._ask("SELECT day FROM days WHERE kind = ?", kind))

    def rows(self, kind: str, day: str, subject: str) -> list[tuple[dict[str, Any], int]]:
        """The rows of a report with their counts, most frequent first. Blocks; raises StoreError."""
        found = self._ask(
            f"SELECT row, count FROM tally {_WHERE} ORDER BY count DESC, row", kind, day, subject
        )
        return [(msgspec.json.decode(row), count) for row, count in found]

    def claim(self, kind: str, day: str, subject: str, *, now: float, most: int) -> int:
        """Which try of this report is the caller's, from 1; 0: it is not his now. Blocks; raises StoreError.

        A report that is done, claimed by another worker within `CLAIM_TIME`, or tried `most` times is not
        given out again.
        """
        where = kind, day, subject
        try:
            with self._lock, self._open() as connection:
                connection.execute("INSERT OR IGNORE INTO sending VALUES (?, ?, ?, 0, 0, NULL)", where)
                cursor = connection.execute(
                    f"UPDATE sending SET until = ?, tries = tries + 1 {_WHERE}"
                    " AND done IS NULL AND until <= ? AND tries < ?",
                    (int(now) + CLAIM_TIME, *where, int(now), most),
                )
                if not cursor.rowcount:
                    return 0
                return int(connection.execute(f"SELECT tries FROM sending {_WHERE}", where).fetchone()[0])
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def done(self, kind: str, day: str, subject: str, outcome: str) -> None:
        """The report is sent, or will never be: `outcome` in words. Blocks; raises StoreError."""
        self._change(
            f"UPDATE sending SET done = ? {_WHERE}",
            outcome,
            kind,
            day,
            subject,
        )

    def postpone(self, kind: str, day: str, subject: str, until: float) -> None:
        """The report could not be sent; not before the time `until` again. Blocks; raises StoreError."""
        self._change(
            f"UPDATE sending SET until = ? {_WHERE}",
            int(until), kind, day, subject,
        )  # fmt: skip

    def outcome(self, kind: str, day: str, subject: str) -> str | None:
        """What `done` was told. Blocks; raises StoreError."""
        found = self._ask(f"SELECT done FROM sending {_WHERE}", kind, day, subject)
        return found[0][0] if found else None

    def forget(self, before: str) -> None:
        """Drop all days before one. Blocks; raises StoreError."""
        self._change("DELETE FROM tally WHERE day < ?", before)
        self._change("DELETE FROM sending WHERE day < ?", before)
        self._change("DELETE FROM days WHERE day < ?", before)

    def close(self) -> None:
        """Close the file; what was not taken is lost."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_database(self._path, _SCHEMA)
            if self._connection.execute("SELECT 1 FROM days LIMIT 1").fetchone() is None:
                with self._connection as connection:
                    connection.execute(_COUNT_DAYS)  # of a version that did not count them
        return self._connection

    def _broken(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self._path}: {error}")

    def _ask(self, question: str, *values: str | int) -> list[Any]:
        try:
            with self._lock:
                return self._open().execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _change(self, statement: str, *values: str | int) -> None:
        try:
            with self._lock, self._open() as connection:
                connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self._broken(error) from error


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """A SQLite file that several processes write to, made when it is missing, for our user only.

    Used from several threads under the caller's lock. Losing the last second in a crash of the machine is
    borne (synchronous = NORMAL with a write-ahead log); the file stays sound. Raises StoreError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(0o600)
        connection = sqlite3.connect(path, timeout=BUSY, check_same_thread=False)
        try:
            use_wal(connection, BUSY)
            connection.executescript(schema)
        except sqlite3.Error:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path}: {error}") from error
    return connection


def day_of(now: float) -> str:
    """The UTC date of a time of the epoch."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()
