"""`MilterPolicy`: a policy with milters behind it.

At each stage the policy decides first, as Postfix's restrictions do; what it lets pass is told to the milters
of the session, which may refuse it, and change the message at its end. Sessions without milters cost one look
into a dictionary.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from mta.address import Address
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.policy.forwarding import Forwarding
from mta.policy.milter.joined import Joined
from mta.policy.milter.milters import Milters
from mta.policy.verdict import Orders, Policy, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message

Ask = Callable[[Joined], Awaitable[Reply | None]]


class MilterPolicy(Forwarding):
    """`mta.policy.verdict.Policy` with milters."""

    hears_unknown = True

    def __init__(
        self, policy: Policy, milters: Milters, missing: Callable[[Session, Message], bytes]
    ) -> None:
        """`missing` gives the header fields that are to be added to a message of a session."""
        super().__init__(policy)
        self._milters = milters
        self._missing = missing

    def connect(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A client has connected."""
        self._milters.open(session)
        return self._after(self.inner.connect(session), session, Joined.connect)

    def helo(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """EHLO, HELO or LHLO."""
        return self._after(self.inner.helo(session), session, Joined.helo)

    def mail(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """MAIL."""
        sender = envelope.sender
        return self._after(
            self.inner.mail(session, envelope), session, lambda joined: joined.mail(envelope, sender)
        )

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """RCPT."""
        address = recipient.address
        verdict = self.inner.rcpt(session, envelope, recipient)
        if isinstance(verdict, Verdict) and self._milters.of(session) is None:
            return verdict
        return self._rcpt(verdict, session, envelope, recipient, address)

    def begin(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """DATA or the first BDAT."""
        return self._after(self.inner.begin(session, envelope), session, Joined.data)

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is complete."""
        verdict = self.inner.data(session, envelope, message)
        if isinstance(verdict, Verdict) and self._milters.of(session) is None:
            return verdict
        return self._data(verdict, session, envelope, message)

    def route(self, session: Session, envelope: Envelope, recipient: Recipient) -> NextHop | Reply:
        """Where the policy says, unless a milter refuses the recipient."""
        joined = self._milters.of(session)
        refusal = joined.refusal(recipient) if joined is not None else None
        return self.inner.route(session, envelope, recipient) if refusal is None else refusal

    def unknown(self, session: Session, line: bytes) -> Verdict | Awaitable[Verdict]:
        """A line that is no command."""
        return self._after(self.inner.unknown(session, line), session, lambda joined: joined.unknown(line))

    def aborted(self, session: Session) -> None:
        """The transaction is over."""
        super().aborted(session)
        joined = self._milters.of(session)
        if joined is not None:
            joined.abort()

    def ended(self, session: Session) -> None:
        """The session is over."""
        super().ended(session)
        self._milters.end(session)

    # --- asking --------------------------------------------------------------------------------------------

    def _after(
        self, verdict: Verdict | Awaitable[Verdict], session: Session, ask: Ask
    ) -> Verdict | Awaitable[Verdict]:
        """What the policy says, and if it lets pass, the milters."""
        if isinstance(verdict, Verdict) and (_refuses(verdict) or self._milters.of(session) is None):
            return verdict
        return self._after_later(verdict, session, ask)

    async def _after_later(
        self, verdict: Verdict | Awaitable[Verdict], session: Session, ask: Ask
    ) -> Verdict:
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        joined = self._milters.of(session)
        if joined is None or _refuses(verdict):
            return verdict
        reply = await ask(joined)
        return verdict if reply is None else Verdict(reply, verdict.delay)

    async def _rcpt(
        self,
        verdict: Verdict | Awaitable[Verdict],
        session: Session,
        envelope: Envelope,
        recipient: Recipient,
        address: Address,
    ) -> Verdict:
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        joined = self._milters.of(session)
        if joined is None:
            return verdict
        if verdict.reply is not None and _refuses(verdict):
            await joined.rejected(recipient, address, verdict.reply)
            return verdict
        hop = self.inner.route(session, envelope, recipient)
        reply = await joined.rcpt(recipient, address, hop.transport if isinstance(hop, NextHop) else "")
        return verdict if reply is None else Verdict(reply, verdict.delay)

    async def _data(
        self,
        verdict: Verdict | Awaitable[Verdict],
        session: Session,
        envelope: Envelope,
        message: Message,
    ) -> Verdict:
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        joined = self._milters.of(session)
        if joined is None or _refuses(verdict):
            return verdict
        for alias in envelope.recipients:  # it was told of the alias, so that it refuses all behind it
            if alias.members and (refusal := joined.refusal(alias)) is not None:
                alias.members, alias.refusal = [], refusal
        orders = verdict.orders or Orders()
        if orders.discarded:
            return verdict
        edited: Message | None = None
        names = joined.wait_for_content()
        if names and not joined.discarded:
            message = message if orders.message is None else orders.message
            left_out = {*(orders.removed or ()), *(orders.repeated or ())}
            standing = [
                one
                for position, one in enumerate(envelope.recipients)
                if position not in left_out and joined.refusal(one) is None
            ]
            reply, edited = await joined.content(
                message, [*standing, *orders.added], names, self._missing(session, message)
            )
            if reply is not None:
                return Verdict(reply, verdict.delay)
        orders = joined.ordered(orders, envelope, edited)
        return verdict if orders == Orders() else replace(verdict, orders=orders)


def _refuses(verdict: Verdict) -> bool:
    return verdict.reply is not None and not verdict.reply.is_positive
