"""A relay as the configuration describes it: TLS, the authority and name of its certificate, the login."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest

from tests.dialog.server import run, serving
from tests.peers.certificates import Authority, authority
from tests.peers.scripted import Script, ScriptedServer

PLAIN = base64.b64encode(b"\0our-name\0our secret").decode()
NAME = base64.b64encode(b"our-name").decode()
SECRET = base64.b64encode(b"our secret").decode()
LOGIN = {
    "AUTH": "334 VXNlcm5hbWU6",
    NAME.upper(): "334 UGFzc3dvcmQ6",
    SECRET.upper(): "235 2.7.0 ok",
}
"""The script takes each line for a command of its own."""
RELAY = """
[policy]
trusted_networks = ["127.0.0.0/8"]
relay = "smarthost"
[relays.smarthost]
host = "127.0.0.1"
port = {port}
user = "our-name"
password_file = "{folder}/password"
{more}
"""
NAMED = 'tls_ca = "{folder}/ca.pem"\ntls_name = "relay.test"'


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    made = authority(tmp_path)
    made.issue("relay", "relay.test")
    assert made.file == str(tmp_path / "ca.pem")
    password = tmp_path / "password"
    password.write_text("our secret\n")
    password.chmod(0o600)
    return made


def context(folder: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "relay.pem", folder / "relay.key")
    return made


@pytest.mark.parametrize(
    ("more", "implicit", "answer", "commands"),
    [
        (NAMED, False, "250 ", ["STARTTLS", f"AUTH PLAIN {PLAIN}", "MAIL FROM:<a@x.test>"]),
        (NAMED + "\nimplicit_tls = true", True, "250 ", [f"AUTH PLAIN {PLAIN}", "MAIL FROM:<a@x.test>"]),
        (NAMED + '\nmechanisms = ["LOGIN"]', False, "250 ", ["STARTTLS", "AUTH LOGIN", NAME, SECRET]),
        # Its certificate is from nobody whom this machine trusts, or is somebody else's: no word in clear.
        ('tls_name = "relay.test"', False, "451 4.7.5 ", ["STARTTLS"]),
        (NAMED.replace("relay.test", "other.test"), False, "451 4.7.5 ", ["STARTTLS"]),
        ('tls = "encrypt"', False, "250 ", ["STARTTLS", f"AUTH PLAIN {PLAIN}"]),
    ],
)
def test_a_relay_with_tls_and_a_login(
    tmp_path: Path, ca: Authority, more: str, implicit: bool, answer: str, commands: list[str]
) -> None:
    async def main() -> None:
        offers = ("AUTH PLAIN LOGIN",) if implicit else ("STARTTLS", "AUTH PLAIN LOGIN")
        script = Script(
            LOGIN if "LOGIN" in more else {},
            offers=offers,
            tls=None if implicit else context(tmp_path),
            lmtp=False,
        )
        async with ScriptedServer(script, implicit_tls=context(tmp_path) if implicit else None) as relay:
            section = RELAY.format(port=relay.port, folder=tmp_path, more=more.format(folder=tmp_path))
            async with serving(tmp_path, more=section) as server:
                client = await server.connect()
                await client.hello()
                assert (await client.send("somebody@far.test")).startswith(answer)
                assert server.store.delivered == []
            said = [command for command in relay.commands if not command.startswith("EHLO")]
            assert said[: len(commands)] == commands
            assert bool(relay.messages) == (answer == "250 ")
            if answer != "250 ":
                assert not any(command.startswith(("AUTH", "MAIL")) for command in relay.commands)

    run(main)


def test_a_token_is_read_at_each_login(tmp_path: Path, ca: Authority) -> None:
    async def main() -> None:
        token = tmp_path / "token"
        token.write_text("first\n")
        token.chmod(0o600)
        script = Script(offers=("STARTTLS", "AUTH PLAIN XOAUTH2"), tls=context(tmp_path), lmtp=False)
        more = f'{NAMED}\ntoken_file = "{{folder}}/token"\nmechanisms = ["XOAUTH2"]\nidle_timeout = "0s"'
        async with ScriptedServer(script) as relay:
            section = RELAY.format(port=relay.port, folder=tmp_path, more=more.format(folder=tmp_path))
            async with serving(tmp_path, more=section) as server:
                client = await server.connect()
                await client.hello()
                assert (await client.send("somebody@far.test")).startswith("250 ")
                token.write_text("second\n")
                assert (await client.send("somebody@far.test")).startswith("250 ")
                token.unlink()
                assert (await client.send("somebody@far.test")).startswith("451 4.7.0")
            said = [command.split(" ")[2] for command in relay.commands if command.startswith("AUTH")]
            assert [base64.b64decode(text) for text in said] == [
                f"user=our-name\x01auth=Bearer {word}\x01\x01".encode() for word in ("first", "second")
            ]

    run(main)
