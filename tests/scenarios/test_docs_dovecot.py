"""The Dovecot configuration in docs/dovecot.md: `doveconf` takes it, and a Dovecot that runs it does what the
page says.
"""

from __future__ import annotations

import datetime
import os
import re
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiosmtpd.controller
import pytest
from aiosmtpd.smtp import Envelope

from mta.demo import self_signed
from tests.peers import dovecot_version as version
from tests.peers.needs import needs, program
from tests.peers.ports import free_port

pytestmark = pytest.mark.scenario

PAGE = Path(__file__).parents[2] / "docs" / "dovecot.md"
UID = 20_000
"""Owner of the mail; it needs no entry in passwd."""
START_TIMEOUT = 60.0

BASE = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
first_valid_uid = 1
ssl = yes
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


def base(folder: Path) -> str:
    """What the page takes for granted."""
    key = "ssl_server_{}_file = {}\n" if version.is_2_4() else "ssl_{} = <{}\n"
    return (
        BASE.format(folder=folder)
        + key.format("cert", folder / "certificate.pem")
        + key.format("key", folder / "key.pem")
        + version.maildir()
        + version.passdb_file(f"{folder}/users")
        + version.userdb_file(f"{folder}/users")
    )


def page() -> str:
    """The configuration of the page for the Dovecot that is installed."""
    name = "dovecot24" if version.is_2_4() else "dovecot"
    found = re.findall(rf"^```{name}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) >= 2
    return "".join(found)


def doveconf(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    needs("dovecot-core")
    return subprocess.run(
        ["doveconf", "-c", str(path), *options], capture_output=True, text=True, timeout=30, check=False
    )


def test_doveconf_takes_the_page(tmp_path: Path) -> None:
    path = tmp_path / "dovecot.conf"
    path.write_text(version.head() + page())
    done = doveconf(path, "-n")
    assert done.returncode == 0, done.stderr
    shown = {line.strip() for line in done.stdout.splitlines()}
    # What the page sets is there, and doveconf did not drop or rename it.
    limit = "quota_storage_size = 1G" if version.is_2_4() else "quota_rule = *:storage=1G"
    for line in (limit, "lmtp_rcpt_check_quota = yes", "user = tamis", "ssl = yes"):
        assert line in shown
    assert "lmtp_save_to_detail_mailbox = yes" in shown


def test_doveconf_would_refuse_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "dovecot.conf"
    path.write_text(version.head() + page().replace("lmtp_rcpt_check_quota", "lmtp_rcpt_check_qota"))
    done = doveconf(path, "-n")
    assert done.returncode != 0
    assert "lmtp_rcpt_check_qota" in done.stderr


@dataclass
class Dovecot:
    folder: Path
    port: int
    submission: int
    """Where `submission_host` leads."""

    @property
    def socket(self) -> str:
        return str(self.folder / "run" / "lmtp")

    def deliver(self, recipient: str, size: int = 100) -> tuple[str, int, bytes]:
        """Who decided, RCPT or DATA, and its reply, for a message of about `size` octets."""
        with smtplib.LMTP(self.socket, 0) as client:
            client.ehlo()
            assert client.mail("s@example.org")[0] == 250
            reply = client.rcpt(recipient)
            if reply[0] != 250:
                return "RCPT", *reply
            return "DATA", *client.data(b"Subject: x\r\n\r\n" + b"x" * size + b"\r\n")


class Came:
    """Who sent what to whom."""

    def __init__(self) -> None:
        self.envelopes: list[tuple[str, str]] = []

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:
        self.envelopes.append((str(envelope.mail_from or "").strip("<>"), envelope.rcpt_tos[0]))
        return "250 ok"


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    needs("dovecot-core", "dovecot-lmtpd", "dovecot-sieve", root=True)
    folder = tmp_path_factory.mktemp("dovecot")
    # Dovecot's processes run as users of their own; pytest's folders are for root alone.
    for part in (folder, *folder.parents[:2]):
        part.chmod(0o755)
    ports = free_port(), free_port(), free_port()
    certificate, key = self_signed(datetime.datetime.now(datetime.UTC))
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    (folder / "mail").mkdir()
    os.chown(folder / "mail", UID, UID)
    # A tenth of the limit in 2.3, octets in 2.4.
    grace = " userdb_quota_storage_grace=2000B" if version.is_2_4() else ""
    (folder / "users").write_text(
        f"alice@example.test:secret:{UID}:{UID}::{folder}/mail/alice::\n"
        f"full@example.test:secret:{UID}:{UID}::{folder}/mail/full::{version.quota_field(20_000)}{grace}\n"
    )
    text = page().replace("192.0.2.2", "127.0.0.1").replace("user = tamis", "user = root")
    text = text.replace("port = 24\n", f"port = {ports[0]}\n").replace(
        "port = 12345\n", f"port = {ports[1]}\n"
    )
    text = text.replace("submission_host = 127.0.0.1:25\n", f"submission_host = 127.0.0.1:{ports[2]}\n")
    configuration = folder / "dovecot.conf"
    configuration.write_text(version.head() + base(folder) + text)
    with subprocess.Popen([program("dovecot"), "-F", "-c", str(configuration)]) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not (folder / "run" / "lmtp").exists():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield Dovecot(folder, ports[0], ports[2])
        finally:
            process.terminate()
            process.wait(START_TIMEOUT)


@pytest.mark.parametrize(
    ("recipient", "size", "stage", "reply"),
    [
        ("alice@example.test", 100, "DATA", "250 2.0.0"),
        ("nobody@example.test", 100, "RCPT", "550 5.1.1"),
        ("full@example.test", 50_000, "DATA", "552 5.2.2"),
        # With its header a little over the limit: the grace.
        ("full@example.test", 19_900, "DATA", "250 2.0.0"),
        ("full@example.test", 100, "RCPT", "552 5.2.2"),
    ],
)
def test_replies(dovecot: Dovecot, recipient: str, size: int, stage: str, reply: str) -> None:
    by, code, text = dovecot.deliver(recipient, size)
    assert (by, f"{code} {text[:5].decode()}") == (stage, reply)


def test_a_detail_goes_to_its_folder_and_else_to_the_inbox(dovecot: Dovecot) -> None:
    home = dovecot.folder / "mail" / "alice" / "Maildir"
    assert dovecot.deliver("alice@example.test")[1] == 250
    for part in ("cur", "new", "tmp"):
        (home / ".lists" / part).mkdir(parents=True)
        os.chown(home / ".lists" / part, UID, UID)
    os.chown(home / ".lists", UID, UID)
    inbox = len(list((home / "new").iterdir()))
    assert dovecot.deliver("alice+lists@example.test")[1] == 250
    assert len(list((home / ".lists" / "new").iterdir())) == 1
    assert dovecot.deliver("alice+other@example.test")[1] == 250
    assert len(list((home / "new").iterdir())) == inbox + 1


def test_what_scripts_of_users_send_comes_back_to_us(dovecot: Dovecot) -> None:
    home = dovecot.folder / "mail" / "alice"
    home.mkdir(exist_ok=True)
    script = home / ".dovecot.sieve"
    script.write_text('require "vacation"; vacation "I am away"; redirect "else@example.net";')
    for part in (home, script):
        os.chown(part, UID, UID)
    came = Came()
    server = aiosmtpd.controller.Controller(came, hostname="127.0.0.1", port=dovecot.submission)
    server.start()
    try:
        with smtplib.LMTP(dovecot.socket, 0) as client:
            client.sendmail("bob@example.org", "alice@example.test", "To: alice@example.test\r\n\r\nx\r\n")
    finally:
        server.stop()
        script.unlink()
    assert sorted(came.envelopes) == [("", "bob@example.org"), ("bob@example.org", "else@example.net")]


def test_the_sockets_are_for_one_user(dovecot: Dovecot) -> None:
    for name in ("lmtp", "auth-client"):
        assert (dovecot.folder / "run" / name).stat().st_mode & 0o777 == 0o600


def test_lmtp_over_tcp_is_tls_from_the_first_octet(dovecot: Dovecot) -> None:
    trust = ssl.create_default_context(cafile=str(dovecot.folder / "certificate.pem"))
    with (
        socket.create_connection(("127.0.0.1", dovecot.port), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname="mx.example.test") as secure,
    ):
        assert secure.recv(4) == b"220 "
