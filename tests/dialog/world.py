"""Mail servers of a small world: scripted servers on loopback, found through a DNS of the test."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from mta.address import parse_address
from mta.content import MessageBuffer
from mta.delivery.lookup import Lookup, Ourselves
from mta.delivery.outcome import Outcome
from mta.delivery.remote import RemoteSettings, RemoteTransport
from mta.delivery.security.requirement import Level, OpportunisticSecurity, Security
from mta.envelope import Envelope, Recipient
from mta.net.connect import ClientTls
from mta.net.outbound import Timeouts
from mta.net.resolver.fake import FakeResolver
from mta.net.tls import client_context
from tests.peers.ports import free_port
from tests.peers.scripted import Script, ScriptedServer

SMALL = b"Subject: x\r\n\r\n.body\r\n"
SHORT = Timeouts(connect=2.0, greeting=2.0, command=2.0, block=2.0, final=2.0)


class World:
    """Servers and DNS, and a transport to them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.dns = FakeResolver()
        self.port = free_port()
        self.servers: dict[str, ScriptedServer] = {}
        self._stack = stack

    async def server(self, name: str, address: str, *scripts: Script) -> ScriptedServer:
        """A server at 127.x.x.x (or ::1) under a host name, which may have several addresses."""
        scripts = scripts or (Script(lmtp=False),)
        server = ScriptedServer(*scripts, host=address, port=self.port)
        await self._stack.enter_async_context(server)
        self.servers[address] = server
        self.dns.add(name, "AAAA" if ":" in address else "A", address)
        return server

    def dead(self, name: str, address: str) -> None:
        """A host that refuses connections."""
        self.dns.add(name, "AAAA" if ":" in address else "A", address)

    def silent(self, name: str, address: str) -> None:
        """A host that does not answer who connects: its queue of connections is full."""
        listening = socket.create_server((address, self.port), backlog=0)
        self._stack.callback(listening.close)
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex((address, self.port))
            self._stack.callback(waiting.close)
        self.dead(name, address)

    def domain(self, name: str, *records: str) -> None:
        """A domain with MX records, such as "10 mx.test"."""
        self.dns.add(name, "MX", *records)

    def transport(
        self, security: Security | None = None, ours: Ourselves | None = None, **rest: Any
    ) -> RemoteTransport:
        """A transport, closed at the end."""
        settings = RemoteSettings("us.test", port=self.port, **{"timeouts": SHORT, **rest})
        lookup = Lookup(self.dns, ours or Ourselves(), timeout=1.0)
        made = RemoteTransport(settings, lookup, security or opportunistic(), {}, rng=random.Random(7))
        self._stack.push_async_callback(made.close)
        return made


def opportunistic() -> Security:
    may = ClientTls(client_context("may"), required=False)
    return OpportunisticSecurity({Level.MAY: may, Level.ENCRYPT: ClientTls(client_context("encrypt"))})


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack)


async def send(
    to: RemoteTransport,
    *names: str,
    octets: bytes = SMALL,
    seconds: float = 10.0,
    route: str = "",
    recipients: Sequence[Recipient] = (),
) -> list[Outcome]:
    """One message for some addresses."""
    if not recipients:
        recipients = [Recipient(parse_address(name), route=route) for name in names]
    message = MessageBuffer()
    message.append(octets)
    try:
        deadline = asyncio.get_running_loop().time() + seconds
        return await to.deliver(Envelope(parse_address("s@y.test")), recipients, message, deadline)
    finally:
        message.close()


def short(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{o.reply.code} {o.reply.enhanced}{' sent' if o.sent else ''}" for o in outcomes]
