"""The first try of a message, while its client waits: all next hops at the same time, under one deadline.

Recipients that are known to have the message already (`mta.unacknowledged`) are answered 250 without a second
copy. What a next hop does becomes an outcome; a bug in one try ends the others and comes out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from mta.content import Content, Rendered
from mta.delivery.outcome import NextHop, Outcome, Transport
from mta.delivery.plan import plan
from mta.envelope import Envelope, Recipient
from mta.handover import Gate, Permit
from mta.policy.verdict import Policy
from mta.reply import Reply
from mta.session import Session
from mta.smtp.relaying import client_attributes
from mta.unacknowledged import Unacknowledged, identity_of

HAS_IT_ALREADY = Reply(250, "2.0.0", "already delivered")
HAS_IT_UNTOLD = Reply(250, "2.0.0", "already delivered")
"""The same for the client, but the sender has not had the report that it wanted: the two are told apart by
`is`, for they are equal."""
NO_TRANSPORT = Reply(451, "4.3.5", "the next hop is not configured")


class FirstTries:
    """Makes the first tries of a worker."""

    def __init__(
        self,
        policy: Policy,
        transports: Mapping[str, Transport],
        unacknowledged: Unacknowledged,
        find: Callable[[Sequence[Recipient]], Awaitable[None]] | None,
        gate: Gate | None,
    ) -> None:
        """`find` learns what has to be known before recipients are routed, None where nothing has."""
        self.policy = policy
        self._transports = transports
        self._unacknowledged = unacknowledged
        self._find = find
        self._gate = gate

    async def make(
        self,
        session: Session,
        envelope: Envelope,
        rendered: Rendered,
        deadline: float,
        received: tuple[Envelope, Content],
        known: list[Outcome],
    ) -> list[Outcome]:
        """Try all recipients. `received` is what the client sent, by which a retry is known; `known` gets
        outcomes while others are still tried."""
        recipients = envelope.recipients
        if self._find is not None:
            await self._find(recipients)
        if len(recipients) == 1 and not self._unacknowledged:  # the usual case, without lists of positions
            hop = self.policy.route(session, envelope, recipients[0])
            if isinstance(hop, Reply):
                return [Outcome(recipients[0], hop, "")]
            return await self._try(session, hop, recipients, envelope, rendered, deadline, None)
        outcomes = await self.already(received, recipients)
        routes: list[tuple[Recipient, NextHop]] = []
        positions: list[int] = []
        for index, recipient in enumerate(recipients):
            if outcomes[index] is None:
                hop = self.policy.route(session, envelope, recipient)
                if isinstance(hop, Reply):
                    outcomes[index] = Outcome(recipient, hop, "")
                else:
                    routes.append((recipient, hop))
                    positions.append(index)
        groups = plan(routes)
        tries = [
            self._try(session, group.next_hop, group.recipients, envelope, rendered, deadline, known)
            for group in groups
        ]
        tried = [await tries[0]] if len(tries) == 1 else await _all(tries)
        for group, results in zip(groups, tried, strict=True):
            for position, outcome in zip(group.positions, results, strict=True):
                outcomes[positions[position]] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    async def already(
        self, received: tuple[Envelope, Content], recipients: Sequence[Recipient]
    ) -> list[Outcome | None]:
        """The outcomes of those who are known to have the message, in their places."""
        outcomes: list[Outcome | None] = [None] * len(recipients)
        if self._unacknowledged:
            identity = await identity_of(received[0].sender, received[1])
            for index, recipient in enumerate(recipients):
                if self._unacknowledged.knows(identity, recipient.address):
                    owed = self._unacknowledged.owes(identity, recipient.address)
                    outcomes[index] = Outcome(recipient, HAS_IT_UNTOLD if owed else HAS_IT_ALREADY, "")
        return outcomes

    async def _try(
        self,
        session: Session,
        next_hop: NextHop,
        recipients: Sequence[Recipient],
        envelope: Envelope,
        rendered: Rendered,
        deadline: float,
        known: list[Outcome] | None,
    ) -> list[Outcome]:
        transport = self._transports.get(next_hop.transport)
        if transport is None:
            return [Outcome(recipient, NO_TRANSPORT, "") for recipient in recipients]
        client = client_attributes(session) if transport.introduces else None
        envelope = envelope.sent_to(recipients)
        told = None if known is None else lambda some: known.extend(outcome for _, outcome in some)
        permit: Permit | Reply | None = None
        if self._gate is not None:
            if next_hop.host:
                await self._gate.prepare(next_hop, deadline)
            permit = self._gate.enter(next_hop)
        if isinstance(permit, Reply):
            return [Outcome(recipient, permit, "") for recipient in recipients]
        outcomes: list[Outcome] = []
        try:
            outcomes = await transport.deliver(envelope, recipients, rendered, deadline, client, told)
        finally:
            if permit is not None:
                permit.leave(outcomes)
        if known is not None:
            known += outcomes
        return outcomes


def untold(outcomes: Iterable[Outcome]) -> list[Recipient]:
    """Those who have the message and of whom the sender wants to hear that (NOTIFY=SUCCESS), unless their
    next hop tells."""
    return [
        one.recipient
        for one in outcomes
        if one.reply.is_positive and not one.took_dsn and "SUCCESS" in (one.recipient.notify or ())
    ]


async def _all(tries: Iterable[Coroutine[Any, Any, list[Outcome]]]) -> list[list[Outcome]]:
    """Run all tries at once; a bug in one of them ends the others and comes out."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(attempt) for attempt in tries]
    return [task.result() for task in running]
