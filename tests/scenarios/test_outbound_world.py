"""Mail to any domain in a DNS of our own: signed zones, a real Postfix that receives."""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trustme
import uvloop

from mta.delivery.lookup import Lookup, Ourselves
from mta.delivery.remote import RemoteSettings, RemoteTransport
from mta.delivery.security.der import public_key_info
from mta.delivery.security.memory import Memory
from mta.delivery.security.provider import OutboundSecurity, SecuritySettings
from mta.net.resolver.stub import Stub
from tests.dialog.world import SHORT, send, short
from tests.peers.dnsworld import DnsWorld, Zone, running_dnsworld
from tests.peers.postfix import Postfix, running_postfix

pytestmark = pytest.mark.scenario
AUTHORITY = trustme.CA()
LEAF = AUTHORITY.issue_cert("mx.safe.test")


def zones(port: int) -> dict[str, Zone]:
    pem = LEAF.cert_chain_pems[0].bytes().decode()
    key = hashlib.sha256(public_key_info(ssl.PEM_cert_to_DER_cert(pem))).hexdigest()
    host = "mx 300 A 127.0.0.1\n"  # beside the address of each zone, where nobody listens
    return {
        "safe.test": Zone(f"{host}_{port}._tcp.mx 300 TLSA 3 1 1 {key}\n"),
        "plain.test": Zone(host, signed=False, delegated=False),
        "wrong.test": Zone(f"{host}_{port}._tcp.mx 300 TLSA 3 1 1 {'ab' * 32}\n"),
    }


class Log:
    def warning(self, event: str, **fields: Any) -> None:
        return

    error = warning


@pytest.fixture(scope="module")
def dns(postfix: Postfix) -> Iterator[DnsWorld]:
    with running_dnsworld(zones(postfix.port)) as world:
        yield world


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    with running_postfix(LEAF.private_key_and_cert_chain_pem.bytes()) as server:
        yield server


EXPECTED = [
    ("safe.test", "250 2.0.0", "dane"),
    ("plain.test", "250 2.0.0", "may"),
    ("wrong.test", "451 4.7.5", ""),
    ("bogus.test", "451 4.7.5", ""),
    ("nothere.test", "550 5.1.2", ""),
]


def test_postfix_gets_it_as_securely_as_the_dns_proves(dns: DnsWorld, postfix: Postfix) -> None:
    async def main() -> None:
        stub = Stub([dns.resolver])
        settings = SecuritySettings(signed_names=("good.test",), broken_names=("expired.test",))
        security = OutboundSecurity(settings, stub, Memory(None), Log(), now=time.time)
        remote = RemoteTransport(
            RemoteSettings("mx.us.test", port=postfix.port, timeouts=SHORT),
            Lookup(stub, Ourselves(), timeout=5.0),
            security,
            {},
            rng=random.Random(1),
        )
        try:
            await security.probe(asyncio.get_running_loop().time() + 10)
            for domain, reply, tls in EXPECTED:
                (outcome,) = await send(remote, f"a@{domain}", seconds=20)
                assert outcome.passage is not None
                assert (domain, short([outcome])[0], outcome.passage.tls) == (domain, reply, tls), outcome
            before = remote.pools["mx"].stats.opened
            (outcome,) = await send(remote, "b@safe.test")
            assert short([outcome]) == ["250 2.0.0"]
            assert remote.pools["mx"].stats.opened == before
        finally:
            await remote.close()
            await security.close()
            stub.close()

    uvloop.run(main())
