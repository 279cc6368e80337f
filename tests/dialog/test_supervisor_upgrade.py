"""Another version is installed under a running supervisor, then it is told to reload."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailqueue
import mta
import sieve_ext
from tests.peers.running import ROOT, Tamis

RENAMED = "secret_in"
"""A name that is used between modules, of which some are loaded only where a configuration needs them."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An installation of its own."""
    place = tmp_path / "installed"
    for package in (mta, sieve_ext, mailqueue):
        folder = Path(str(package.__file__)).parent
        shutil.copytree(folder, place / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture
def server(tmp_path: Path, installed: Path) -> Iterator[Tamis]:
    """A server that runs from there."""
    server = Tamis(tmp_path)
    server.environment = {"PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    # Not from where the tests are.
    server.interpreter = [sys.executable, "-P"]
    server.configure()
    try:
        yield server
    finally:
        server.end()


def upgrade(installed: Path) -> None:
    """To a version that differs where it matters: in the names that its modules have from each other."""
    changed = 0
    for path in installed.rglob("*.py"):
        text = path.read_text()
        if RENAMED in text:
            path.write_text(text.replace(RENAMED, "secret_within"))
            changed += 1
    assert changed > 1


def test_a_reload_takes_what_the_new_version_reads(server: Tamis, installed: Path) -> None:
    server.start()
    upgrade(installed)
    table = server.directory / "table"
    table.write_text("a b\n")
    server.configure(rest=f'[tables.one]\nfile = "{table}"\n')
    reloaded = server.run("reload")
    assert reloaded.returncode == 0, reloaded.stderr
    assert set(server.workers()) == {"worker-2.1", "worker-2.2"}
    with server.client() as client:
        assert client.ask("echo x") == f"x {client.pid}"
