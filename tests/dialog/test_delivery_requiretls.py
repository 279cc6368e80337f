"""REQUIRETLS through the hosts of a domain: the first that offers it gets the message (RFC 8689)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any

import pytest
import trustme
import uvloop

from mta.address import parse_address
from mta.content import MessageBuffer
from mta.delivery.outcome import Outcome
from mta.delivery.remote import RemoteTransport
from mta.delivery.security import wording
from mta.delivery.security.requirement import (
    DomainSecurity,
    HostAddresses,
    Level,
    MxSet,
    Requirement,
    Result,
    Wishes,
)
from mta.envelope import Envelope, Recipient
from mta.net.connect import ClientTls
from mta.net.tls import client_context
from mta.reply import Reply
from tests.dialog.world import SMALL, World, world
from tests.peers.scripted import Script, ScriptedServer

AUTHORITY = trustme.CA()
ALL = ("PIPELINING", "STARTTLS", "REQUIRETLS")


class Proving:
    """Everybody is proven, and must verify; but for hosts whose TLSA records do not come."""

    def __init__(self, *lost: str) -> None:
        self.lost = lost
        self.context = client_context("verify")
        AUTHORITY.configure_trust(self.context)

    async def for_domain(self, mx: MxSet, wishes: Wishes, deadline: float) -> DomainSecurity | Reply:
        return self

    async def for_host(self, addresses: HostAddresses, deadline: float) -> Requirement | Reply:
        if addresses.host in self.lost:
            return wording.no_tlsa(addresses.host, "timeout")
        return Requirement(addresses.host, Level.VERIFY)

    def client_tls(self, requirement: Requirement) -> ClientTls | None:
        return ClientTls(self.context, name=requirement.host)

    def report(self, result: Result) -> None:
        assert result.failure is None


async def host(w: World, number: int, offers: tuple[str, ...], **answers: str) -> ScriptedServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(f"mx{number}.test").configure_cert(context)
    script = Script(answers=answers, lmtp=False, offers=offers, tls=context)
    return await w.server(f"mx{number}.test", f"127.0.2.{number}", script)


async def send(to: RemoteTransport, require_tls: bool = True, route: str = "") -> Outcome:
    message = MessageBuffer()
    message.append(SMALL)
    try:
        envelope = Envelope(parse_address("s@y.test"), require_tls=require_tls)
        deadline = asyncio.get_running_loop().time() + 10
        recipient = Recipient(parse_address("a@d.test"), route=route)
        (outcome,) = await to.deliver(envelope, [recipient], message, deadline)
        return outcome
    finally:
        message.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main

    uvloop.run(bounded())


def test_another_host_offers_it() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            first, second = await host(w, 1, ALL[:2]), await host(w, 2, ALL)
            to = w.transport(Proving())
            # Other mail goes where it usually does, and leaves a connection that REQUIRETLS does not take.
            assert (await send(to, require_tls=False)).peer.startswith("mx1.test")
            for _ in range(2):
                outcome = await send(to)
                assert (outcome.reply.code, outcome.peer[:8]) == (250, "mx2.test")
            assert (len(first.messages), len(second.messages)) == (1, 2)
            assert "QUIT" in first.commands
            assert any(line.endswith("REQUIRETLS") for line in second.commands)

    run(main())


@pytest.mark.parametrize(
    ("backup", "expected"),
    [
        ("none offers it", "550 5.7.30"),
        ("away", "451 4.4.1"),  # it may come back, and take the message
        ("unproven", "451 4.7.5"),
    ],
)
def test_no_host_offers_it(backup: str, expected: str) -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            await host(w, 1, ALL[:2])
            if backup == "away":
                w.dead("mx2.test", "127.0.2.2")
            else:
                await host(w, 2, ALL[:2])
            outcome = await send(w.transport(Proving(*(["mx2.test"] if backup == "unproven" else []))))
            assert f"{outcome.reply.code} {outcome.reply.enhanced}" == expected

    run(main())


@pytest.mark.parametrize("gateway", ["lacks it", "has no address", "refuses"])
def test_a_fallback_that_will_not_do_returns_nothing(gateway: str) -> None:
    """The way of the domain itself is only closed for now; what a server says of the mail counts."""

    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            w.dead("mx1.test", "127.0.2.1")
            if gateway == "lacks it":
                await host(w, 2, ALL[:2])
            elif gateway == "refuses":
                await host(w, 2, ALL, RCPT="550 5.1.1 no such user")
            outcome = await send(w.transport(Proving()), route=f"mx;fallback=smtp:[mx2.test]:{w.port}")
            expected = "550 5.1.1" if gateway == "refuses" else "451 4.4.1"
            assert f"{outcome.reply.code} {outcome.reply.enhanced}" == expected

    run(main())
