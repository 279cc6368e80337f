"""`sendmail` as scripts call it, through a symbolic link, against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.ports import free_port
from tests.peers.running import ROOT
from tests.peers.site import ALICE, BOB, Site, site

MESSAGE = b"To: Alice <alice@example.test>\nBcc: bob@example.test\nSubject: from a script\n\nhello\n"


_AS_STRANGER = """
import os
import mta.configured, mta.queue_access, mta.queue_offline
import mta.sendmail_queue, mta.sendmail_server, mta.sendmail_session
mta.configured.DEFAULT_SOCKET = "{folder}/run/control"
mta.sendmail_server.PUBLISHED = "{folder}/run/sendmail.json"
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""
"""Becomes a user who has nothing to do with the server, of which the default places are here."""


class Script:
    """A folder with links as an administrator makes them."""

    def __init__(self, server: Site, folder: Path, *, as_stranger: bool = False) -> None:
        self.server = server
        self.folder = folder
        folder.mkdir()
        first = _AS_STRANGER.format(folder=server.directory) if as_stranger else ""
        for name in ("sendmail", "mailq", "tamis"):
            program = folder / name
            program.write_text(
                f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
                f"for part in ('queue', 'milter'): sys.path.append({str(ROOT)!r} + '/' + part)\n"
                f"{first}from mta.cli import main\nmain()\n"
            )
            program.chmod(0o755)
        self.environment = {
            **os.environ,
            "TAMIS_CONFIG": str(server.path),
            "TAMIS_SENDMAIL_WAIT": "0",
        }

    def run(self, name: str, *words: str, octets: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(self.folder / name), *words],
            input=octets,
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def sendmail(self, *words: str, octets: bytes = MESSAGE, status: int = 0) -> str:
        """What it says on standard error."""
        done = self.run("sendmail", *words, octets=octets)
        said = done.stderr.decode()
        assert done.returncode == status, said
        assert "Traceback" not in said
        return said


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    folder = tmp_path_factory.mktemp("sendmail")
    with site(folder) as server:
        yield Script(server, folder / "bin")


def test_recipients_of_the_header(script: Script) -> None:
    assert script.sendmail("-t", "-oi") == ""
    for user in (ALICE, BOB):
        message = script.server.message(user, "from a script")
        assert b"Bcc" not in message
        assert b"\r\nhello\r\n" in message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        assert b"Date: " in message
        assert b"Message-ID: " in message


def test_sender_and_name(script: Script) -> None:
    octets = b"Subject: who am i\n\nx\n.\nnot read\n"
    assert script.sendmail("-f", "cron@example.test", "-F", "The Clock", "alice", octets=octets) == ""
    message = script.server.message(ALICE, "who am i")
    assert b"Return-Path: <cron@example.test>" in message
    assert b'From: "The Clock" <cron@example.test>' in message
    assert b"not read" not in message


def test_null_sender(script: Script) -> None:
    script.sendmail("-i", "-f", "<>", "-B8BITMIME", ALICE, octets="Subject: nobody\n\n.\nhäh\n".encode())
    message = script.server.message(ALICE, "Subject: nobody")
    assert b"Return-Path: <>" in message
    assert "\nhäh".encode() in message


def test_some_recipients_do_not_exist(script: Script) -> None:
    octets = b"Subject: some\n\nx\n"
    said = script.sendmail(ALICE, "nobody@example.test", octets=octets, status=67)
    assert said == "sendmail: nobody@example.test: 550 5.1.1 User unknown\n"
    script.server.message(ALICE, "Subject: some")
    said = script.sendmail("nobody@example.test", octets=octets, status=67)
    assert len(script.server.messages(ALICE, "Subject: some")) == 1


def test_refusals(script: Script) -> None:
    assert "relaying denied" in script.sendmail("x@example.net", status=77)
    assert "nobody to send it to: name recipients" in script.sendmail(status=64)
    assert "the header names nobody" in script.sendmail("-t", octets=b"Subject: x\n\nx\n", status=64)
    assert "no mail address" in script.sendmail("-t", octets=b"To: a b c@\n\nx\n", status=65)
    assert "neither ASCII nor UTF-8" in script.sendmail("j\udcf6rg@example.test", status=64)
    assert "neither ASCII nor UTF-8" in script.sendmail("-f", "j\udcf6rg@example.test", ALICE, status=64)
    assert "tamis serve" in script.sendmail("-bd", status=64)
    assert "larger than" in script.sendmail(ALICE, octets=b"x" * (50 * 1024 * 1024 + 1), status=65)


def test_session(script: Script) -> None:
    done = script.run(
        "sendmail", "-bs", octets=b"HELO x\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.test>\r\n"
    )
    assert done.returncode == 0
    assert done.stdout.startswith(b"220 mx.example.test ")


def test_modules_of_the_caller_are_not_ours(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application in Python, or a cron job of one, has libraries of its own in PYTHONPATH."""
    (tmp_path / "msgspec.py").write_text("raise ImportError('made for another Python')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert script.sendmail(ALICE, octets=b"Subject: from an application\n\nx\n") == ""
    script.server.message(ALICE, "from an application")
    assert script.run("mailq").stdout == b"Mail queue is empty\n"


def test_queue(script: Script) -> None:
    assert script.run("mailq").stdout == b"Mail queue is empty\n"
    assert script.run("sendmail", "-bp").stdout == b"Mail queue is empty\n"
    assert script.run("sendmail", "-q").returncode == 0
    assert script.run("sendmail", "-bi").returncode == 0


def test_verbose(script: Script) -> None:
    done = script.run("sendmail", "-v", ALICE, octets=b"Subject: loud\n\nx\n")
    assert done.stdout.startswith(b"2.0.0 Stored as ")


def test_others_may_send_and_not_look(tmp_path: Path) -> None:
    """The configuration is closed to them, as install.md closes it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        with site(folder) as server:
            server.path.chmod(0o600 if os.geteuid() == 0 else 0)
            script = Script(server, folder / "bin", as_stranger=True)
            assert script.sendmail("-v", ALICE, octets=b"Subject: from somebody\n\nx\n") == ""
            message = server.message(ALICE, "from somebody")
            assert re.search(rb"^From: .*<\w+@example\.test>", message, re.MULTILINE)
            session = script.run("sendmail", "-bs", octets=b"NOOP\r\nQUIT\r\n")
            assert session.stdout.startswith(b"220 mx.example.test ")
            for words in (("mailq",), ("sendmail", "-bp"), ("sendmail", "-q")):
                done = script.run(*words)
                assert done.returncode == 77
                assert b"only root and the user of the server may look at the queue (" in done.stderr
            done = script.run("tamis", "queue", "list")
            assert done.returncode == 78
            assert b"only root and the user of the server may see and change the queue (" in done.stderr
            server.stop()
            assert "does not answer: Connection refused" in script.sendmail(ALICE, status=75)
            (folder / "run/sendmail.json").unlink()
            assert "is closed to you, and no server runs: " in script.sendmail(ALICE, status=75)
            for line in ("mailq", "tamis queue list"):
                assert script.run(*line.split()).stderr.count(b"only root and the user of the server") == 1
            server.path.chmod(0o600)  # its end asks it to stop


def test_more_recipients_than_the_server_takes_at_once(tmp_path: Path) -> None:
    with site(tmp_path, more="[message]\nmax_recipients = 100\n") as server:
        script = Script(server, tmp_path / "bin")
        octets = b"To: " + b",\n ".join(b"alice+%d@example.test" % number for number in range(250))
        assert script.sendmail("-t", octets=octets + b"\nSubject: to many\n\nx\n") == ""
        assert len(server.messages(ALICE, "Subject: to many")) == 250
        server.stop()


def test_server_away(tmp_path: Path) -> None:
    server = Site(tmp_path)
    server.set_up()
    script = Script(server, tmp_path / "bin")
    assert "does not answer: Connection refused" in script.sendmail(ALICE, status=75)
    server.path.write_text("[identity]\nhostnam = 3\n")
    assert "hostnam" in script.sendmail(ALICE, status=78)
    server.path.unlink()
    assert "No such file" in script.sendmail(ALICE, status=78)


@pytest.mark.parametrize("by_what_it_published", [False, True])
def test_a_restart_loses_no_mail_of_cron(tmp_path: Path, by_what_it_published: bool) -> None:
    """Where the server listens is in the configuration, or only the server itself can say it."""
    server = Site(tmp_path)
    server.set_up()
    if by_what_it_published:
        server.path.write_text(server.path.read_text().replace(f"127.0.0.1:{server.smtp}", "127.0.0.1:0"))
    script = Script(server, tmp_path / "bin")
    script.environment["TAMIS_SENDMAIL_WAIT"] = "50"
    try:
        with subprocess.Popen(
            [str(tmp_path / "bin/sendmail"), "-t"],
            env=script.environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as cron:
            assert cron.stdin
            assert cron.stderr
            cron.stdin.write(MESSAGE)
            cron.stdin.close()
            said = cron.stderr.readline()
            assert said.endswith(b": waiting 50 s for it\n"), said
            assert (b"no server runs: " if by_what_it_published else b"Connection refused: ") in said
            server.start(wait=False)
            assert (cron.stderr.read(), cron.wait()) == (b"", 0)
        assert server.message(ALICE, "from a script")
    finally:
        server.end()


def test_a_wait_that_is_no_number(tmp_path: Path) -> None:
    server = Site(tmp_path)
    server.set_up()
    script = Script(server, tmp_path / "bin")
    for wrong in ("a minute", "-1", "nan", "1e9"):
        script.environment["TAMIS_SENDMAIL_WAIT"] = wrong
        assert script.sendmail(ALICE, status=78) == (
            f"sendmail: TAMIS_SENDMAIL_WAIT={wrong}: expected seconds, 0 to 86400\n"
        )


def test_temporary_refusal_sends_nothing(tmp_path: Path) -> None:
    backend = f'backend = "b"\n[backends.b]\naddresses = ["127.0.0.1:{free_port()}"]\n'
    with site(tmp_path, backend=backend, recipients="ask", queue="enabled = false") as server:
        script = Script(server, tmp_path / "bin")
        assert "451 4.4.1" in script.sendmail(ALICE, status=75)
        server.stop()


def test_a_mail_store_that_is_away_loses_no_mail_of_cron(tmp_path: Path) -> None:
    """Nobody can say whether the recipient exists; cron does not come back to hear it."""
    backend = f'backend = "b"\n[backends.b]\naddresses = ["127.0.0.1:{free_port()}"]\n'
    with site(tmp_path, backend=backend, recipients="ask", trusted='["127.0.0.0/8"]') as server:
        script = Script(server, tmp_path / "bin")
        done = script.run("sendmail", "-v", ALICE, octets=b"Subject: later\n\nx\n")
        assert (done.returncode, done.stdout[:17]) == (0, b"2.0.0 queued as 0")
        assert ALICE.encode() in script.run("mailq").stdout
        server.stop()
