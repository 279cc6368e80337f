"""SQLite files of several processes."""

import sqlite3
import threading
from pathlib import Path

import pytest

from mta.walfile import use_wal


def test_a_file_that_another_one_prepares_is_waited_for(tmp_path: Path) -> None:
    """While another connection holds the file, SQLite refuses a write-ahead log at once."""
    path = tmp_path / "db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    other.execute("CREATE TABLE t (a)")
    mine = sqlite3.connect(path, timeout=0.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_wal(mine, 0.05)
    timer = threading.Timer(0.2, other.execute, ["COMMIT"])
    timer.start()
    use_wal(mine, 10.0)
    timer.join()
    assert mine.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert mine.execute("PRAGMA synchronous").fetchone() == (1,)
    mine.close()
    other.close()


def test_other_errors_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("no database " * 100)
    connection = sqlite3.connect(tmp_path / "db")
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        use_wal(connection, 10.0)
    connection.close()
