"""`tamis lookup`: what a table says, as the server would hear it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mta.cli_lookup import lookup

TABLES = """
[process]
state_directory = "state"
[tables.virtual]
file = "virtual"
search = "address"
[tables.boxes]
type = "sqlite"
file = "boxes.db"
query = "SELECT box FROM boxes WHERE name = {key}"
on_error = "ignore"
[tables.both]
type = "chain"
tables = ["virtual", "boxes"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "virtual").write_text("sales@example.org  ann@example.org, bob@example.org\nempty\n")
    with sqlite3.connect(tmp_path / "boxes.db") as database:
        database.execute("CREATE TABLE boxes (name TEXT, box TEXT)")
        database.execute("INSERT INTO boxes VALUES ('ann', 'one')")
    (tmp_path / "tamis.toml").write_text(TABLES)
    return tmp_path / "tamis.toml"


@pytest.mark.parametrize(
    ("table", "key", "status", "out"),
    [
        ("virtual", "Sales+x@example.org", 0, "ann@example.org, bob@example.org\n"),
        ("table:virtual", "sales@example.org", 0, "ann@example.org, bob@example.org\n"),
        ("virtual", "empty", 0, "\n"),
        ("virtual", "nobody", 1, ""),
        ("boxes", "ann", 0, "one\n"),
        ("both", "ann", 0, "one\n"),
        ("both", "nobody", 1, ""),
    ],
)
def test_what_is_there(
    path: Path, capsys: pytest.CaptureFixture[str], table: str, key: str, status: int, out: str
) -> None:
    assert lookup(str(path), table, key) == status
    assert capsys.readouterr() == (out, "")


@pytest.mark.parametrize("table", ["boxes", "both"])
def test_a_table_that_cannot_say(path: Path, capsys: pytest.CaptureFixture[str], table: str) -> None:
    """Also where the server would go on as if the key were not there."""
    sqlite3.connect(path.parent / "boxes.db").execute("DROP TABLE boxes")
    assert lookup(str(path), table, "ann") == 75
    assert capsys.readouterr() == ("", "tamis: table boxes: SQLite: no such table: boxes\n")


def test_a_table_that_is_not_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lookup(str(path), "vitual", "x") == 2
    told = "tamis: there is no [tables.vitual]; did you mean virtual?\n"
    assert capsys.readouterr() == ("", told)
    path.write_text("")
    assert lookup(str(path), "vitual", "x") == 2
    assert capsys.readouterr().err == "tamis: there is no [tables.vitual]\n"


def test_a_configuration_that_is_wrong(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("[tables.x]\n")
    assert lookup(str(path), "x", "x") == 78
    out, err = capsys.readouterr()
    assert (out, "tables.x.file: missing" in err) == ("", True)


@pytest.mark.parametrize(
    "lines", ['bind_dn = "cn=a"\npassword_file = "gone"', 'tls = "verify"\ntls_ca = "gone"']
)
def test_a_file_that_cannot_be_read(path: Path, capsys: pytest.CaptureFixture[str], lines: str) -> None:
    section = '[tables.d]\ntype = "ldap"\nurl = "ldap://127.0.0.1/dc=x?mail"\nquery = "(mail={key})"\n'
    path.write_text(f"{TABLES}{section}{lines}\n")
    assert lookup(str(path), "d", "x") == 78
    assert capsys.readouterr() == ("", f"tamis: {path.parent}/gone: No such file or directory\n")


def test_the_command(path: Path) -> None:
    command = [sys.executable, "-m", "mta.cli", "lookup", "-c", str(path), "virtual", "sales@example.org"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "ann@example.org, bob@example.org\n"), done.stderr
