"""Every mechanism of AUTH by msmtp, through the daemon, to a real Dovecot and to the users file."""

from __future__ import annotations

import re
import subprocess
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


def with_certificates(folder: Path, auth: str = "") -> Iterator[tuple[Site, int]]:
    needs("msmtp")
    with edit(folder / "users") as table:
        for name in (ALICE, BOB):
            table.put(User(name).with_password(PASSWORD))
    port = free_port()
    options = {"auth": auth} if auth else {}
    with site(folder, recipients="users", more=CERTIFIED.format(port=port), **options) as running:
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
