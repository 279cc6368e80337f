"""What policy servers want done with messages, kept for as long as the stage that they were asked at holds.

What is wanted at connect holds for each message of the session, at HELO until the next HELO, at later stages
for the message: Postfix, which asks at RCPT about client and HELO too, comes to the same. `PendingPolicy`
stands before the scripts and carries out at the end of the data what was kept.

DEFER_IF_PERMIT of connect, HELO and MAIL is the answer to each recipient that would be accepted, that of RCPT
and of the end of the data to this recipient and this message; DEFER_IF_REJECT softens a refusal of the stage
at which it was asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace

from msgspec import structs

from mta.address import Address
from mta.delivery.outcome import FILTER
from mta.envelope import Envelope, Recipient, joint_notify
from mta.policy.forwarding import Forwarding
from mta.policy.verdict import Orders, Policy, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message

NO_REPORTS = frozenset(("NEVER",))


@dataclass(slots=True)
class Wishes:
    """What is wanted of messages."""

    defer_if_permit: Reply | None = None
    held: str = ""
    discarded: str = ""
    prepended: bytes = b""
    """Header fields, each with its CRLF."""
    redirected: Address | None = None
    copies: list[Address] = field(default_factory=list)
    route: str = ""


@dataclass(slots=True)
class Pending:
    """What is kept of one session."""

    at_connect: Wishes = field(default_factory=Wishes)
    at_helo: Wishes = field(default_factory=Wishes)
    of_message: Wishes = field(default_factory=Wishes)
    defer_if_permit: Reply | None = None
    """Of this command, where it is RCPT or the end of the data."""
    defer_if_reject: Reply | None = None
    """Of this command."""

    def wishes(self, stage: str) -> Wishes:
        """Where to put what is wanted at a stage."""
        return {"connect": self.at_connect, "helo": self.at_helo}.get(stage, self.of_message)

    @property
    def all(self) -> tuple[Wishes, Wishes, Wishes]:
        """All of them; what is wanted later comes later."""
        return self.at_connect, self.at_helo, self.of_message

    def settle(self, verdict: Verdict, stage: str) -> Verdict:
        """The end of a stage: what it is answered."""
        permit, reject = self.defer_if_permit, self.defer_if_reject
        self.defer_if_permit = self.defer_if_reject = None
        if stage == "rcpt":
            earlier = [one.defer_if_permit for one in self.all if one.defer_if_permit is not None]
            permit = earlier[0] if earlier else permit
        reply = verdict.reply
        if reply is None or reply.is_positive:
            return verdict if permit is None else Verdict(permit, verdict.delay)
        return (
            structs.replace(verdict, reply=reject) if reject is not None and reply.is_permanent else verdict
        )

    def ordered(self, orders: Orders, envelope: Envelope) -> Orders:
        """The orders for a message, with what is kept."""
        removed, added = orders.removed, list(orders.added)
        redirected = [one.redirected for one in self.all if one.redirected is not None]
        if redirected:
            removed = {at: "redirected by a policy server" for at, _ in enumerate(envelope.recipients)}
            added = [Recipient(redirected[-1], joint_notify(envelope.recipients))]
        known = {one.address.key for one in added}
        standing = [one for at, one in enumerate(envelope.recipients) if at not in (removed or {})]
        known |= {one.address.key for each in standing for one in each.behind}
        for wishes in self.all:
            for copy in wishes.copies:
                if copy.key not in known:
                    known.add(copy.key)
                    added.append(Recipient(copy, NO_REPORTS))
        routes = [one.route for one in self.all if one.route]
        route = (
            routes[-1]
            if routes
            else next((one.route for one in envelope.everyone if one.route.startswith(FILTER)), "")
        )
        if route:
            for one in (*envelope.everyone, *added):
                one.route = route
        fields: dict[bytes, None] = {}  # said once, however often it is asked for
        for wishes in self.all:
            fields |= dict.fromkeys(wishes.prepended.splitlines(keepends=True))
        return replace(
            orders,
            held=orders.held or next((one.held for one in self.all if one.held), ""),
            discarded=orders.discarded or next((one.discarded for one in self.all if one.discarded), ""),
            above=b"".join(fields) + orders.above,
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
        self, verdict: Verdict | Awaitable[Verdict], session: Session, stage: str
    ) -> Verdict | Awaitable[Verdict]:
        if isinstance(verdict, Verdict):
            pending = self._pending.get(session.id)
            return verdict if pending is None else pending.settle(verdict, stage)
        return self._settled_later(verdict, session, stage)

    async def _settled_later(self, verdict: Awaitable[Verdict], session: Session, stage: str) -> Verdict:
        found = await verdict
        pending = self._pending.get(session.id)
        return found if pending is None else pending.settle(found, stage)

    def connect(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A client has connected."""
        return self._settled(self.inner.connect(session), session, "connect")

    def helo(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """EHLO, HELO or LHLO."""
        pending = self._pending.get(session.id)
        if pending is not None:
            pending.at_helo = Wishes()
            pending.of_message = Wishes()
        return self._settled(self.inner.helo(session), session, "helo")

    def mail(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """MAIL."""
        self._forget_message(session)  # of a MAIL that was refused
        return self._settled(self.inner.mail(session, envelope), session, "mail")

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """RCPT."""
        return self._settled(self.inner.rcpt(session, envelope, recipient), session, "rcpt")

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is complete."""
        verdict = self._settled(self.inner.data(session, envelope, message), session, "data")
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
        return verdict if orders == Orders() else structs.replace(verdict, orders=orders)

    def aborted(self, session: Session) -> None:
        """The transaction is over."""
        super().aborted(session)
        self._forget_message(session)

    def ended(self, session: Session) -> None:
        """The session is over."""
        super().ended(session)
        self._pending.pop(session.id, None)

    def _forget_message(self, session: Session) -> None:
        pending = self._pending.get(session.id)
        if pending is not None:
            pending.of_message = Wishes()
            pending.defer_if_permit = pending.defer_if_reject = None
