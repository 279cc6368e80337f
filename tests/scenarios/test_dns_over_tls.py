"""DNS over TLS to a real Unbound: as it comes, it takes ten connections of all its clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator

import pytest
import trustme

from mta.net.resolver.base import Answer, Status
from mta.net.resolver.pinned import key_digest
from mta.net.resolver.server import Address
from mta.net.resolver.stub import Stub
from tests.peers.dnsworld import DnsWorld, running_dnsworld
from tests.peers.needs import needs, program
from tests.peers.ports import free_port

pytestmark = pytest.mark.scenario

BURST = 400
START_PATIENCE = 10.0


class TlsResolver:
    """An Unbound over TLS beside that of the world."""

    def __init__(self, world: DnsWorld) -> None:
        """Write what it needs."""
        port, folder = free_port(), world.folder
        leaf = trustme.CA().issue_cert("resolver.test")
        leaf.private_key_pem.write_to_path(folder / "tls.key")
        leaf.cert_chain_pems[0].write_to_path(folder / "tls.pem")
        text = (folder / "unbound.conf").read_text()
        for old, new in (
            (
                f"  interface: {world.resolver.host}\n  port: {world.resolver.port}\n",
                f"  interface: 127.0.0.1@{port}\n",
            ),
            (
                "  ede: yes\n",
                f"  ede: yes\n  tls-port: {port}\n  tls-service-key: tls.key\n  tls-service-pem: tls.pem\n",
            ),
            ("unbound.pid", "tls.pid"),
            ("unbound.log", "tls.log"),
        ):
            assert old in text
            text = text.replace(old, new)
        self.settings = folder / "tls.conf"
        self.settings.write_text(text)
        key = key_digest(ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode()))
        self.address = Address("127.0.0.1", port, frozenset({key}))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """From when it listens to its end."""
        with subprocess.Popen([program("unbound"), "-d", "-c", self.settings]) as process:
            try:
                until = time.monotonic() + START_PATIENCE
                while time.monotonic() < until and process.poll() is None:
                    with contextlib.suppress(OSError):
                        socket.create_connection((self.address.host, self.address.port)).close()
                        break
                    time.sleep(0.02)
                yield
            finally:
                process.terminate()


@pytest.fixture(scope="module")
def world() -> Iterator[DnsWorld]:
    needs("nsd", "unbound")
    with running_dnsworld() as running:
        yield running


async def close(stub: Stub) -> None:
    """End it, and let the connections say good-bye."""
    stub.close()
    await asyncio.sleep(0.1)


def test_a_burst_of_questions(world: DnsWorld) -> None:
    """All are answered, although there are forty times as many as connections that the server takes."""
    resolver = TlsResolver(world)

    async def run() -> list[Answer]:
        stub = Stub([resolver.address])
        deadline = asyncio.get_running_loop().time() + 10
        names = [f"name{number}.wild.good.test" for number in range(BURST)]
        answers = await asyncio.gather(*(stub.query(name, "A", deadline) for name in names))
        await close(stub)
        return answers

    with resolver.running():
        answers = asyncio.run(run())
    # That of Debian 13 says SERVFAIL to one of them now and then.
    told = [one for one in answers if one.reason != "SERVFAIL"]
    assert len(told) >= BURST - 5
    assert [(one.status, len(one.records)) for one in told] == [(Status.SECURE, 1)] * len(told)


def test_a_restart_of_the_server(world: DnsWorld) -> None:
    resolver = TlsResolver(world)

    async def run() -> list[Status]:
        stub = Stub([resolver.address])
        found = []
        for number in range(3):
            with resolver.running():
                deadline = asyncio.get_running_loop().time() + 10
                found.append((await stub.query(f"again{number}.wild.good.test", "A", deadline)).status)
        await close(stub)
        return found

    assert asyncio.run(run()) == [Status.SECURE] * 3
