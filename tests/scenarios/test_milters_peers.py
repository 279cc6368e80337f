"""Real milters and policy servers under our daemon: opendkim, opendmarc, postgrey, policyd-spf."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mta.net.resolver.server import Address
from tests.dialog.server import Client, Server, run, serving
from tests.peers.dnsworld import running_dnsworld
from tests.peers.milters import running_opendkim, running_opendmarc, running_postgrey
from tests.peers.needs import needs
from tests.peers.policyd_spf import running_policyd_spf

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


async def client_from(server: Server, address: str) -> Client:
    """A client whose address is said to be this one."""
    client = await server.connect()
    await client.hello()
    await client.say(f"XCLIENT ADDR={address} NAME=mail.good.test")
    await client.say("EHLO mail.good.test")
    return client


async def transmit(client: Client, sender: str, body: str) -> str:
    """The reply to a message."""
    assert (await client.envelope("b@example.test", sender=sender)).startswith("250 ")
    assert (await client.say("DATA")).startswith("354 ")
    return await client.say(f"{body}.")


def message(author: str) -> str:
    return (
        f"From: {author}\r\nTo: b@example.test\r\nSubject: hi\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
        f"Message-ID: <1@{author.partition('@')[2]}>\r\n\r\nhello\r\n"
    )


def test_opendmarc_does_what_the_author_domain_asks_for(tmp_path: Path) -> None:
    """good.test has p=reject, and lets 192.0.2.1 send; unsigned.test has no policy."""
    needs("nsd", "unbound", "opendmarc", root=True)
    usual = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"

    async def main(endpoint: str, kill: Callable[[], None]) -> None:
        more = f'[milters.opendmarc]\naddress = "{endpoint}"\nlisteners = ["*"]\n'
        async with serving(tmp_path, listener='xclient_from = ["127.0.0.1"]', more=more) as server:
            good = await client_from(server, "192.0.2.1")
            body = message("a@good.test")
            assert (await transmit(good, "a@good.test", body)).startswith("250 ")
            head = server.store.delivered[0].octets.partition(b"\r\n\r\n")[0]
            assert b"Authentication-Results: mx.example.test; dmarc=pass" in head
            bad = await client_from(server, "192.0.2.66")
            reply = await transmit(bad, "a@good.test", body)
            assert reply.startswith("550 5.7.1 rejected by DMARC policy for good.test"), reply
            # One who may send for the domain of the envelope speaks for no other author.
            other = message("a@unsigned.test")
            assert (await transmit(bad, "c@x.test", other)).startswith("250 ")
            assert len(server.store.delivered) == 2
            kill()
            assert (await bad.say("MAIL FROM:<c@x.test>")).startswith("451 4.7.1")

    with running_dnsworld(resolver=Address(usual, 53)), running_opendmarc(usual) as opendmarc:
        run(lambda: main(opendmarc.endpoint, opendmarc.kill))


def test_policyd_spf_refuses_who_may_not_send(tmp_path: Path) -> None:
    needs("nsd", "unbound")
    (tmp_path / "policy.sieve").write_text(
        'require ["vnd.tamis.stage", "vnd.tamis.policy_server"]; stage "rcpt" { policy_server "spf"; }'
    )
    settings = "debugLevel = 1\nTestOnly = 1\nHELO_reject = False\nMail_From_reject = Fail\n"

    async def main(endpoint: str) -> None:
        more = (
            f'[policy_servers.spf]\naddress = "{endpoint}"\ntimeout = "30s"\n'
            '[policy]\nscripts = ["policy.sieve"]\n'
        )
        async with serving(tmp_path, listener='xclient_from = ["127.0.0.1"]', more=more) as server:
            good = await client_from(server, "192.0.2.1")
            sent = await transmit(good, "a@good.test", message("a@good.test"))
            assert sent.startswith("250 ")
            assert b"Received-SPF: Pass" in server.store.delivered[0].octets
            bad = await client_from(server, "192.0.2.66")
            await bad.say("MAIL FROM:<a@good.test>")
            reply = await bad.say("RCPT TO:<b@example.test>")
            assert reply.startswith("550 5.7.23 Message rejected due to: 192.0.2.66 may not send"), reply

    with running_dnsworld() as world, running_policyd_spf(settings, world.resolver) as where:
        run(lambda: main(f"unix:{where.path}"))


def test_policyd_spf_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "policy.sieve").write_text(
        'require ["vnd.tamis.stage", "vnd.tamis.policy_server"]; stage "rcpt" { policy_server "spf"; }'
    )

    async def main() -> None:
        for action, expected in (("", "451 4.3.5"), ('default_action = "DUNNO"', "250 ")):
            more = (
                f'[policy_servers.spf]\naddress = "unix:{tmp_path}/nobody"\n{action}\n'
                '[policy]\nscripts = ["policy.sieve"]\n'
            )
            async with serving(tmp_path, more=more) as server:
                client = await server.connect()
                await client.hello()
                await client.say("MAIL FROM:<a@good.test>")
                assert (await client.say("RCPT TO:<b@example.test>")).startswith(expected)

    run(main)
