"""msmtp, a sendmail that users have on their machines, with verified certificates."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.peers.certificates import authority
from tests.peers.msmtp import gives_up
from tests.peers.needs import needs, program
from tests.peers.site import ALICE, BOB, PASSWORD, Site, site

pytestmark = pytest.mark.scenario

OK, DATA_ERROR, NO_USER, UNAVAILABLE, TEMPORARY, PROTOCOL, NO_PERMISSION = 0, 65, 67, 69, 75, 76, 77
"""Exit statuses (sysexits.h)."""
AS_USER = " with (?:E|UTF8)SMTPSA id "
"""In Received; the second name with SMTPUTF8 (RFC 6531 section 4.3), which newer msmtps always ask for."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    needs("msmtp")
    with site(tmp_path_factory.mktemp("msmtp")) as running:
        yield running


class Run:
    """One message by msmtp."""

    def __init__(
        self,
        server: Site,
        *options: str,
        to: tuple[str, ...] = (BOB,),
        sender: str = ALICE,
        body: str = "hello",
    ) -> None:
        self.token = uuid4().hex
        message = f"From: {sender}\nTo: {', '.join(to)}\nSubject: {self.token}\n\n{body}\n"
        done = subprocess.run(
            [
                program("msmtp"), "--file=/dev/null", "--host=localhost", f"--from={sender}",
                "--timeout=30", "--debug", *options, "--", *to,
            ],
            input=message, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.status = done.returncode
        self.transcript = done.stdout + done.stderr
        self._server = server

    def stored(self, user: str = BOB) -> str:
        return self._server.message(user, self.token).decode()


def login(mechanism: str, password: str = PASSWORD, user: str = ALICE) -> list[str]:
    return [f"--auth={mechanism}", f"--user={user}", f"--passwordeval=echo '{password}'"]


def starttls(server: Site, ca_file: str = "") -> list[str]:
    return [f"--port={server.submission}", "--tls=on", f"--tls-trust-file={ca_file or server.ca_file}"]


def implicit(server: Site) -> list[str]:
    return [
        f"--port={server.submissions}", "--tls=on", "--tls-starttls=off", f"--tls-trust-file={server.ca_file}"
    ]  # fmt: skip


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-1", "scram-sha-256", "on"])
def test_submission_with_starttls(server: Site, mechanism: str) -> None:
    run = Run(server, *starttls(server), *login(mechanism))
    if gives_up(mechanism, run.status, run.transcript):
        return
    assert run.status == OK, run.transcript
    message = run.stored()
    assert message.startswith(f"Return-Path: <{ALICE}>\nDelivered-To: {BOB}\nReceived: from ")
    assert re.search(AS_USER, message)
    assert "\nDate: " in message
    assert "\nMessage-ID: <" in message


def test_submission_with_implicit_tls(server: Site) -> None:
    run = Run(server, *implicit(server), *login("plain"), to=(ALICE, BOB))
    assert run.status == OK, run.transcript
    for user in (ALICE, BOB):
        assert re.search(AS_USER, run.stored(user))


def test_a_certificate_of_somebody_else(server: Site, tmp_path: Path) -> None:
    run = Run(server, *starttls(server, authority(tmp_path).file), *login("plain"))
    assert run.status != OK
    assert "AUTH" not in run.transcript.partition("STARTTLS")[2]
    assert not server.messages(BOB, run.token)


def test_the_wrong_password(server: Site) -> None:
    for mechanism in ("plain", "scram-sha-256"):
        run = Run(server, *starttls(server), *login(mechanism, "battery staple"))
        if gives_up(mechanism, run.status, run.transcript):
            continue
        assert run.status == NO_PERMISSION, run.transcript
        assert "535 5.7.8" in run.transcript


def test_refusals_reach_the_user(server: Site) -> None:
    nobody = Run(server, *starttls(server), *login("plain"), to=("nobody@example.test",))
    assert (nobody.status, "550 5.1.1" in nobody.transcript) == (DATA_ERROR, True), nobody.transcript
    forged = Run(server, *starttls(server), *login("plain"), sender=BOB)
    assert (forged.status, "553 5.7.1" in forged.transcript) == (DATA_ERROR, True), forged.transcript
    plain = Run(server, f"--port={server.submission}", "--tls=off", "--auth=off")
    assert plain.status != OK
    assert "530 5.7.0" in plain.transcript


def test_a_large_message_with_long_lines_and_dots(server: Site) -> None:
    body = "\n".join([".", "..dots", "x" * 990] * 2000)
    run = Run(server, *implicit(server), *login("plain"), body=body)
    assert run.status == OK, run.transcript[:2000]
    assert run.stored().partition("\n\n")[2] == body + "\n"
