"""Sender authentication through the daemon with a real DNS, nsd and Unbound: well, bogus and silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.authn.dkimkeys import SigningKey, make_key
from mta.authn.dkimrecord import zone_line
from tests.dialog.senders import authenticating, deliver, signed, stranger
from tests.dialog.server import run
from tests.dialog.test_authn_inbound import words
from tests.dialog.test_authn_policy import REQUIRE
from tests.peers.dnsworld import DnsWorld, Zone, running_dnsworld
from tests.peers.needs import needs

pytestmark = pytest.mark.scenario

HOST, ELSEWHERE = "192.0.2.1", "198.51.100.7"
KEY = SigningKey("signer.test", "key", make_key("rsa", 1024))
FALSE_KEY = SigningKey("falsified.test", "key", make_key("rsa", 1024))
POLICY = '@ 300 TXT "v=spf1 ip4:192.0.2.1 -all"\n_dmarc 300 TXT "v=DMARC1; p=reject"\n'
ZONES = {
    "signer.test": Zone(f"{POLICY}{zone_line(KEY)}\n"),
    "falsified.test": Zone(
        f"{POLICY}{zone_line(FALSE_KEY)}\n",
        tampered=(("@", "TXT"), ("_dmarc", "TXT"), ("key._domainkey", "TXT")),
    ),
}
LATER = """
stage "data" {
    if dmarc "temperror" { reply :code 451 :enhanced "4.7.0" "the sender cannot be checked now"; }
}
"""


@pytest.fixture(scope="module")
def world() -> Iterator[DnsWorld]:
    needs("nsd", "unbound")
    with running_dnsworld(ZONES) as running:
        yield running


def message(domain: str) -> bytes:
    return f"From: Alice <alice@{domain}>\r\nSubject: hi\r\n\r\nhello\r\n".encode()


def test_what_a_real_dns_says(world: DnsWorld, tmp_path: Path) -> None:
    async def main() -> None:
        async with authenticating(tmp_path, world.resolver) as server:
            client = await stranger(server, HOST, "mx.signer.test")
            octets = signed(message("signer.test"), KEY, now=time.time())
            assert (await deliver(client, octets, sender="alice@signer.test")).startswith("250")
            said = words(server.store.delivered[0].octets)
            assert {"spf=pass", "dkim=pass", "dmarc=pass"} <= set(said)
            forger = await stranger(server, ELSEWHERE, "mx.forger.test")
            reply = await deliver(forger, message("signer.test"), sender="alice@signer.test")
            assert reply.startswith("550 5.7.1 the DMARC policy of signer.test")
            changed = octets.replace(b"hello", b"hallo")
            assert (await deliver(forger, changed, sender="x@unsigned.test")).startswith("550 5.7.1 ")
            assert (await deliver(forger, octets, sender="x@unsigned.test")).startswith("250")

    run(main)


def test_a_falsified_dns_is_no_pass_and_no_refusal(world: DnsWorld, tmp_path: Path) -> None:
    """Signature, SPF and DMARC would all pass if the records were believed."""
    octets = signed(message("falsified.test"), FALSE_KEY, now=time.time())

    async def main() -> None:
        async with authenticating(tmp_path, world.resolver) as server:
            for address in (HOST, ELSEWHERE):
                client = await stranger(server, address, "mx.falsified.test")
                assert (await deliver(client, octets, sender="alice@falsified.test")).startswith("250")
                said = set(words(server.store.delivered[-1].octets))
                assert {"spf=temperror", "dkim=temperror", "dmarc=temperror"} <= said
                assert not any(
                    one.endswith(("=pass", "=fail")) for one in said if not one.startswith("iprev")
                )

    run(main)


def test_a_falsified_dns_is_answered_as_the_policy_wants(world: DnsWorld, tmp_path: Path) -> None:
    (tmp_path / "policy.sieve").write_text(REQUIRE + LATER)

    async def main() -> None:
        async with authenticating(tmp_path, world.resolver, policy='scripts = ["policy.sieve"]') as server:
            client = await stranger(server, HOST, "mx.falsified.test")
            reply = await deliver(client, message("falsified.test"), sender="alice@falsified.test")
            assert reply == "451 4.7.0 the sender cannot be checked now\r\n"
            assert server.store.delivered == []

    run(main)


@pytest.mark.parametrize("paused", ["nsd", "unbound"])
def test_a_silent_dns_is_waited_for_by_the_client(paused: str, tmp_path: Path) -> None:
    needs("nsd", "unbound")
    (tmp_path / "policy.sieve").write_text(REQUIRE + LATER)

    async def main() -> None:
        with running_dnsworld(ZONES) as world:
            async with authenticating(
                tmp_path, world.resolver, policy='scripts = ["policy.sieve"]'
            ) as server:
                client = await stranger(server, HOST, "mx.signer.test")
                world.pause(paused)
                reply = await deliver(client, message("signer.test"), sender="alice@signer.test")
                assert reply == "451 4.7.0 the sender cannot be checked now\r\n"
                world.resume(paused)
                for _ in range(100):  # Unbound remembers for seconds who was silent, and its answer
                    reply = await deliver(client, message("signer.test"), sender="alice@signer.test")
                    if reply.startswith("250"):
                        break
                    assert reply.startswith("451 4.7.0 ")
                    await asyncio.sleep(0.2)
                assert "dmarc=pass" in words(server.store.delivered[0].octets)

    run(main)
