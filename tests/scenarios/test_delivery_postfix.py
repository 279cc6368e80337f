"""Delivery over SMTP to a real Postfix, and to smtp-sink with its ways of failing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import pytest
import trustme
import uvloop

from mta.address import NULL, parse_address
from mta.content import MessageBuffer
from mta.delivery.fixed import FixedSettings, FixedTransport
from mta.delivery.outcome import Outcome
from mta.envelope import Envelope, OriginalRecipient, Recipient
from mta.net.connect import ClientTls, Endpoint
from mta.net.outbound import Timeouts
from mta.smtp.opening import ClientSettings
from tests.peers.postfix import Postfix, running_postfix, running_sink

pytestmark = pytest.mark.scenario
T = TypeVar("T")


_made: list[FixedTransport] = []


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test and close its transports even if it fails: else the loop waits for the server's timeout."""

    async def guarded() -> T:
        try:
            return await main
        finally:
            while _made:
                await _made.pop().close()

    return uvloop.run(guarded())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def postfix(authority: trustme.CA) -> Iterator[Postfix]:
    chain = authority.issue_cert("relay.test").private_key_and_cert_chain_pem.bytes()
    with running_postfix(chain) as server:
        yield server


def transport(
    port: int, authority: trustme.CA | None = None, *, lmtp: bool = False, **rest: Any
) -> FixedTransport:
    tls = None
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(context)
        tls = ClientTls(context, name="relay.test")
    client = ClientSettings(lmtp=lmtp, helo_name="mx.test", **rest)
    timeouts = Timeouts(command=2.0, greeting=2.0, final=5.0)
    settings = FixedSettings("relay", (Endpoint("127.0.0.1", port),), client, tls, timeouts=timeouts)
    _made.append(FixedTransport(settings))
    return _made[-1]


async def deliver(
    to: FixedTransport, recipients: Sequence[Recipient], octets: bytes, envelope: Envelope | None = None
) -> list[Outcome]:
    buffer = MessageBuffer()
    for start in range(0, len(octets), 65536):
        buffer.append(octets[start : start + 65536])
    envelope = envelope or Envelope(parse_address("sender@example.org"))
    try:
        deadline = asyncio.get_running_loop().time() + 15
        return await to.deliver(envelope, recipients, buffer, deadline)
    finally:
        buffer.close()


def rcpts(*names: str) -> list[Recipient]:
    return [Recipient(parse_address(name)) for name in names]


MESSAGE = b"From: a@b.test\r\nSubject: x\r\n\r\n.dot\r\n"


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("chunking", [False, True])
@pytest.mark.parametrize("size", [100, 200_000])
def test_relays(postfix: Postfix, authority: trustme.CA, tls: bool, chunking: bool, size: int) -> None:
    async def main() -> None:
        to = transport(postfix.port, authority if tls else None, chunking=chunking)
        octets = MESSAGE + b".0123456789\r\n" * (size // 13)
        for _ in range(3):
            outcomes = await deliver(to, rcpts("a@ok.test", "b@refused.test", "c@later.test"), octets)
            assert [(o.reply.code, o.reply.enhanced) for o in outcomes] == [
                (250, "2.0.0"),
                (554, "5.7.1"),
                (450, "4.7.1"),
            ], postfix.log()
            assert "queued as " in outcomes[0].reply.text
        (pool,) = to.pools.values()
        assert pool.stats.opened == 1

    run(main())


def test_all_refused_leaves_a_good_connection(postfix: Postfix) -> None:
    async def main() -> None:
        for chunking in (False, True):
            to = transport(postfix.port, chunking=chunking)
            for _ in range(2):
                outcomes = await deliver(to, rcpts("b@refused.test"), MESSAGE)
                assert [o.reply.code for o in outcomes] == [554]
                assert [o.reply.code for o in await deliver(to, rcpts("a@ok.test"), MESSAGE)] == [250]
            (pool,) = to.pools.values()
            assert pool.stats.opened == 1

    run(main())


def test_dsn_utf8_and_size_are_understood(postfix: Postfix) -> None:
    async def main() -> None:
        to = transport(postfix.port)
        envelope = Envelope(parse_address("sé@example.org"), smtputf8=True, ret="HDRS", envid="x y+z")
        recipient = Recipient(
            parse_address("ü@ok.test"), frozenset({"FAILURE"}), OriginalRecipient("utf-8", "ö+1@ok.test")
        )
        outcomes = await deliver(to, [recipient], MESSAGE, envelope)
        assert [o.reply.code for o in outcomes] == [250], outcomes
        outcomes = await deliver(to, rcpts("a@ok.test"), MESSAGE + b"x\r\n" * 800_000)
        assert [(o.reply.code, o.reply.enhanced) for o in outcomes] == [(552, "5.3.4")]

    run(main())


def test_verify(postfix: Postfix) -> None:
    async def main() -> None:
        to = transport(postfix.port)
        assert (await to.verify(NULL, parse_address("a@ok.test"))).code == 250
        assert (await to.verify(NULL, parse_address("a@refused.test"))).code == 554
        assert (await to.verify(NULL, parse_address("a@later.test"))).code == 450

    run(main())


@pytest.mark.parametrize(
    ("options", "codes", "sent"),
    [
        ((), [250, 250], False),
        (("-L",), [250, 250], False),
        (("-p",), [250, 250], False),
        (("-L", "-p"), [250, 250], False),
        (("-e",), [250, 250], False),
        (("-8",), [250, 250], False),
        (("-r", "MAIL"), [450, 450], False),
        (("-r", "RCPT"), [450, 450], False),
        (("-r", "DATA"), [450, 450], False),
        (("-r", "."), [450, 450], False),
        (("-f", "MAIL"), [500, 500], False),
        (("-f", "RCPT"), [500, 500], False),
        (("-f", "DATA"), [500, 500], False),
        (("-f", "."), [500, 500], False),
        (("-L", "-f", "."), [500, 500], False),
        (("-f", "EHLO"), [250, 250], False),
        (("-q", "CONNECT"), [451, 451], False),
        (("-q", "EHLO"), [451, 451], False),
        (("-q", "MAIL"), [451, 451], False),
        (("-q", "RCPT"), [451, 451], False),
        (("-q", "DATA"), [451, 451], False),
        (("-q", "."), [451, 451], True),
        (("-L", "-q", "."), [451, 451], True),
        (("-Q", "CONNECT"), [451, 451], False),
        (("-Q", "MAIL"), [451, 451], False),
        (("-Q", "RCPT"), [451, 451], False),
        (("-Q", "DATA"), [451, 451], False),
        (("-Q", "."), [451, 451], False),
    ],
)
def test_sink(options: tuple[str, ...], codes: list[int], sent: bool) -> None:
    async def main(port: int) -> None:
        to = transport(port, lmtp="-L" in options)
        for _ in range(2):
            outcomes = await deliver(to, rcpts("a@x.test", "b@x.test"), MESSAGE)
            assert [o.reply.code for o in outcomes] == codes, outcomes
            assert [o.sent for o in outcomes] == [sent, sent]
            assert all(o.reply.enhanced for o in outcomes)

    with running_sink(*options) as port:
        run(main(port))
