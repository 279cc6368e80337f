"""The daemon sends to any domain: at once, and from the queue; what the DNS says is what the client reads."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mta.net.resolver.fake import FakeResolver
from tests.dialog.queueing import QUEUED
from tests.dialog.server import run, serving
from tests.peers.ports import free_port
from tests.peers.scripted import Script, ScriptedServer

OUTBOUND = """
[dns]
resolvers = ["127.0.0.1:1"]
[outbound]
enabled = true
port = {port}
refused_networks = []
own_names = ["alias.test"]
own_addresses = ["127.0.9.9"]
failure_delay = "1s"
{more}
"""


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> FakeResolver:
    made = FakeResolver()
    monkeypatch.setattr("mta.daemon.build_resolver", lambda settings: made)
    return made


def smtp(**answers: str) -> Script:
    return Script(answers=answers, lmtp=False)


def test_mail_of_trusted_clients_goes_to_the_servers_of_its_domain(tmp_path: Path, dns: FakeResolver) -> None:
    async def main() -> None:
        port = free_port()
        dns.add("far.test", "MX", "10 mx.far.test")
        dns.add("mx.far.test", "A", "127.0.2.1")
        dns.add("null.test", "MX", "0 .")
        dns.add("loop.test", "MX", "10 alias.test")
        dns.add("round.test", "MX", "10 mx.round.test")
        dns.add("mx.round.test", "A", "127.0.9.9")
        async with (
            ScriptedServer(smtp(), host="127.0.2.1", port=port) as far,
            serving(tmp_path, more=OUTBOUND.format(port=port, more="")) as server,
        ):
            client = await server.connect()
            await client.hello()
            assert (await client.send("b@far.test")) == "250 2.0.0 saved\r\n"
            assert far.commands[0] == "EHLO mx.test"
            assert b"hello" in far.messages[0]
            for domain, code in (
                ("null", "556 5.1.10"), ("gone", "550 5.1.2"), ("loop", "554 5.4.6"), ("round", "554 5.4.6")
            ):  # fmt: skip
                assert (await client.send(f"b@{domain}.test")).startswith(code), domain
            assert (await client.send("b@far.test", "c@example.test")).startswith("250 ")
            snapshot = server.daemon.snapshot()
            assert snapshot["pool_open"] == {f"127.0.0.1:{server.store.port}": 1, "mx": 1}
            assert snapshot["recipients"]["delivered\tmx"] == 2

    run(main)


def test_strangers_relay_nowhere(tmp_path: Path, dns: FakeResolver) -> None:
    async def main() -> None:
        dns.add("far.test", "MX", "10 mx.far.test")
        more = OUTBOUND.format(port=25, more="[policy]\ntrusted_networks = []")
        async with serving(tmp_path, more=more) as server:
            client = await server.connect()
            await client.hello()
            await client.say("MAIL FROM:<a@x.test>")
            assert (await client.say("RCPT TO:<b@far.test>")).startswith("550 5.7.1")

    run(main)


def test_a_dead_domain_waits_in_the_queue_and_a_forged_one_says_why(
    tmp_path: Path, dns: FakeResolver
) -> None:
    async def main() -> None:
        port = free_port()
        for domain in ("far", "also"):
            dns.add(f"{domain}.test", "MX", "10 mx.far.test")
        dns.add("mx.far.test", "A", "127.0.2.1")
        queue = 'enabled = true\nretry = ["1s"]'
        async with serving(tmp_path, more=OUTBOUND.format(port=port, more=""), queue=queue) as server:
            client = await server.connect()
            await client.hello()
            for domain in ("far", "also"):
                answer = await client.send(f"b@{domain}.test")
                assert QUEUED.match(answer), answer
            service = server.daemon._queue
            assert service is not None
            assert service.queue is not None
            states = [
                state
                for handle in service.queue.live.handles()
                for state in service.queue.live.recipients(handle)
            ]
            assert sorted(state.site for state in states) == ["mx/also.test", "mx/far.test"]
            async with ScriptedServer(smtp(), host="127.0.2.1", port=port) as far:
                for _ in range(600):
                    if len(far.messages) == 2:
                        break
                    await asyncio.sleep(0.05)
                assert len(far.messages) == 2
            assert service.dispatcher is not None
            assert [site.site for site in service.dispatcher.stats()] == ["mx/(mx.far.test)"]

    run(main)


def test_etrn_for_the_domains_under_one(tmp_path: Path, dns: FakeResolver) -> None:
    async def main() -> None:
        port = free_port()
        domains = ("a.far.test", "b.a.far.test", "notfar.test")
        for domain in domains:
            dns.add(domain, "MX", f"10 mx.{domain}")
            dns.add(f"mx.{domain}", "A", f"127.0.2.{1 + domains.index(domain)}")
        more = OUTBOUND.format(port=port, more="")
        async with serving(tmp_path, more=more, queue='retry = ["1h"]') as server, AsyncExitStack() as stack:
            client = await server.connect()
            await client.hello()
            for domain in domains:
                answer = await client.send(f"x@{domain}")
                assert QUEUED.match(answer), answer
            hosts = [
                await stack.enter_async_context(ScriptedServer(smtp(), host=f"127.0.2.{n}", port=port))
                for n in (1, 2, 3)
            ]
            assert (await client.say("ETRN @far.test")).startswith("250 2.0.0")
            for _ in range(600):
                if hosts[0].messages and hosts[1].messages:
                    break
                await asyncio.sleep(0.02)
            assert [len(host.messages) for host in hosts] == [1, 1, 0]

    run(main)


def test_a_route_of_a_script_survives_in_the_queue(tmp_path: Path, dns: FakeResolver) -> None:
    async def main() -> None:
        port = free_port()
        script = tmp_path / "route.sieve"
        script.write_text(
            'require ["vnd.tamis.stage", "vnd.tamis.route", "envelope"];\n'
            'stage "rcpt" { if envelope :domain "to" "far.test" {'
            f' route :to "smtp:[127.0.2.7]:{port}" :helo "out.test" :tls "none"; }} }}\n'
        )
        more = OUTBOUND.format(port=port, more='[policy]\nscripts = ["route.sieve"]')
        queue = 'enabled = true\nretry = ["1s"]'
        async with serving(tmp_path, more=more, queue=queue) as server:
            client = await server.connect()
            await client.hello()
            assert QUEUED.match(await client.send("b@far.test"))
        async with (
            ScriptedServer(smtp(), host="127.0.2.7", port=port) as far,
            serving(tmp_path, more=more, queue=queue) as server,
        ):
            for _ in range(600):
                if far.messages:
                    break
                await asyncio.sleep(0.05)
            assert len(far.messages) == 1
            assert far.commands[0] == "EHLO out.test"

    run(main)
