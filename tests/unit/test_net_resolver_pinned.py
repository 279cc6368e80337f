"""DNS over TLS: the key decides, connections are used again, a server that is somebody else is not asked."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path

import dns.flags
import dns.message
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mta.net.resolver import flight
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.cache import CacheSettings
from mta.net.resolver.server import Address
from mta.net.resolver.stub import Stub, StubSettings
from tests.peers.nameserver import Nameserver, records

NO_CACHE = StubSettings(CacheSettings(entries=0))


def asking(
    keys: frozenset[bytes], certificate: trustme.LeafCert, *, drop: bool = False
) -> tuple[list[Answer], int]:
    """Three questions; the answers and the number of connections. `drop` closes after each reply."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                query = dns.message.from_wire(await reader.readexactly(length))
                wire = records(query, "d.test. 60 IN A 192.0.2.1", flags=dns.flags.AD).to_wire()
                writer.write(len(wire).to_bytes(2, "big") + wire)
                if drop:
                    break
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def run() -> list[Answer]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        stub = Stub([Address("127.0.0.1", port, keys)], NO_CACHE)
        answers = []
        for _ in range(3):
            answers.append(await stub.query("d.test", "A", asyncio.get_running_loop().time() + 5))
            await asyncio.sleep(0.05 if drop else 0)
        stub.close()
        server.close()
        await asyncio.sleep(0.05)
        return answers

    return asyncio.run(run()), connections


def digest(certificate: trustme.LeafCert) -> bytes:
    key = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes()).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def test_the_right_key_is_believed_and_its_connection_used_again() -> None:
    certificate = trustme.CA().issue_cert("somebody.test")
    answers, connections = asking(frozenset({digest(certificate), bytes(32)}), certificate)
    assert [answer.status for answer in answers] == [Status.SECURE] * 3
    assert [len(answer.records) for answer in answers] == [1, 1, 1]
    assert connections == 1


def test_a_connection_that_was_closed_is_opened_again() -> None:
    certificate = trustme.CA().issue_cert("somebody.test")
    answers, connections = asking(frozenset({digest(certificate)}), certificate, drop=True)
    assert [answer.status for answer in answers] == [Status.SECURE] * 3
    assert connections == 3


def test_another_key_is_not_asked() -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    answers, _ = asking(frozenset({bytes(32)}), certificate)
    assert [answer.status for answer in answers] == [Status.FAIL] * 3
    assert "WrongKey" in answers[0].reason


def test_who_keeps_silent_over_tls_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "RESEND", 0.02)

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def run() -> bool:
        silent = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
        async with Nameserver(lambda query: records(query, "d.test. 60 IN A 192.0.2.1")) as good:
            port = silent.sockets[0].getsockname()[1]
            stub = Stub([Address("127.0.0.1", port, frozenset({bytes(32)})), good.address], NO_CACHE)
            for _ in range(3):
                assert (await stub.query("d.test", "A", asyncio.get_running_loop().time() + 5)).usable
            rests = stub._servers[0].rests
            stub.close()
        silent.close()
        await asyncio.sleep(0.05)
        return rests

    assert asyncio.run(run())


def test_nobody_listens(tmp_path: Path) -> None:
    async def run() -> Answer:
        stub = Stub([Address("127.0.0.1", 1, frozenset({bytes(32)}))], NO_CACHE)
        try:
            return await stub.query("d.test", "A", asyncio.get_running_loop().time() + 5)
        finally:
            stub.close()

    assert asyncio.run(run()).status is Status.FAIL
