"""Delivery to configured servers: the LMTP back ends of our domains, and SMTP relays (smarthosts).

`FixedTransport` hands a message to the first of its servers that takes it. Replies of the server reach the
caller unchanged (552 5.2.2 stays 552 5.2.2); everything local - refused, timeout, no TLS, no place in the
pool - becomes a temporary reply whose text tells the client nothing about us and whose cause tells the log
everything.

The line that is never crossed: once the octets that end a message may have reached a server and its reply
is missing, it is not sent anywhere else; such an outcome has `sent` set. Before that line, the next server
is tried within the same deadline, recipient by recipient: who had an answer keeps it. A pooled connection
that dies without a single reply but 421 was stale; the same server gets one more try on a fresh one.

LIMITS of a server (RFC 9422) and its 452 4.5.3 split the recipients over several transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mta.address import Address
from mta.content import Content, SpillError
from mta.delivery.health import Choice, Health, candidates
from mta.delivery.outcome import Outcome
from mta.envelope import Envelope, Recipient
from mta.net.connect import ClientTls, ConnectFailure, Endpoint, connect
from mta.net.outbound import UNREADABLE, OutboundConnection, Timeouts
from mta.net.pool import Pool, PoolLimits
from mta.reply import Reply
from mta.smtp.capabilities import NO_LIMITS
from mta.smtp.checking import RecipientCheck
from mta.smtp.mailing import Mailing
from mta.smtp.opening import ClientSettings
from mta.smtp.relaying import ContentFacts

INLINE_LIMIT = 256 * 1024
"""Octets up to which a message is handed to the session whole: one wake-up, one write, some 0.1 ms of work;
larger is streamed."""
EAGER_IDLE = 1.0
"""Seconds since the last reply within which a connection counts as alive, so that a message may be sent
before any reply (BDAT). Later a dead connection would leave open whether it was delivered."""
VERIFY_TIME = 10.0
"""Seconds for asking a server about a recipient."""

_TOO_LATE = Reply(451, "4.4.7", "The message could not be delivered in time", "deadline before any try")
_NO_SERVER = Reply(451, "4.4.1", "The next server cannot be reached at the moment", "no server to try")


@dataclass(slots=True, frozen=True)
class FixedSettings:
    """One configured back end or relay."""

    name: str
    endpoints: tuple[Endpoint, ...]
    client: ClientSettings
    tls: ClientTls | None = None
    choice: Choice = "ordered"
    timeouts: Timeouts = field(default_factory=Timeouts)
    pool: PoolLimits = field(default_factory=PoolLimits)
    """For each endpoint."""
    recipient_limit: int = 0
    """Recipients in one transaction, 0 for no limit."""
    failure_delay: float = 10.0
    """Seconds for which a server that failed is passed over, more after each further failure."""


@dataclass(slots=True)
class _Server:
    endpoint: Endpoint
    name: str
    pool: Pool
    health: Health


class FixedTransport:
    """A `Transport` to configured servers."""

    def __init__(self, settings: FixedSettings) -> None:
        """Nothing is opened before the first delivery. Raises ValueError without an endpoint."""
        if not settings.endpoints:
            raise ValueError(f"{settings.name}: no endpoint")
        self._settings = settings
        self._servers = [self._server(endpoint) for endpoint in settings.endpoints]
        self._health = [server.health for server in self._servers]
        self._loop: asyncio.AbstractEventLoop | None = None

    def _server(self, endpoint: Endpoint) -> _Server:
        settings = self._settings
        dial = partial(connect, endpoint, settings.client, settings.tls, settings.timeouts)
        return _Server(endpoint, str(endpoint), Pool(dial, settings.pool), Health(weight=endpoint.weight))

    @property
    def introduces(self) -> bool:
        """True when the next hop is told who our client is."""
        return self._settings.client.xclient or self._settings.client.xforward

    @property
    def recipient_limit(self) -> int:
        """Recipients that one `deliver` should have, 0 for no limit: for `plan`."""
        return self._settings.recipient_limit

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
    ) -> list[Outcome]:
        """See `Transport.deliver`. `client` are XCLIENT and XFORWARD attributes (`client_attributes`)."""
        loop = self._running_loop()
        job = _Job(envelope, recipients, content, deadline, client, loop)
        job.facts = _facts(envelope, content)
        try:
            job.inline = b"".join(content.chunks()) if job.facts.size <= INLINE_LIMIT else None
        except SpillError as error:
            job.failure = Reply(451, "4.3.0", UNREADABLE, str(error))
            return job.result()
        for index in candidates(self._health, self._settings.choice, loop.time()):
            await self._try(self._servers[index], job)
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
        failure = _NO_SERVER
        for index in candidates(self._health, self._settings.choice, loop.time()):
            server = self._servers[index]
            fresh = False
            while True:
                try:
                    connection = await self._connection(server, limit, fresh=fresh)
                except ConnectFailure as error:
                    failure = error.reply
                    break
                check = RecipientCheck(sender, address)
                stale = connection.session.messages > 0
                try:
                    await connection.check(check, limit)
                finally:
                    server.pool.release(connection)
                if check.reply is not None:
                    server.health.worked()
                    return _passed_on(check.reply)
                failure = connection.session.failure or _NO_SERVER
                if fresh or not stale or connection.session.replied or loop.time() >= limit:
                    server.health.failed(loop.time(), failure, self._settings.failure_delay)
                    break
                fresh = True
            if loop.time() >= limit:
                break
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

    async def _connection(self, server: _Server, deadline: float, *, fresh: bool) -> OutboundConnection:
        """A connection of the pool; a failure to open one is a failure of the server."""
        health = server.health
        health.probing = health.failures > 0
        try:
            return await server.pool.acquire(deadline, fresh=fresh)
        except ConnectFailure as error:
            if error.reply.enhanced != "4.4.5":  # our own pool was too small: no fault of the server
                now = self._running_loop().time()
                health.failed(now, error.reply, self._settings.failure_delay)
            raise
        finally:
            health.probing = False

    async def _try(self, server: _Server, job: _Job) -> None:
        """Deliver to one server what is pending. Pending afterwards is what another one may try."""
        fresh = False
        loop = job.loop
        while job.pending:
            idle = None if fresh else server.pool.take()
            try:
                connection = idle or await self._connection(server, job.deadline, fresh=fresh)
            except ConnectFailure as error:
                job.failure = error.reply
                return
            batch = self._batch(job, connection)
            if not batch:  # as many domains as this session may have
                connection.quit()
                server.pool.release(connection)
                fresh = True
                continue
            mailing = Mailing(
                job.envelope,
                [job.recipients[index] for index in batch],
                job.facts,
                job.inline,
                attributes=job.client,
                eager=loop.time() - connection.idle_since < EAGER_IDLE,
                wanted=job.content.is_wanted,
            )
            used_before = connection.session.messages > 0
            try:
                await connection.send(mailing, job.content, job.deadline)
            finally:
                server.pool.release(connection)
            job.peer = server.name
            took_dsn = "DSN" in connection.session.peer.offered
            if job.settle(batch, mailing, connection.session.failure, took_dsn):
                server.health.worked()
                continue
            failure = connection.session.failure
            stale = used_before and not fresh and not connection.session.replied
            if stale and job.pending and not job.is_late:
                fresh = True
                continue
            server.health.failed(loop.time(), failure or _NO_SERVER, self._settings.failure_delay)
            return

    def _batch(self, job: _Job, connection: OutboundConnection) -> list[int]:
        """The pending recipients that may go in one transaction of this connection."""
        limits = connection.session.peer.limits
        most = self._settings.recipient_limit
        if limits is NO_LIMITS and not most:
            return list(job.pending)
        if limits.rcpt_max:
            most = min(most, limits.rcpt_max) if most else limits.rcpt_max
        batch: list[int] = []
        for index in job.pending:
            if limits.rcpt_domain_max:
                domain = job.recipients[index].address.domain
                if domain not in connection.domains:
                    if len(connection.domains) >= limits.rcpt_domain_max:
                        continue
                    connection.domains.add(domain)
            batch.append(index)
            if len(batch) == most:
                break
        return batch


class _Job:
    """One call of `deliver`: what is decided and what is pending."""

    __slots__ = (
        "_outcomes",
        "client",
        "content",
        "deadline",
        "envelope",
        "facts",
        "failure",
        "inline",
        "loop",
        "peer",
        "pending",
        "recipients",
    )

    def __init__(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        content: Content,
        deadline: float,
        client: Mapping[str, str] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.envelope = envelope
        self.recipients = recipients
        self.content = content
        self.deadline = deadline
        self.client = client
        self.loop = loop
        self.facts = ContentFacts(0)
        self.inline: bytes | None = None
        self.pending = list(range(len(recipients)))
        self.failure: Reply | None = None
        """Why pending recipients have no answer."""
        self.peer = ""
        self._outcomes: list[Outcome | None] = [None] * len(recipients)

    @property
    def is_late(self) -> bool:
        """True when the deadline has come."""
        return self.loop.time() >= self.deadline

    def settle(self, batch: list[int], mailing: Mailing, failure: Reply | None, took_dsn: bool) -> bool:
        """Take the answers; False when the session failed before all of the batch had one."""
        again: list[int] = []
        undecided = open_ends = False
        for index, reply in zip(batch, mailing.replies, strict=True):
            recipient = self.recipients[index]
            if reply is None:
                if not mailing.sent:
                    again.append(index)
                    undecided = True
                    continue
                lost = failure or _NO_SERVER
                self._outcomes[index] = Outcome(recipient, lost, self.peer, sent=True)
                open_ends = True
            elif reply.code == 452 and reply.enhanced == "4.5.3" and mailing.accepted:
                again.append(index)  # RFC 5321 section 4.5.3.1.10: too many at once, so in another go
            else:
                self._outcomes[index] = Outcome(recipient, _passed_on(reply), self.peer, False, took_dsn)
        if len(batch) < len(self.pending):
            done = set(batch)
            again += [index for index in self.pending if index not in done]
        self.pending = again
        if failure is None:
            return True
        self.failure = failure
        return not (open_ends or undecided)

    def result(self) -> list[Outcome]:
        """All outcomes, in the order of the recipients."""
        late = self.failure or (_TOO_LATE if self.is_late else _NO_SERVER)
        return [
            Outcome(recipient, late, self.peer) if outcome is None else outcome
            for recipient, outcome in zip(self.recipients, self._outcomes, strict=True)
        ]


def _passed_on(reply: Reply) -> Reply:
    """The reply as our client gets it: every reply of ours has an enhanced code (RFC 2034)."""
    if reply.enhanced:
        return reply
    return replace(reply, enhanced=f"{reply.code // 100}.0.0")


def _facts(envelope: Envelope, content: Content) -> ContentFacts:
    utf8_header = False
    if envelope.smtputf8:
        utf8_header = not content.head.partition(b"\r\n\r\n")[0].isascii()
    return ContentFacts(content.size, content.has_8bit, utf8_header, content.plain)
