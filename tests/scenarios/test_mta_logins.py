"""Every mechanism of AUTH by msmtp, through the daemon, to a real Dovecot and to the users file."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from mta.accounts.user import User
from mta.accounts.usersfile import edit
from tests.peers.dovecot_auth import DovecotAuth, dovecot_auth, token
from tests.peers.msmtp import can_scram, gives_up
from tests.peers.needs import needs, program
from tests.peers.ports import free_port
from tests.peers.site import ALICE, BOB, PASSWORD, Site, site
from tests.scenarios.test_mta_msmtp import AS_USER

pytestmark = pytest.mark.scenario

OK, NO_PERMISSION = 0, 77
MECHANISMS = ("plain", "login", "scram-sha-1", "scram-sha-256")
CERTIFIED = """
[[listener]]
name = "certified"
protocol = "submission"
addresses = ["127.0.0.1:{port}"]
client_ca = "ca.pem"
"""


@pytest.fixture(scope="module")
def dovecot() -> Iterator[DovecotAuth]:
    with dovecot_auth(f"{ALICE}:{{PLAIN}}{PASSWORD}\n") as running:
        yield running


def with_certificates(folder: Path, auth: str = "", more: str = "") -> Iterator[tuple[Site, int]]:
    needs("msmtp")
    with edit(folder / "users") as table:
        for name in (ALICE, BOB):
            table.put(User(name).with_password(PASSWORD))
    port = free_port()
    options = {"auth": auth} if auth else {}
    with site(folder, recipients="users", more=CERTIFIED.format(port=port) + more, **options) as running:
        running.authority.issue("alice", ALICE)
        yield running, port


@pytest.fixture(scope="module")
def at_dovecot(tmp_path_factory: pytest.TempPathFactory, dovecot: DovecotAuth) -> Iterator[tuple[Site, int]]:
    auth = f'backend = "dovecot"\ndovecot_socket = "unix:{dovecot.socket}"\nfailure_delay = "0.1s"\n'
    yield from with_certificates(tmp_path_factory.mktemp("dovecot"), auth)


@pytest.fixture(scope="module")
def at_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, int]]:
    yield from with_certificates(tmp_path_factory.mktemp("users"))


def send(server: Site, port: int, mechanism: str, secret: str, *options: str) -> tuple[int, str]:
    """Submit a message to BOB as ALICE; the exit status, and what was said."""
    mark = uuid4().hex
    done = subprocess.run(
        [
            program("msmtp"), "--file=/dev/null", "--host=localhost", f"--port={port}", f"--from={ALICE}",
            "--timeout=30", "--debug", "--tls=on", f"--tls-trust-file={server.ca_file}",
            f"--auth={mechanism}", f"--user={ALICE}", f"--passwordeval=echo '{secret}'", *options, "--", BOB,
        ],
        input=f"From: {ALICE}\nTo: {BOB}\nSubject: {mark}\n\nhello\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    transcript = done.stdout + done.stderr
    if done.returncode == OK:
        assert re.search(AS_USER.encode(), server.message(BOB, mark)), transcript
    else:
        assert server.messages(BOB, mark) == []
    return done.returncode, transcript


def test_passwords_at_dovecot(at_dovecot: tuple[Site, int]) -> None:
    server, _ = at_dovecot
    for mechanism in MECHANISMS:
        status, transcript = send(server, server.submission, mechanism, PASSWORD)
        if gives_up(mechanism, status, transcript):
            continue
        assert status == OK, transcript
        assert f"AUTH {mechanism.upper()}" in transcript
    wrong = "scram-sha-256" if can_scram() else "plain"
    status, transcript = send(server, server.submission, wrong, "wrong")  # each delays the next
    assert status == NO_PERMISSION, transcript


def guess(server: Site, secret: str, *, waits: bool) -> bytes:
    """Try a password by PLAIN; the answer, if it is waited for."""
    with socket.create_connection(("localhost", server.submission), timeout=30) as plain:
        lines = plain.makefile("rb")
        lines.readline()
        for command in (b"EHLO guess.test", b"STARTTLS"):
            plain.sendall(command + b"\r\n")
            while lines.readline()[3:4] == b"-":
                pass
        with ssl.create_default_context(cafile=server.ca_file).wrap_socket(
            plain, server_hostname="localhost"
        ) as client:
            secured = client.makefile("rb")
            client.sendall(b"EHLO guess.test\r\n")
            while secured.readline()[3:4] == b"-":
                pass
            client.sendall(b"AUTH PLAIN " + b64encode(f"\0{ALICE}\0{secret}".encode()) + b"\r\n")
            if waits:
                return secured.readline()
            time.sleep(0.1)  # what it has sent is on its way to Dovecot
            return b""


def test_who_hangs_up_before_dovecot_answers_is_counted_all_the_same(tmp_path: Path) -> None:
    with dovecot_auth(f"{ALICE}:{{PLAIN}}{PASSWORD}\n", failure_delay="1 secs") as slow:
        auth = (
            f'backend = "dovecot"\ndovecot_socket = "unix:{slow.socket}"\nfailure_delay = "0s"\n'
            "failures_per_client = 3\n"
        )
        for server, _ in with_certificates(tmp_path, auth, "[limits]\nexempt_networks = []\n"):
            assert guess(server, PASSWORD, waits=True).startswith(b"235 ")
            for number in range(3):
                guess(server, f"wrong {number}", waits=False)
            end = time.monotonic() + 30
            while server.log().count("login failed") < 3:
                assert time.monotonic() < end, server.log()
                time.sleep(0.1)
            assert guess(server, PASSWORD, waits=True).startswith(b"454 ")


def test_tokens_at_dovecot(at_dovecot: tuple[Site, int]) -> None:
    server, _ = at_dovecot
    for mechanism in ("oauthbearer", "xoauth2"):
        status, transcript = send(server, server.submission, mechanism, token(ALICE))
        assert status == OK, transcript
    status, transcript = send(server, server.submission, "oauthbearer", token(ALICE, expires_in=-60))
    assert status == NO_PERMISSION, transcript


def test_passwords_of_the_users_file(at_users: tuple[Site, int]) -> None:
    server, _ = at_users
    for mechanism in MECHANISMS:
        status, transcript = send(server, server.submission, mechanism, PASSWORD)
        if gives_up(mechanism, status, transcript):
            continue
        assert status == OK, transcript
    wrong = "scram-sha-1" if can_scram() else "plain"
    status, transcript = send(server, server.submission, wrong, "wrong")
    assert status == NO_PERMISSION, transcript


@pytest.mark.parametrize("backend", ["at_dovecot", "at_users"])
def test_a_certificate(backend: str, request: pytest.FixtureRequest) -> None:
    server, port = request.getfixturevalue(backend)
    mine = [f"--tls-cert-file={server.directory}/alice.pem", f"--tls-key-file={server.directory}/alice.key"]
    status, transcript = send(server, port, "external", "", *mine)
    assert status == OK, transcript
    assert send(server, server.submission, "external", "", *mine)[0] != OK, "nobody asked for it there"
