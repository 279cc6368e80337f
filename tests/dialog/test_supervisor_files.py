"""Files and folders of a running server: sockets that somebody deletes, the state that a second one wants."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.running import Tamis, tamis, until

GONE = "files had been removed, and are made anew"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Tamis]:
    with tamis(tmp_path) as running:
        yield running


def banner(path: Path) -> str:
    """What a listener on a Unix socket says, "" when nobody can connect."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10.0)
        try:
            client.connect(str(path))
        except OSError:
            return ""
        return client.makefile().readline()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_control_socket_comes_back(server: Tamis, what: str) -> None:
    """Its workers go on with their clients."""
    server.configure()
    server.start()
    workers = server.workers()
    if what == "file":
        server.control.unlink()
    else:
        shutil.rmtree(server.control.parent)
    with server.client() as client:
        until(lambda: server.run("status").returncode == 0, lambda: f"control; log: {server.log()}")
        assert client.ask("echo on") == f"on {client.pid}"
    assert server.workers() == workers
    assert server.log().count(GONE) == 1
    assert server.run("stop").returncode == 0
    assert server.wait() == 0
    assert not server.control.exists()


def test_listener_of_workers_comes_back(server: Tamis, tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    server.configure(addresses=[f"127.0.0.1:{server.port}", f"unix:{path}"])
    server.start()
    assert "toy" in banner(path)
    with server.client() as client:
        path.unlink()
        until(lambda: "toy" in banner(path), lambda: f"listener; log: {server.log()}")
        assert client.ask("echo on") == f"on {client.pid}"
    until(lambda: server.status()["generation"] == 2, "the generation that serves it is current")
    assert server.log().count(GONE) == 1


def test_what_sendmail_is_told_comes_back(server: Tamis, tmp_path: Path) -> None:
    server.configure()
    server.start()
    before = (tmp_path / "run" / "sendmail.json").read_bytes()
    shutil.rmtree(tmp_path / "run")
    until(lambda: GONE in server.log(), lambda: f"files; log: {server.log()}")
    assert (tmp_path / "run" / "sendmail.json").read_bytes() == before
    assert f"{GONE}  files=[{server.control}, sendmail.json]" in server.log()
    assert server.run("status").returncode == 0


def debugs(server: Tamis, word: str) -> bool:
    """Whether a worker writes lines of level debug."""
    with server.client() as client:
        assert client.ask(f"debug {word}") == "logged"
    return word in server.log()


def test_level_of_the_log_stays_until_a_reload(server: Tamis, tmp_path: Path) -> None:
    """In workers that come in place of others, too: of one that died, and where a socket is made anew."""
    path = tmp_path / "smtp"
    server.configure(addresses=[f"127.0.0.1:{server.port}", f"unix:{path}"], workers=1)
    server.start()
    assert not debugs(server, "first")
    assert server.run("log-level", "debug").returncode == 0
    until(lambda: debugs(server, "second"), "the level is told")
    old = server.workers()
    with server.client() as client:
        client.file.write(b"crash\n")
        assert client.line() == ""
    until(lambda: server.workers() not in ({}, old), "the worker is replaced")
    assert debugs(server, "third")
    path.unlink()
    until(lambda: list(server.workers()) == ["worker-2.1"], lambda: f"anew; log: {server.log()}")
    assert debugs(server, "fourth")
    assert server.run("reload").returncode == 0
    assert not debugs(server, "fifth")


def test_what_cannot_be_made_is_said_once(server: Tamis) -> None:
    server.configure()
    server.start()
    server.control.unlink()
    server.control.write_text("somebody's notes")
    until(lambda: "exists and is not a socket" in server.log(), lambda: server.log())
    server.control.unlink()
    until(lambda: server.run("status").returncode == 0, lambda: f"control; log: {server.log()}")
    assert server.log().count("exists and is not a socket") == 1


def test_stop_is_in_order_where_a_socket_cannot_be_made_again(server: Tamis, tmp_path: Path) -> None:
    server.configure()
    server.start()
    server.control.unlink()
    server.control.write_text("somebody's notes")
    with server.client() as client:
        server.signal(signal.SIGTERM)
        until(lambda: "stopping" in server.log(), server.log)
        assert client.ask("echo on") == f"on {client.pid}"
    assert server.wait() == 0
    assert "cannot" not in server.log().partition("stopping")[2]
    assert (tmp_path / "state" / "unacknowledged.json").exists()
    assert server.control.read_text() == "somebody's notes"


def test_second_server_does_not_take_the_state_directory(server: Tamis, tmp_path: Path) -> None:
    """Not even when nothing else of the two is the same; after a crash the next one is let in at once."""
    server.configure()
    server.start()
    (tmp_path / "second").mkdir()
    with tamis(tmp_path / "second") as second:
        second.configure()
        shared = second.path.read_text().replace(f"{second.directory}/state", f"{server.directory}/state")
        second.path.write_text(shared)
        second.start(wait=False)
        assert second.wait() == 1
        assert server.process is not None
        who = f"another server (process {server.process.pid}) works with {server.directory}/state"
        advice = "stop it, or give this one a process.state_directory of its own"
        assert second.log() == f"tamis: cannot start: {who}: {advice}\n"
        server.process.kill()
        server.process.wait()
        second.start()


def test_everybody_can_read_what_sendmail_is_told(server: Tamis, tmp_path: Path) -> None:
    (tmp_path / "run").rmdir()
    (tmp_path / "state").rmdir()
    server.configure()
    server.start(umask=0o027)
    found = [tmp_path / "run", tmp_path / "run" / "sendmail.json", tmp_path / "state"]
    assert [oct(path.stat().st_mode & 0o777) for path in found] == ["0o755", "0o644", "0o750"]
