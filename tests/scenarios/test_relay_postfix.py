"""A relay with a login: a real Postfix that asks a real Dovecot, over STARTTLS with a verified name."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.peers.certificates import Authority, authority
from tests.peers.dovecot_auth import DovecotAuth, dovecot_auth
from tests.peers.postfix import Postfix, running_postfix
from tests.peers.running import until
from tests.peers.site import ALICE, NO_QUEUE, PASSWORD, Site, site

pytestmark = pytest.mark.scenario

USER = "tamis@relay.test"
SECRET = "battery staple"
MECHANISMS = {
    "auto": "",
    "plain": "PLAIN",
    "login": "LOGIN",
    "sha1": "SCRAM-SHA-1",
    "sha256": "SCRAM-SHA-256",
}
"""Relays by name, and the mechanism that they allow if it is not the automatic choice; mail for NAME.test
goes there."""
WRONG = {"wrong": "", "wrongplain": "PLAIN"}
"""The same with a wrong password."""
_SETTINGS = """\
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {socket}
smtpd_tls_auth_only = yes
smtpd_tls_loglevel = 1
smtpd_relay_restrictions = permit_sasl_authenticated, reject
"""
_RELAY = """\
[relays.{name}]
host = "127.0.0.1"
port = {port}
user = "{user}"
password_file = "{password}"
tls_name = "{tls_name}"
tls_ca = "relay-ca.pem"
failure_delay = "0.1s"
mechanisms = [{mechanisms}]
"""
_ROUTE = 'if envelope :domain "to" "{name}.test" {{ route :to "relay:{name}"; }}\n'


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def accounts() -> Iterator[DovecotAuth]:
    with dovecot_auth(f"{USER}:{{PLAIN}}{SECRET}::::::\n") as running:
        yield running


@pytest.fixture(scope="module")
def postfix(trusted: Authority, accounts: DovecotAuth) -> Iterator[Postfix]:
    chain = trusted.ca.issue_cert("relay.test").private_key_and_cert_chain_pem.bytes()
    with running_postfix(chain, _SETTINGS.format(socket=accounts.socket)) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, trusted: Authority, postfix: Postfix) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("relaying")
    trusted.ca.cert_pem.write_to_path(folder / "relay-ca.pem")
    relays = "".join(
        relay(folder, postfix.port, name, mechanism, tls_name="relay.test")
        for name, mechanism in (MECHANISMS | WRONG).items()
    ) + relay(folder, postfix.port, "stranger", "", tls_name="other.test")
    names = [*MECHANISMS, *WRONG, "stranger"]
    (folder / "policy.sieve").write_text(
        'require ["vnd.tamis.stage", "vnd.tamis.route", "envelope"];\n'
        f'stage "route" {{\n{"".join(_ROUTE.format(name=name) for name in names)}}}\n'
    )
    policy = 'scripts = ["policy.sieve"]\nrelay = "auto"\n'
    with site(folder, workers=1, queue=NO_QUEUE, policy=policy, more=relays) as running:
        yield running


def relay(folder: Path, port: int, name: str, mechanism: str, *, tls_name: str) -> str:
    """Its part of the configuration, and the file with its password."""
    password = folder / f"{name}.password"
    password.write_text(f"{'not ' if name in WRONG else ''}{SECRET}\n")
    password.chmod(0o600)
    return _RELAY.format(
        name=name,
        port=port,
        user=USER,
        password=password,
        tls_name=tls_name,
        mechanisms=f'"{mechanism}"' if mechanism else "",
    )


def send(server: Site, name: str) -> tuple[str, str]:
    """Send to NAME.test as a user: the recipient, whom both logs name, and the last reply."""
    recipient = f"{uuid4().hex}@{name}.test"
    with smtplib.SMTP("localhost", server.submission, timeout=60) as client:
        client.starttls(context=server.trust())
        client.login(ALICE, PASSWORD)
        assert client.mail(ALICE)[0] == 250
        assert client.rcpt(recipient)[0] == 250
        code, text = client.data(f"From: {ALICE}\r\nSubject: x\r\n\r\nhello\r\n")
    return recipient, f"{code} {text.decode()}"


def of_message(postfix: Postfix, recipient: str) -> str:
    """What Postfix says about the client of the message for `recipient`."""

    def find() -> str:
        log = postfix.log()
        got = re.search(rf" (\w+): to=<{recipient}>,", log)
        client = got and re.search(rf" {got[1]}: client=(.*)", log)
        return client[1] if client else ""

    return until(find, postfix.log)


def our_line(server: Site, recipient: str) -> str:
    """What we log about the message for `recipient`, a moment after the client has its answer."""

    def find() -> str:
        return "".join(line for line in server.log().splitlines() if recipient in line)

    return until(find, server.log)


@pytest.mark.parametrize("name", MECHANISMS)
def test_logs_in(server: Site, postfix: Postfix, name: str) -> None:
    recipient, reply = send(server, name)
    assert reply.startswith("250 2.0.0 Ok: "), server.log()
    told = f"sasl_method={MECHANISMS[name] or 'SCRAM-SHA-256'}, sasl_username={USER}"
    assert of_message(postfix, recipient) == f"unknown[127.0.0.1], {told}"


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_password_is_temporary(server: Site, postfix: Postfix, name: str) -> None:
    """An accident of the configuration: the client keeps the message, and our log says why."""
    mechanism = WRONG[name] or "SCRAM-SHA-256"
    recipient, reply = send(server, name)
    assert reply == "451 4.7.0 The next server does not accept mail at the moment"
    until(lambda: f"SASL {mechanism} authentication failed: " in postfix.log(), postfix.log)
    assert f'cause="AUTH {mechanism}: 535 5.7.8 ' in our_line(server, recipient)


def test_another_server_gets_no_password(server: Site, postfix: Postfix) -> None:
    """Its certificate is good, but for another name than that of the relay."""
    recipient, reply = send(server, "stranger")
    assert reply == "451 4.7.5 The next server cannot be reached securely at the moment"
    assert "other.test" in our_line(server, recipient)
    until(lambda: "lost connection after STARTTLS" in postfix.log(), postfix.log)
