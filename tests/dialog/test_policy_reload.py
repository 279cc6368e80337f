"""A reload with policy scripts, as real processes: a broken script keeps the old one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.running import Tamis, tamis

POLICY = 'require ["vnd.tamis.stage", "vnd.tamis.reply"];\nstage "helo" { reply "%s"; }\n'
BROKEN = 'require ["vnd.tamis.stage", "vnd.tamis.reply"];\nstage "helo" { header; }\nstage "sent" { }\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Tamis]:
    with tamis(tmp_path) as running:
        running.options = {}
        running.configure(workers=1, rest='[policy]\nscripts = ["policy.sieve"]\n[queue]\nenabled = false')
        yield running


def answer(server: Tamis) -> str:
    """What a new client hears of its EHLO."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock,
        sock.makefile("rwb") as file,
    ):
        assert file.readline().startswith(b"220 ")
        file.write(b"EHLO client.test\r\n")
        file.flush()
        return file.readline().decode().strip()


def test_a_broken_script_keeps_the_old_one(server: Tamis) -> None:
    script = server.directory / "policy.sieve"
    script.write_text(POLICY % "first")
    server.start()
    assert answer(server) == "550 5.7.1 first"
    script.write_text(BROKEN)
    refused = server.run("reload")
    assert refused.returncode == 78
    assert f"{script}:2:16: " in refused.stderr
    assert f"{script}:3:7: there is no stage 'sent'" in refused.stderr
    assert "goes on as before" in refused.stderr
    assert answer(server) == "550 5.7.1 first"
    script.write_text(POLICY % "second")
    assert server.run("reload").returncode == 0
    assert answer(server) == "550 5.7.1 second"


def test_check_config_lists_mistakes_and_warnings(server: Tamis) -> None:
    script = server.directory / "policy.sieve"
    script.write_text(BROKEN)
    checked = server.run("check-config")
    assert checked.returncode == 78
    places = [line.partition(" ")[0] for line in checked.stderr.splitlines() if "policy.sieve" in line]
    assert places == [f"{script}:2:16:", f"{script}:3:7:"]
    script.write_text(POLICY % "x" + 'stage "rcpt" { accept; reply "never"; }')
    checked = server.run("check-config", "--json")
    assert checked.returncode == 0
    (warning,) = [one for one in json.loads(checked.stdout)["problems"] if one["file"] == str(script)]
    assert (warning["line"], warning["column"], warning["warning"]) == (3, 24, True)
    script.unlink()
    checked = server.run("check-config")
    assert checked.returncode == 78
    assert "policy.scripts[0]" in checked.stderr
