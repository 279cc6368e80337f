"""Transactions over connections that are reused: batches, stale connections, the next one when one fails.

`transact` is the part of a delivery that configured servers and the hosts of the world have in common. Where
connections come from, and what a failure means for the server, is the business of a `Line`.

A pooled connection that dies, or that does not answer RSET with 250, before it answers MAIL was stale: the
message gets one more try on a fresh one. LIMITS of a server (RFC 9422) and its 452 4.5.3 split the
recipients over several transactions.

A server that has the whole message when the deadline comes may deliver it still: nobody waits for it here,
but its connection is kept for a while, and what it says then is told to who asks
(`mta.delivery.outcome.Late`).
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from mta.delivery.job import NO_SERVER, Job, passed_on
from mta.delivery.outcome import Late
from mta.net.connect import ConnectFailure
from mta.net.outbound import OutboundConnection
from mta.reply import Reply
from mta.smtp.capabilities import NO_LIMITS
from mta.smtp.mailing import Mailing

EAGER_IDLE = 1.0
"""Seconds since the last reply within which a connection counts as alive, so that a message may be sent
before any reply (BDAT). Later a dead connection would leave open whether it was delivered."""


listening: set[OutboundConnection] = set()
"""Connections of this process whose answers are late and still wanted: a reason not to end yet."""


class Line(Protocol):
    """Connections to one server, or to servers that stand for each other."""

    @property
    def recipient_limit(self) -> int:
        """Recipients in one transaction, 0 for no limit."""

    def take(self) -> OutboundConnection | None:
        """An idle connection, None when there is none."""

    async def acquire(self, deadline: float, *, fresh: bool) -> OutboundConnection:
        """A connection by `deadline` (loop time); `fresh` never gives one that was idle.

        Raises ConnectFailure; what that says of the server is known to the line then.
        """

    def release(self, connection: OutboundConnection) -> None:
        """Take a connection back, whatever its state is."""

    def worked(self, connection: OutboundConnection) -> None:
        """The server answered for all that it was asked."""

    def failed(self, connection: OutboundConnection, reply: Reply) -> None:
        """The session failed before all recipients had an answer."""

    def describe(self, job: Job, connection: OutboundConnection) -> None:
        """Tell the job whom it speaks with."""


async def transact(line: Line, job: Job) -> None:
    """Deliver over one line what is pending. Pending afterwards is what another server may try."""
    fresh = False
    loop = job.loop
    while job.pending:
        idle = None if fresh else line.take()
        try:
            connection = idle or await line.acquire(job.deadline, fresh=fresh)
        except ConnectFailure as error:
            job.fail(error.reply)
            return
        batch = batch_of(job, connection, line.recipient_limit)
        # As many domains as this session may have; or the server takes us for another client.
        if not batch or connection.session.peer.is_bound(job.client):
            connection.quit()
            line.release(connection)
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
        line.describe(job, connection)
        peer = connection.session.peer
        if job.told is not None and len(batch) > 1:
            connection.on_part = partial(job.hear, batch, mailing, peer)
        try:
            await connection.send(mailing, job.content, job.deadline)
        except BaseException:  # we stop: who has an answer has it
            job.cut(batch, mailing, peer)
            raise
        finally:
            connection.on_part = None
            if not connection.is_overdue:
                if not mailing.accepted and any(map(_takes_no_mail, mailing.replies)):
                    connection.quit()
                line.release(connection)
        if connection.is_overdue:
            late: dict[int, Late] = {}
            overdue = connection.overdue()
            job.settle(batch, mailing, overdue, peer.offered, late)
            connection.on_late = partial(_hear, line, connection, mailing, late)
            listening.add(connection)
            line.failed(connection, overdue)
            return
        if job.settle(batch, mailing, connection.session.failure, peer.offered):
            line.worked(connection)
            continue
        stale = used_before and not fresh and not mailing.answered
        if stale and job.pending and not job.is_late:
            fresh = True
            continue
        line.failed(connection, connection.session.failure or NO_SERVER)
        return


def _takes_no_mail(reply: Reply | None) -> bool:
    """True when it is the host that takes none now (RFC 3463, X.3.2): another session may find it otherwise.

    Postfix' postscreen lets a client in once the session ends in which it has looked at it.
    """
    return reply is not None and reply.enhanced == "4.3.2"


def _hear(line: Line, connection: OutboundConnection, mailing: Mailing, late: dict[int, Late]) -> None:
    """A connection that was overdue has its answers, or is lost."""
    listening.discard(connection)
    line.release(connection)
    if connection.usable:
        line.worked(connection)
    for place, one in late.items():
        reply = mailing.replies[place]
        if reply is not None:
            one.come(passed_on(reply))


def batch_of(job: Job, connection: OutboundConnection, most: int) -> list[int]:
    """The pending recipients that may go in one transaction of this connection, at most `most` if not 0."""
    limits = connection.session.peer.limits
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
