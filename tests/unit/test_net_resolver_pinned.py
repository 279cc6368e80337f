"""DNS over TLS: the key decides, connections are used again, a server that is somebody else is not asked."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import dns.flags
import dns.message
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mta.net.resolver import flight, pinned
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.cache import CacheSettings
from mta.net.resolver.pinned import CONNECTIONS, PinnedServer, WrongKey
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


# --- many questions over few connections -------------------------------------------------------------

LEAF = trustme.CA().issue_cert("somebody.test")


class Client:
    """A connection as the server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def question(self) -> bytes:
        """The next query."""
        return await self.reader.readexactly(int.from_bytes(await self.reader.readexactly(2), "big"))

    def reply(self, message: bytes) -> None:
        """Send it."""
        self.writer.write(len(message).to_bytes(2, "big") + message)


@contextlib.asynccontextmanager
async def serving(
    talk: Callable[[Client, int], Awaitable[None]], *, wrong_key: bool = False
) -> AsyncIterator[tuple[PinnedServer, list[Client]]]:
    """What asks a server that does `talk` with each connection, told its number; and all connections."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    LEAF.configure_cert(context)
    clients: list[Client] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(client := Client(reader, writer))
        with contextlib.suppress(OSError, EOFError):
            await talk(client, len(clients))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    keys = frozenset({bytes(32) if wrong_key else digest(LEAF)})
    asks = PinnedServer("127.0.0.1", server.sockets[0].getsockname()[1], keys)
    try:
        yield asks, clients
    finally:
        asks.close()
        server.close()
        await asyncio.sleep(0.05)


async def answer_all(client: Client, number: int) -> None:
    """Each question is its own reply."""
    while True:
        client.reply(await client.question())


def question(number: int) -> bytes:
    """All with the same id: connections have to tell them apart."""
    return b"id" + b"question %d" % number


def test_a_burst_takes_few_connections() -> None:
    async def run() -> None:
        async with serving(answer_all) as (asks, clients):
            asked = [question(number) for number in range(500)]
            assert await asyncio.gather(*map(asks.ask, asked)) == asked
            assert len(clients) == CONNECTIONS
            assert await asks.ask(asked[0]) == asked[0]
            assert len(clients) == CONNECTIONS

    asyncio.run(run())


def test_a_few_share_one_connection_and_are_answered_in_any_order() -> None:
    async def backwards(client: Client, number: int) -> None:
        asked = [await client.question() for _ in range(20)]
        client.reply(b"!!nobody asked this")
        client.reply(b"")
        for one in reversed(asked):
            message = len(one).to_bytes(2, "big") + one
            for octet in range(len(message)):  # however it is cut
                client.writer.write(message[octet : octet + 1])
                await client.writer.drain()
        await client.reader.read()

    async def run() -> None:
        async with serving(backwards) as (asks, clients):
            asked = [question(number) for number in range(20)]
            assert await asyncio.gather(*map(asks.ask, asked)) == asked
            assert len(clients) == 1

    asyncio.run(run())


def test_others_do_not_wait_for_one_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "SILENT", 0.05)

    async def in_turn(client: Client, number: int) -> None:
        while True:
            one = await client.question()
            if b"slow" in one:
                await asyncio.sleep(0.6)
            client.reply(one)

    async def run() -> None:
        async with serving(in_turn) as (asks, clients):
            slow = asyncio.create_task(asks.ask(b"idslow"))
            await asyncio.sleep(0.2)
            assert await asks.ask(question(1)) == question(1)
            assert not slow.done()
            assert await slow == b"idslow"
            assert len(clients) == 2

    asyncio.run(run())


def test_a_connection_that_is_dead_is_given_up() -> None:
    async def first_is_dead(client: Client, number: int) -> None:
        if number == 1:
            await client.reader.read()
        else:
            await answer_all(client, number)

    async def run() -> None:
        async with serving(first_is_dead) as (asks, clients):
            for _ in range(2):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asks.ask(question(1)), 0.3)
            assert await asks.ask(question(2)) == question(2)
            assert len(clients) == 2
            await asyncio.sleep(0.05)
            assert clients[0].reader.at_eof()

    asyncio.run(run())


def test_a_question_that_is_given_up_does_not_end_a_connection_that_answers() -> None:
    async def all_but_one(client: Client, number: int) -> None:
        while True:
            one = await client.question()
            if b"never" not in one:
                client.reply(one)

    async def run() -> None:
        async with serving(all_but_one) as (asks, clients):
            never = asyncio.create_task(asks.ask(b"idnever"))
            await asyncio.sleep(0.1)
            assert await asks.ask(question(1)) == question(1)
            never.cancel()
            await asyncio.sleep(0.05)
            assert await asks.ask(question(2)) == question(2)
            assert len(clients) == 1

    asyncio.run(run())


def test_what_waits_on_a_connection_that_ends_is_asked_again() -> None:
    async def one_each(client: Client, number: int) -> None:
        client.reply(await client.question())
        if number == 1:
            await client.question()  # and says good-bye instead
        else:
            await answer_all(client, number)

    async def run() -> None:
        async with serving(one_each) as (asks, clients):
            assert await asks.ask(question(1)) == question(1)
            asked = [question(number) for number in range(2, 6)]
            assert await asyncio.gather(*map(asks.ask, asked)) == asked
            assert len(clients) == 2

    asyncio.run(run())


@pytest.mark.parametrize("wrong_key", [True, False])
def test_all_who_wait_are_told(wrong_key: bool) -> None:
    async def hang_up(client: Client, number: int) -> None:
        await client.question()

    async def run() -> list[bytes | BaseException]:
        async with serving(hang_up, wrong_key=wrong_key) as (asks, _):
            return await asyncio.gather(*map(asks.ask, map(question, range(5))), return_exceptions=True)

    found = asyncio.run(run())
    assert [type(one) for one in found] == [WrongKey if wrong_key else EOFError] * 5


def test_closing_tells_who_waits() -> None:
    async def never(client: Client, number: int) -> None:
        await client.reader.read()

    async def run() -> list[bytes | BaseException]:
        async with serving(never) as (asks, _):
            early = asyncio.create_task(asks.ask(question(1)))
            await asyncio.sleep(0)
            asks.close()  # not even open
            late = asyncio.create_task(asks.ask(question(2)))
            await asyncio.sleep(0.1)
            asks.close()
            return [*await asyncio.gather(early, late, return_exceptions=True)]

    assert [type(one) for one in asyncio.run(run())] == [EOFError, EOFError]
