"""Delivery to configured servers: the LMTP back ends of our domains, and SMTP relays (smarthosts).

`FixedTransport` hands a message to the first of its servers that takes it. Replies of the server reach the
caller unchanged (552 5.2.2 stays 552 5.2.2); everything local - refused, timeout, no TLS, no place in the
pool - becomes a temporary reply whose text tells the client nothing about us and whose cause tells the log
everything.

A server that fails is followed by the next one within the same deadline (`mta.delivery.job`,
`mta.delivery.transact`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from mta.address import Address
from mta.content import Content
from mta.delivery.health import Health, candidates
from mta.delivery.job import NO_SERVER, Job, passed_on
from mta.delivery.outcome import Outcome, Told
from mta.delivery.transact import transact
from mta.envelope import Envelope, Recipient
from mta.net.connect import ClientTls, ConnectFailure, Endpoint, connect
from mta.net.dial import BadAddresses
from mta.net.outbound import OutboundConnection, Timeouts
from mta.net.pool import Pool, PoolBusy, PoolLimits
from mta.reply import Reply
from mta.smtp.checking import RecipientCheck
from mta.smtp.opening import ClientSettings

VERIFY_TIME = 10.0
"""Seconds for asking a server about a recipient."""


@dataclass(slots=True, frozen=True)
class FixedSettings:
    """One configured back end or relay."""

    name: str
    endpoints: tuple[Endpoint, ...]
    client: ClientSettings
    tls: ClientTls | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    pool: PoolLimits = field(default_factory=PoolLimits)
    """For each endpoint."""
    recipient_limit: int = 0
    """Recipients in one transaction, 0 for no limit."""
    failure_delay: float = 10.0
    """Seconds for which a server that failed is passed over, more after each further failure."""


class _Server:
    """One endpoint: its connections and how it fares (`mta.delivery.transact.Line`)."""

    __slots__ = ("_failure_delay", "health", "name", "pool", "recipient_limit", "take")

    def __init__(self, settings: FixedSettings, endpoint: Endpoint) -> None:
        dial = partial(
            connect, endpoint, settings.client, settings.tls, settings.timeouts, bad=BadAddresses()
        )
        self.name = str(endpoint)
        self.pool = Pool(dial, settings.pool)
        self.health = Health()
        self.recipient_limit = settings.recipient_limit
        self.take = self.pool.take
        self._failure_delay = settings.failure_delay

    async def acquire(self, deadline: float, *, fresh: bool) -> OutboundConnection:
        """A connection of the pool; a failure to open one is a failure of the server."""
        health = self.health
        health.probing = health.failures > 0
        try:
            return await self.pool.acquire(deadline, fresh=fresh)
        except PoolBusy:
            raise
        except ConnectFailure as error:
            self._failed(error.reply)
            raise
        finally:
            health.probing = False

    def release(self, connection: OutboundConnection) -> None:
        """See `Line`."""
        self.pool.release(connection)

    def worked(self, connection: OutboundConnection) -> None:
        """See `Line`."""
        self.health.worked()

    def failed(self, connection: OutboundConnection, reply: Reply) -> None:
        """See `Line`."""
        self._failed(reply)

    def describe(self, job: Job, connection: OutboundConnection) -> None:
        """See `Line`."""
        job.peer = self.name

    def _failed(self, reply: Reply) -> None:
        self.health.failed(asyncio.get_running_loop().time(), reply, self._failure_delay)


class FixedTransport:
    """A `Transport` to configured servers."""

    def __init__(self, settings: FixedSettings) -> None:
        """Nothing is opened before the first delivery. Raises ValueError without an endpoint."""
        if not settings.endpoints:
            raise ValueError(f"{settings.name}: no endpoint")
        self._settings = settings
        self._servers = [_Server(settings, endpoint) for endpoint in settings.endpoints]
        self._health = [server.health for server in self._servers]
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def introduces(self) -> bool:
        """True when the next hop is told who our client is."""
        return self._settings.client.xclient or self._settings.client.xforward

    @property
    def is_down(self) -> bool:
        """True when no server has answered lately, and none is due to be tried again."""
        now = self._loop.time() if self._loop is not None else 0.0
        return all(health.failures and (health.retry_at > now or health.probing) for health in self._health)

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools by endpoint, for metrics."""
        return {server.name: server.pool for server in self._servers}

    async def deliver(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        content: Content,
        deadline: float,
        client: Mapping[str, str] | None = None,
        told: Told | None = None,
    ) -> list[Outcome]:
        """See `Transport.deliver`. `client` are XCLIENT and XFORWARD attributes (`client_attributes`)."""
        loop = self._running_loop()
        job = Job(envelope, recipients, content, deadline, client, loop, told)
        if not job.read():
            return job.result()
        for index in candidates(self._health, loop.time()):
            await transact(self._servers[index], job)
            if not job.pending or job.is_late:
                break
        else:
            if job.failure is None:
                job.failure = self._health[0].last
        return job.result()

    async def verify(self, sender: Address, address: Address, deadline: float | None = None) -> Reply:
        """Ask whether mail from `sender` to `address` would be accepted: the reply to RCPT (or MAIL).

        When no server can be asked the reply is temporary. `deadline` is in loop time, default
        `VERIFY_TIME` from now.
        """
        loop = self._running_loop()
        limit = loop.time() + VERIFY_TIME
        if deadline is not None:
            limit = min(limit, deadline)
        failure = NO_SERVER
        for index in candidates(self._health, loop.time()):
            server = self._servers[index]
            fresh = False
            while True:
                try:
                    connection = await server.acquire(limit, fresh=fresh)
                except ConnectFailure as error:
                    failure = error.reply
                    break
                if connection.session.peer.is_bound(None):  # the answer would be for that client
                    connection.quit()
                    server.pool.release(connection)
                    fresh = True
                    continue
                check = RecipientCheck(sender, address)
                stale = connection.session.messages > 0
                try:
                    await connection.check(check, limit)
                finally:
                    server.pool.release(connection)
                if check.reply is not None:
                    server.health.worked()
                    return passed_on(check.reply)
                failure = connection.session.failure or NO_SERVER
                if fresh or not stale or connection.session.replied or loop.time() >= limit:
                    server.health.failed(loop.time(), failure, self._settings.failure_delay)
                    break
                fresh = True
            if loop.time() >= limit:
                break
        return failure

    async def look(self, deadline: float) -> Reply | None:
        """Whether any server can be reached by `deadline` (loop time): None, or the last failure.

        A new connection with greeting and EHLO or LHLO, which stays in the pool.
        """
        loop = self._running_loop()
        failure: Reply | None = NO_SERVER
        for index in candidates(self._health, loop.time()):
            server = self._servers[index]
            try:
                server.release(await server.acquire(deadline, fresh=True))
            except ConnectFailure as error:
                failure = error.reply
                continue
            return None
        return failure

    async def close(self) -> None:
        """End idle connections politely, then all others."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(server.pool.close())

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        # asyncio.get_running_loop() makes a system call each time. Pooled connections tie us to one loop.
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop
