"""Delivery to a real Dovecot over LMTP: every kind of answer, restarts, large messages."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import pytest
import uvloop

from mta.address import NULL, parse_address
from mta.content import MessageBuffer
from mta.delivery.fixed import FixedSettings, FixedTransport
from mta.delivery.outcome import Outcome
from mta.envelope import BodyType, Envelope, Recipient
from mta.net.connect import Endpoint
from mta.net.pool import PoolLimits
from mta.smtp.opening import ClientSettings
from tests.peers.dovecot import Dovecot

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
def dovecot() -> Iterator[Dovecot]:
    with Dovecot() as server:
        yield server


def transport(*endpoints: Endpoint, chunking: bool = True, pool: PoolLimits | None = None) -> FixedTransport:
    client = ClientSettings(lmtp=True, helo_name="mx.test", chunking=chunking)
    _made.append(FixedTransport(FixedSettings("dovecot", endpoints, client, pool=pool or PoolLimits())))
    return _made[-1]


def tcp(server: Dovecot) -> Endpoint:
    return Endpoint("127.0.0.1", server.lmtp_port)


def message(subject: str, size: int = 100) -> bytes:
    line = b".This line begins with a dot. 0123456789012345678901234567890123456789\r\n"
    head = f"From: a@b.test\r\nTo: c@d.test\r\nSubject: {subject}\r\n\r\n".encode()
    return head + line * (size // len(line) + 1)


async def deliver(
    to: FixedTransport, names: Sequence[str], octets: bytes, body: BodyType = BodyType.SEVEN_BIT
) -> list[Outcome]:
    buffer = MessageBuffer()
    for start in range(0, len(octets), 65536):
        buffer.append(octets[start : start + 65536])
    recipients = [Recipient(parse_address(f"{name}@example.test")) for name in names]
    envelope = Envelope(parse_address("sender@example.org"), body=body)
    try:
        deadline = asyncio.get_running_loop().time() + 20
        return await to.deliver(envelope, recipients, buffer, deadline)
    finally:
        buffer.close()


def digest(octets: bytes) -> str:
    """In place of the octets: a difference in 300 kB is nothing that a person reads."""
    return f"{len(octets)} {hashlib.sha256(octets).hexdigest()}"


def stored(server: Dovecot, user: str, subject: str) -> list[str]:
    """The copies of a message, without what Dovecot put in front, with CRLF line ends, as digests."""
    found = []
    for octets in server.messages(user):
        octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if f"\r\nSubject: {subject}\r\n".encode() in octets:
            found.append(digest(octets[octets.index(b"From: a@b.test") :]))
    return found


@pytest.mark.parametrize("chunking", [False, True])
@pytest.mark.parametrize("unix", [False, True])
def test_delivered_exactly(dovecot: Dovecot, chunking: bool, unix: bool) -> None:
    async def main() -> None:
        to = transport(Endpoint(path=dovecot.lmtp_path) if unix else tcp(dovecot), chunking=chunking)
        for size in (100, 300_000):
            subject = f"exact {chunking} {unix} {size}"
            octets = message(subject, size)
            outcomes = await deliver(to, ["good", "alice+detail"], octets)
            assert [o.reply.code for o in outcomes] == [250, 250], outcomes
            assert "Saved" in outcomes[0].reply.text
            assert outcomes[0].reply.enhanced == "2.0.0"
            assert stored(dovecot, "good", subject) == [digest(octets)]
            assert stored(dovecot, "alice", subject) == [digest(octets)]

    run(main())


@pytest.mark.parametrize("chunking", [False, True])
def test_mixed_answers_reach_each_recipient_unchanged(dovecot: Dovecot, chunking: bool) -> None:
    async def main() -> None:
        to = transport(tcp(dovecot), chunking=chunking)
        for turn in range(2):
            subject = f"mixed {chunking} {turn}"
            outcomes = await deliver(to, ["bob", "nobody", "tempfail", "good"], message(subject))
            replies = [o.reply for o in outcomes]
            assert [r.code for r in replies] == [250, 550, 451, 250], replies
            assert replies[1].enhanced == "5.1.1"
            assert replies[2].enhanced.startswith("4.")
            assert not any(o.sent for o in outcomes)
            assert len(stored(dovecot, "bob", subject)) == 1

    run(main())


def test_nobody_at_all_and_the_connection_is_still_good(dovecot: Dovecot) -> None:
    async def main() -> None:
        to = transport(tcp(dovecot))
        for _ in range(2):
            outcomes = await deliver(to, ["nobody", "noone"], message("none"))
            assert [o.reply.code for o in outcomes] == [550, 550]
            assert [o.reply.code for o in await deliver(to, ["good"], message("one"))] == [250]
        (pool,) = to.pools.values()
        assert pool.stats.opened == 1

    run(main())


@pytest.mark.parametrize("chunking", [False, True])
def test_over_quota_after_the_content_is_552(chunking: bool) -> None:
    async def main(server: Dovecot) -> None:
        to = transport(tcp(server), chunking=chunking)
        outcomes = await deliver(to, ["good", "full"], message("too much", 40_000))
        assert [(o.reply.code, o.reply.enhanced) for o in outcomes] == [(250, "2.0.0"), (552, "5.2.2")]
        assert [o.reply.code for o in await deliver(to, ["good"], message("after"))] == [250]

    with Dovecot(check_quota=False) as server:
        run(main(server))


def test_verify(dovecot: Dovecot) -> None:
    async def main() -> None:
        to = transport(tcp(dovecot))
        for _ in range(3):
            assert (await to.verify(NULL, parse_address("good@example.test"))).code == 250
            refused = await to.verify(NULL, parse_address("nobody@example.test"))
            assert (refused.code, refused.enhanced) == (550, "5.1.1")
        assert [o.reply.code for o in await deliver(to, ["good"], message("after checks"))] == [250]
        (pool,) = to.pools.values()
        assert pool.stats.opened == 1

    run(main())


def test_a_large_message(dovecot: Dovecot) -> None:
    octets = message("large", 12_000_000)

    async def main() -> None:
        to = transport(tcp(dovecot))
        assert [o.reply.code for o in await deliver(to, ["bob"], octets)] == [250]

    run(main())
    assert stored(dovecot, "bob", "large") == [digest(octets)]


def test_many_at_once_over_few_connections(dovecot: Dovecot) -> None:
    async def main() -> None:
        to = transport(tcp(dovecot), pool=PoolLimits(max_connections=4))
        many = [deliver(to, ["alice"], message(f"many {n}")) for n in range(60)]
        for outcomes in await asyncio.gather(*many):
            assert [o.reply.code for o in outcomes] == [250]
        (pool,) = to.pools.values()
        assert pool.stats.opened <= 4

    run(main())
    assert len({n for n in range(60) if stored(dovecot, "alice", f"many {n}")}) == 60


def test_restart_and_downtime() -> None:
    async def main(server: Dovecot) -> None:
        loop = asyncio.get_running_loop()
        to = transport(tcp(server))
        assert [o.reply.code for o in await deliver(to, ["good"], message("before"))] == [250]
        await loop.run_in_executor(None, server.stop)
        outcomes = await deliver(to, ["good"], message("down"))
        assert [(o.reply.code, o.reply.enhanced, o.sent) for o in outcomes] == [(451, "4.4.1", False)]
        await loop.run_in_executor(None, server.start)
        assert [o.reply.code for o in await deliver(to, ["good"], message("after"))] == [250]
        assert [len(stored(server, "good", s)) for s in ("before", "down", "after")] == [1, 0, 1]

    with Dovecot() as server:
        run(main(server))


def test_fails_over_to_the_second_back_end(dovecot: Dovecot) -> None:
    async def main() -> None:
        dead = Endpoint(path=str(dovecot.folder / "no-such-socket"))
        to = transport(dead, tcp(dovecot))
        for n in range(3):
            outcomes = await deliver(to, ["good"], message(f"second {n}"))
            assert [o.reply.code for o in outcomes] == [250]

    run(main())


@pytest.mark.parametrize("chunking", [False, True])
def test_killed_in_mid_transaction(dovecot: Dovecot, chunking: bool) -> None:
    """However the kill falls: 250 is stored once; what is not `sent` is not stored; the next one arrives."""
    subject = f"killed {chunking}"
    octets = message(subject, 20_000_000)

    async def main() -> None:
        to = transport(tcp(dovecot), chunking=chunking)
        assert [o.reply.code for o in await deliver(to, ["good"], message("warm"))] == [250]
        delivery = asyncio.ensure_future(deliver(to, ["bob"], octets))
        await asyncio.sleep(0.03)
        assert not delivery.done()
        assert dovecot.kill_lmtp() > 0
        (outcome,) = await delivery
        copies = len(stored(dovecot, "bob", subject))
        if outcome.reply.code == 250:
            assert copies == 1
        else:
            assert outcome.reply.code == 451
            assert copies == 0 or outcome.sent
        after = await deliver(to, ["good"], message(f"after {subject}"))
        assert [o.reply.code for o in after] == [250]

    run(main())
