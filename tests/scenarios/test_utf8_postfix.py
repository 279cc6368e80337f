"""Mail for recipients beyond ASCII between Tamis and a real Postfix, both ways."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import trustme

from mta.accounts.user import User
from mta.accounts.usersfile import edit
from tests.peers.postfix import Postfix, running_postfix
from tests.peers.running import until
from tests.peers.site import ALICE, PASSWORD, Site

pytestmark = pytest.mark.scenario

NAME = "jürgen@example.test"
FOLDER = "j%C3%BCrgen@example.test"
TO_US = "transport_maps = inline:{{ {{ example.test = smtp:[127.0.0.1]:{port} }} }}\n"
SMTP = "smtp unix - - n - - smtp\n"
MORE = """\
[tables.aliases]
type = "aliases"
file = "aliases"
[relays.out]
host = "127.0.0.1"
port = {port}
tls = "none"
"""
SCRIPT = """\
require ["vnd.tamis.stage", "vnd.tamis.envelope"];
stage "rcpt" { expand "table:aliases"; }
"""


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Site, Postfix]]:
    chain = trustme.CA().issue_cert("relay.test").private_key_and_cert_chain_pem.bytes()
    with edit(tmp_path / "users") as table:
        for name in (ALICE, NAME):
            table.put(User(name).with_password(PASSWORD))
    (tmp_path / "aliases").write_text("büro@example.test: friend@far.test\n")
    (tmp_path / "mine.sieve").write_text(SCRIPT)
    server = Site(tmp_path)
    with running_postfix(chain, TO_US.format(port=server.smtp), SMTP) as postfix:
        server.set_up(
            recipients="users",
            trusted='["127.0.0.0/8"]',
            policy='relay = "out"\nscripts = ["mine.sieve"]',
            more=MORE.format(port=postfix.port),
        )
        try:
            server.start()
            yield server, postfix
            server.check_log()
        finally:
            server.end()


def send(port: int, recipient: str, *options: str) -> str:
    """Send a message with SMTPUTF8, which must be taken; a mark in it."""
    mark = uuid4().hex
    with smtplib.SMTP("127.0.0.1", port) as client:
        text = f"From: {ALICE}\r\nSubject: {mark}\r\n\r\nhello\r\n"
        assert client.sendmail(ALICE, [recipient], text, ["SMTPUTF8"], options) == {}
    return mark


def test_from_postfix(both: tuple[Site, Postfix]) -> None:
    """It says ORCPT=rfc822 of them, and xtext: what is refused there bounces all their mail."""
    server, postfix = both
    mark = send(postfix.port, NAME, "NOTIFY=SUCCESS")
    until(lambda: server.messages(FOLDER, mark), postfix.log)
    until(lambda: server.messages(ALICE, mark), postfix.log)
    (report,) = server.messages(ALICE, mark)
    assert f"\nOriginal-Recipient: utf-8; {NAME}\n".encode() in report


def test_to_postfix(both: tuple[Site, Postfix]) -> None:
    server, postfix = both
    send(server.smtp, "büro@example.test", "NOTIFY=FAILURE")
    until(lambda: "to=<friend@far.test>, relay=none" in postfix.log(), postfix.log)
