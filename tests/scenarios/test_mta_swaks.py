"""swaks, in all the ways in which an administrator tries a mail server out, against a real one."""

from __future__ import annotations

import email
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.peers.needs import needs, program
from tests.peers.ports import free_port
from tests.peers.site import ALICE, BOB, PASSWORD, Site, site

pytestmark = pytest.mark.scenario

OUTSIDER = "you@example.org"
OK, RCPT_REFUSED, DATA_REFUSED, AUTH_REFUSED = 0, 24, 26, 28
"""Exit statuses of swaks."""


@pytest.fixture(scope="module")
def proxied() -> int:
    """The port behind the load balancer."""
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, proxied: int) -> Iterator[Site]:
    needs("swaks", "libnet-ssleay-perl")
    trusting = 'xclient_from = ["127.0.0.1"]'
    balanced = f"""
[[listener]]
name = "balanced"
addresses = ["127.0.0.1:{proxied}"]
proxy_protocol_from = ["127.0.0.1"]
"""
    quick = '[timeouts]\nproxy_header = "1s"'
    with site(tmp_path_factory.mktemp("swaks"), smtp_options=trusting, more=balanced + quick) as running:
        yield running


class Run:
    """One run of swaks."""

    def __init__(
        self, server: Site, port: int, *options: str, sender: str = OUTSIDER, to: str = ALICE
    ) -> None:
        self.token = uuid4().hex
        done = subprocess.run(
            [
                program("swaks"), "--server", f"127.0.0.1:{port}", "--from", sender, "--to", to,
                "--ehlo", "client.example.org", "--timeout", "30",
                "--header", f"Subject: {self.token}", *options,
            ],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.status = done.returncode
        self.transcript = done.stdout + done.stderr
        self._server = server

    def stored(self, user: str = ALICE) -> str:
        """The message as the recipient has it: there must be one copy."""
        return self._server.message(user, self.token).decode()

    def is_nowhere(self) -> bool:
        return not any(self._server.messages(user, self.token) for user in (ALICE, BOB))


def login(mechanism: str, password: str = PASSWORD) -> tuple[str, ...]:
    return "--auth", mechanism, "--auth-user", ALICE, "--auth-password", password


def received(message: str) -> str:
    """The one Received field, unfolded."""
    header = message.partition("\n\n")[0].replace("\n ", " ")
    (field,) = [line for line in header.splitlines() if line.startswith("Received:")]
    return field


def test_plain_smtp(server: Site) -> None:
    run = Run(server, server.smtp)
    assert run.status == OK, run.transcript
    message = run.stored()
    lines = message.splitlines()
    assert lines[0] == f"Return-Path: <{OUTSIDER}>"
    assert sum(line.startswith("Return-Path:") for line in lines) == 1
    assert "from client.example.org ([127.0.0.1]) by mx.example.test" in received(message)
    assert " with ESMTP id " in received(message)
    assert f"for <{ALICE}>" in received(message)


def test_the_reply_is_the_stores(server: Site) -> None:
    run = Run(server, server.smtp)
    (reply,) = [line for line in run.transcript.splitlines() if "Stored as" in line]
    name = reply.partition("Stored as ")[2].strip()
    box = server.directory / "mail" / "example.test" / "alice" / "new"
    assert (box / name).exists()
    refused = Run(server, server.smtp, to="nobody@example.test")
    assert refused.status == RCPT_REFUSED
    assert "550 5.1.1" in refused.transcript


def test_pipelining(server: Site) -> None:
    run = Run(server, server.smtp, "--pipeline", to=f"{ALICE},{BOB}")
    assert run.status == OK, run.transcript
    lines = run.transcript.splitlines()
    group = next(index for index, line in enumerate(lines) if "MAIL FROM" in line)
    assert all(line.lstrip(">- ").startswith(("RCPT", "DATA")) for line in lines[group + 1 : group + 4])
    for user in (ALICE, BOB):
        assert run.stored(user).startswith("Return-Path: <you@example.org>\n")


def test_prdr(server: Site) -> None:
    run = Run(server, server.smtp, "--prdr", to=f"{ALICE},{BOB}")
    assert run.status == OK, run.transcript
    assert " PRDR" in run.transcript
    assert run.stored(ALICE)
    assert run.stored(BOB)


def test_an_attachment(server: Site, tmp_path: Path) -> None:
    path = tmp_path / "picture.bin"
    path.write_bytes(bytes(range(256)) * 8000)  # some 2.7 MB as base64: it passes through a file
    run = Run(server, server.smtp, "--attach", f"@{path}", "--body", "see the picture")
    assert run.status == OK, run.transcript[:2000]
    message = email.message_from_string(run.stored())
    (attachment,) = [part for part in message.walk() if part.get_filename()]
    assert attachment.get_payload(decode=True) == path.read_bytes()


def test_dots(server: Site) -> None:
    run = Run(server, server.smtp, "--body", ".\n..\n...three\nend")
    assert run.status == OK, run.transcript
    assert "\n.\n..\n...three\nend\n" in run.stored()


def test_starttls_without_login(server: Site) -> None:
    run = Run(server, server.smtp, "--tls", "--tls-verify", "--tls-ca-path", server.ca_file)
    assert run.status == OK, run.transcript
    field = received(run.stored())
    assert " with ESMTPS id " in field
    assert "using TLSv1.3 with cipher" in field


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_submission_with_starttls(server: Site, mechanism: str) -> None:
    run = Run(server, server.submission, "--tls", *login(mechanism), sender=ALICE, to=BOB)
    assert run.status == OK, run.transcript
    assert f"~> AUTH {mechanism}" in run.transcript
    assert " with ESMTPSA id " in received(run.stored(BOB))


def test_submission_with_implicit_tls(server: Site) -> None:
    run = Run(server, server.submissions, "--tls-on-connect", *login("PLAIN"), sender=ALICE, to=BOB)
    assert run.status == OK, run.transcript
    assert " with ESMTPSA id " in received(run.stored(BOB))


def test_what_is_not_offered(server: Site) -> None:
    run = Run(server, server.submission, "--tls", *login("CRAM-MD5"), sender=ALICE, to=BOB)
    assert run.status == AUTH_REFUSED
    assert "CRAM-MD5" not in "".join(line for line in run.transcript.splitlines() if "250" in line)
    assert run.is_nowhere()
    plain = Run(server, server.submission, *login("PLAIN"), sender=ALICE, to=BOB)
    assert plain.status == AUTH_REFUSED  # no AUTH before TLS
    assert "250-AUTH" not in plain.transcript
    outside = Run(server, server.smtp, "--tls", *login("PLAIN"), sender=ALICE, to=BOB)
    assert outside.status == AUTH_REFUSED  # nor on port 25


def test_a_wrong_password(server: Site) -> None:
    run = Run(server, server.submission, "--tls", *login("PLAIN", "battery staple"), sender=ALICE, to=BOB)
    assert run.status == AUTH_REFUSED
    assert "535 5.7.8" in run.transcript
    assert run.is_nowhere()


def test_submission_adds_what_is_missing_and_smtp_does_not(server: Site) -> None:
    data = f"From: {ALICE}\\nTo: {BOB}\\nSubject: to be replaced\\n\\nhello\\n"

    def with_data(port: int, *options: str, sender: str) -> str:
        run = Run(server, port, *options, "--data", data, sender=sender, to=BOB)
        assert run.status == OK, run.transcript
        return run.stored(BOB)

    submitted = with_data(server.submissions, "--tls-on-connect", *login("PLAIN"), sender=ALICE)
    assert "\nDate: " in submitted
    assert "\nMessage-ID: <" in submitted
    relayed = with_data(server.smtp, sender=OUTSIDER)
    assert "\nDate: " not in relayed
    assert "\nmessage-id:" not in relayed.lower()


def test_xclient(server: Site) -> None:
    run = Run(server, server.smtp, "--xclient-addr", "192.0.2.7", "--xclient-name", "spike.example.org")
    assert run.status == OK, run.transcript
    assert "from client.example.org (spike.example.org [192.0.2.7])" in received(run.stored())


@pytest.mark.parametrize(("version", "family"), [("1", "TCP4"), ("2", "AF_INET")])
def test_a_proxy_header(server: Site, proxied: int, version: str, family: str) -> None:
    header = [
        "--proxy-version", version, "--proxy-family", family, "--proxy-source", "192.0.2.8",
        "--proxy-source-port", "4711", "--proxy-dest", "192.0.2.1", "--proxy-dest-port", "25",
    ]  # fmt: skip
    run = Run(server, proxied, *header)
    assert run.status == OK, run.transcript
    assert "([192.0.2.8])" in received(run.stored())
    without = Run(server, proxied)
    assert without.status != OK
    assert without.is_nowhere()
