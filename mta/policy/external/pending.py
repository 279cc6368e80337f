"""What policy servers want done with a message: kept from the stage that they were asked at until its end.

`PendingPolicy` stands before the scripts. It carries out at the end of the data what was kept, and at each
stage what Postfix calls DEFER_IF_PERMIT and DEFER_IF_REJECT: they hold for what the rest of the policy says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace

from mta.envelope import Envelope, Recipient
from mta.policy.forwarding import Forwarding
from mta.policy.verdict import Orders, Policy, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message


@dataclass(slots=True)
class Pending:
    """What is kept of one session."""

    defer_if_permit: Reply | None = None
    defer_if_reject: Reply | None = None
    held: str = ""
    discarded: str = ""
    prepended: bytes = b""
    """Header fields, each with its CRLF."""
    redirected: Recipient | None = None
    copies: list[Recipient] = field(default_factory=list)
    route: str = ""

    def settle(self, verdict: Verdict) -> Verdict:
        """The end of a stage: what it is answered."""
        permit, reject = self.defer_if_permit, self.defer_if_reject
        self.defer_if_permit = self.defer_if_reject = None
        reply = verdict.reply
        if reply is None or reply.is_positive:
            return verdict if permit is None else Verdict(permit, verdict.delay)
        return replace(verdict, reply=reject) if reject is not None and reply.is_permanent else verdict

    def ordered(self, orders: Orders, envelope: Envelope) -> Orders:
        """The orders for a message, with what is kept."""
        removed, added = orders.removed, list(orders.added)
        if self.redirected is not None:
            removed = {at: "redirected by a policy server" for at, _ in enumerate(envelope.recipients)}
            added = [self.redirected]
        known = {one.address.key for one in added}
        standing = [one for at, one in enumerate(envelope.recipients) if at not in (removed or {})]
        known |= {one.address.key for each in standing for one in each.behind}
        for copy in self.copies:
            if copy.address.key not in known:
                known.add(copy.address.key)
                added.append(copy)
        route = self.route or next((one.route for one in envelope.everyone if one.route[:7] == "filter:"), "")
        if route:
            for one in (*envelope.everyone, *added):
                one.route = route
        return replace(
            orders,
            held=orders.held or self.held,
            discarded=orders.discarded or self.discarded,
            above=self.prepended + orders.above,
            removed=removed,
            added=tuple(added),
        )


class PendingPolicy(Forwarding):
    """`mta.policy.verdict.Policy` with what is pending."""

    def __init__(
        self, policy: Policy, pending: dict[str, Pending], filtered: Mapping[str, str] | None = None
    ) -> None:
        """`pending` is by session; policy servers put there what they want.

        `filtered` are the transports of content filters that all mail of a listener goes to, by listener.
        """
        super().__init__(policy)
        self._filtered = filtered or {}
        self._pending = pending

    def _settled(
        self, verdict: Verdict | Awaitable[Verdict], session: Session
    ) -> Verdict | Awaitable[Verdict]:
        if isinstance(verdict, Verdict):
            pending = self._pending.get(session.id)
            return verdict if pending is None else pending.settle(verdict)
        return self._settled_later(verdict, session)

    async def _settled_later(self, verdict: Awaitable[Verdict], session: Session) -> Verdict:
        found = await verdict
        pending = self._pending.get(session.id)
        return found if pending is None else pending.settle(found)

    def connect(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A client has connected."""
        return self._settled(self.inner.connect(session), session)

    def helo(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """EHLO, HELO or LHLO."""
        return self._settled(self.inner.helo(session), session)

    def mail(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """MAIL."""
        return self._settled(self.inner.mail(session, envelope), session)

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """RCPT."""
        return self._settled(self.inner.rcpt(session, envelope, recipient), session)

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is complete."""
        verdict = self._settled(self.inner.data(session, envelope, message), session)
        if isinstance(verdict, Verdict):
            return self._ordered(verdict, session, envelope)
        return self._data_later(verdict, session, envelope)

    async def _data_later(self, verdict: Awaitable[Verdict], session: Session, envelope: Envelope) -> Verdict:
        return self._ordered(await verdict, session, envelope)

    def _ordered(self, verdict: Verdict, session: Session, envelope: Envelope) -> Verdict:
        if verdict.reply is not None and not verdict.reply.is_positive:
            return verdict
        route = self._filtered.get(session.listener)
        if route is not None:
            added = verdict.orders.added if verdict.orders is not None else ()
            for one in (*envelope.everyone, *added):
                one.route = route
        pending = self._pending.get(session.id)
        if pending is None:
            return verdict
        orders = pending.ordered(verdict.orders or Orders(), envelope)
        return verdict if orders == Orders() else replace(verdict, orders=orders)

    def aborted(self, session: Session) -> None:
        """The transaction is over."""
        super().aborted(session)
        self._pending.pop(session.id, None)

    def ended(self, session: Session) -> None:
        """The session is over."""
        super().ended(session)
        self._pending.pop(session.id, None)
