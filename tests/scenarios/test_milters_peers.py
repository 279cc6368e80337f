"""Real milters and policy servers under our daemon: opendkim signs, postgrey defers."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.dialog.server import run, serving
from tests.peers.milters import running_opendkim, running_postgrey

pytestmark = pytest.mark.scenario


def test_opendkim_signs(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    private = rsa.generate_private_key(65537, 2048)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    key.chmod(0o600)

    async def main(endpoint: str) -> None:
        more = f'[milters.opendkim]\naddress = "{endpoint}"\nlisteners = ["*"]\n'
        async with serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            body = "From: a@x.test\r\nSubject: hi\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n\r\nhello\r\n"
            assert (await client.send("b@example.test", body=body)).startswith("250 ")
            head = server.store.delivered[0].octets.partition(b"\r\n\r\n")[0]
            assert head.startswith(b"DKIM-Signature: v=1; a=rsa-sha256;")
            assert b" d=x.test;" in head

    with running_opendkim("x.test", key) as endpoint:
        run(lambda: main(endpoint))


def test_postgrey_defers_a_stranger(tmp_path: Path) -> None:
    (tmp_path / "policy.sieve").write_text(
        'require ["vnd.tamis.stage", "vnd.tamis.policy_server"]; stage "rcpt" { policy_server "grey"; }'
    )

    async def main(endpoint: str) -> None:
        more = f'[policy_servers.grey]\naddress = "{endpoint}"\n[policy]\nscripts = ["policy.sieve"]\n'
        async with serving(tmp_path, listener='xclient_from = ["127.0.0.1"]', more=more) as server:
            client = await server.connect()
            await client.hello()
            await client.say("XCLIENT ADDR=192.0.2.7 NAME=h.x.test")
            await client.say("EHLO h.x.test")
            await client.say("MAIL FROM:<a@x.test>")
            reply = await client.say("RCPT TO:<b@example.test>")
            assert reply.startswith(("450 4.2.0", "450 4.7.1")), reply
            assert "reylist" in reply

    with running_postgrey(60) as endpoint:
        run(lambda: main(endpoint))
