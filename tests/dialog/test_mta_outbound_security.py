"""The daemon asks how securely mail may go: DANE, TLS-Required, pins over a restart, counts for reports."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path

import pytest
import trustme

from mta.daemon_security import report_path
from mta.delivery.security.der import public_key_info
from mta.delivery.security.tlsrpt import KIND
from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from mta.reporting.store import ReportStore
from tests.dialog.queueing import QUEUED
from tests.dialog.server import run, serving
from tests.peers.ports import free_port
from tests.peers.scripted import Script, ScriptedServer
from tests.peers.smtptls import SmtpTls

OUTBOUND = """
[dns]
resolvers = ["127.0.0.1:1"]
[outbound]
enabled = true
port = {port}
refused_networks = []
failure_delay = "0.1s"
[security]
signed_names = ["far.test"]
broken_names = []
"""
HELLO = "Subject: hi\r\n\r\nhello\r\n"


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> FakeResolver:
    made = FakeResolver()
    made.status("far.test", Status.SECURE)
    made.add("far.test", "MX", "10 mx.far.test")
    made.add("mx.far.test", "A", "127.0.2.1")
    monkeypatch.setattr("mta.daemon.build_resolver", lambda settings: made)
    return made


def test_no_clear_text_for_a_host_with_tlsa(tmp_path: Path, dns: FakeResolver) -> None:
    async def main() -> None:
        port = free_port()
        dns.add(f"_{port}._tcp.mx.far.test", "TLSA", "3 1 1 " + "ab" * 32)
        async with (
            ScriptedServer(Script(lmtp=False), host="127.0.2.1", port=port) as far,
            serving(tmp_path, more=OUTBOUND.format(port=port)) as server,
        ):
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@far.test")).startswith("451 4.7.4")
            assert not far.messages
            assert (await client.send("b@far.test", body=f"TLS-Required: No\r\n{HELLO}")).startswith("250")
            assert len(far.messages) == 1
            figures = server.daemon.snapshot()["outbound_security"]
            assert figures["failure\tstarttls-not-supported"] >= 1
            settings = server.daemon._config
        store = ReportStore(report_path(settings))
        (day,) = store.days(KIND)
        rows = store.rows(KIND, day, "far.test")
        assert "starttls-not-supported" in {row.get("failure") for row, _ in rows}
        store.close()

    run(main)


@pytest.mark.parametrize("right", [True, False])
def test_dane(tmp_path: Path, dns: FakeResolver, right: bool) -> None:
    leaf = trustme.CA().issue_cert("other.test")
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    digest = hashlib.sha256(public_key_info(der)).hexdigest() if right else "cd" * 32
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)

    async def main() -> None:
        with SmtpTls(context, host="127.0.2.1") as far:
            dns.add(f"_{far.port}._tcp.mx.far.test", "TLSA", f"3 1 1 {digest}")
            async with serving(tmp_path, more=OUTBOUND.format(port=far.port)) as server:
                client = await server.connect()
                await client.hello()
                answer = await client.send("b@far.test")
                assert answer.startswith("250 " if right else "451 4.7.5"), answer
                figures = server.daemon.snapshot()["outbound_security"]
                assert ("level\tdane" in figures) is right
                assert not far.clear
                assert [b"hello" in message for message in far.messages] == [True] * right

    run(main)


def test_a_domain_that_was_signed_waits(tmp_path: Path, dns: FakeResolver) -> None:
    async def main() -> None:
        port = free_port()
        more = OUTBOUND.format(port=port)
        async with ScriptedServer(Script(lmtp=False), host="127.0.2.1", port=port) as far:
            async with serving(tmp_path, more=more) as server:
                client = await server.connect()
                await client.hello()
                assert (await client.send("b@far.test")).startswith("250")
            dns.status("far.test", Status.INSECURE)
            async with serving(tmp_path, more=more) as server:
                client = await server.connect()
                await client.hello()
                answer = await client.send("b@far.test")
                assert answer.startswith("451 4.7.5 far.test was signed with DNSSEC and is not any more")
                assert len(far.messages) == 1
                assert server.daemon.snapshot()["outbound_security"]["downgrade\tmx"] == 1
        await asyncio.sleep(0)

    run(main)


def test_the_queue_says_why_mail_waits(tmp_path: Path, dns: FakeResolver) -> None:
    async def main() -> None:
        port = free_port()
        dns.fail(f"_{port}._tcp.mx.far.test", "TLSA", Status.BOGUS, "signature expired")
        queue = 'enabled = true\nretry = ["1h"]'
        async with serving(tmp_path, more=OUTBOUND.format(port=port), queue=queue) as server:
            client = await server.connect()
            await client.hello()
            await client.envelope("b@far.test", sender="a@example.test")
            assert (await client.say("DATA")).startswith("354 ")
            queued = QUEUED.match(await client.say(f"{HELLO}."))
            assert queued
            shown = await server.daemon.answer("queue", {"op": "show", "id": queued[1]})
            assert "DNSSEC validation fails for the TLSA records of mx.far.test (signature expired)" in str(
                shown
            )

    run(main)
