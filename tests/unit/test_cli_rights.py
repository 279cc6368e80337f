"""The command line where files are closed to whoever types it: a line, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mta import cli_pins, cli_user, commands

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Be somebody who may not look into a folder."""
    folder.chmod(0)
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)  # root may enter every folder
    try:
        yield
    finally:
        os.seteuid(own)
        folder.chmod(0o700)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "users").touch(0o600)
    (folder / "tamis.toml").touch()
    return folder


@pytest.mark.parametrize("words", [("list",), ("add", "a@b.test", "--generate"), ("del", "a@b.test")])
def test_users_of_a_folder_that_is_closed(folder: Path, words: tuple[str, ...]) -> None:
    app = cli_user.make_app(lambda: folder / "users", list, lambda: None)
    with closed(folder):
        done = CliRunner().invoke(app, list(words))
    assert (done.exit_code, done.stderr) == (78, f"error: {folder}/users: Permission denied\n")


def test_what_is_proven_in_a_folder_that_is_closed(folder: Path) -> None:
    """That nothing is missing is no answer of who could not look."""

    def pins(path: Path) -> Result:
        with closed(folder):
            return CliRunner().invoke(cli_pins.make_app(lambda: path), ["list"])

    done = pins(folder / "security.sqlite3")
    assert (done.exit_code, done.stdout) == (78, "")
    assert done.stderr == f"tamis pins: {folder}/security.sqlite3: Permission denied\n"
    with closed(folder):
        done = CliRunner().invoke(commands.SUB_APPS["pins"](), ["list", "-c", str(folder / "tamis.toml")])
    assert (done.exit_code, done.stdout) == (78, "")
    assert done.stderr == f"tamis: {folder}/tamis.toml cannot be read: Permission denied\n"
    done = CliRunner().invoke(commands.SUB_APPS["pins"](), ["forget", "mx", "x", "-c", str(folder / "gone")])
    assert (done.exit_code, done.stdout) == (78, "")


@pytest.mark.parametrize("words", [("sieve", "check"), ("queue", "import")])
def test_a_name_that_no_file_can_have(words: tuple[str, ...]) -> None:
    name = "x" * 300
    command = [sys.executable, "-m", "mta.cli", *words, name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"tamis: {name}: File name too long\n")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("dns", "--next", "/gone/chain.pem"), 78),
        (("dns", "--update", "192.0.2.1", "--key", "/gone/chain.pem"), 78),
        (("serve", "--pid-file", "/gone/chain.pem"), 1),
    ],
)
def test_a_file_that_is_not_there_is_named_in_words(
    tmp_path: Path, words: tuple[str, ...], status: int
) -> None:
    (tmp_path / "tamis.toml").write_text(
        '[identity]\nhostname = "mx.example.test"\n'
        '[process]\nstate_directory = "s"\nruntime_directory = "r"\n'
    )
    command = [sys.executable, "-m", "mta.cli", *words, "--config", str(tmp_path / "tamis.toml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert "/gone/chain.pem: No such file or directory" in done.stderr
    assert "Errno" not in done.stderr
