"""`Forwarding`: the part of a policy around another one that says nothing of its own."""

from __future__ import annotations

from collections.abc import Awaitable

from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.policy.verdict import Advice, Policy, Tried, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message


class Forwarding:
    """`mta.policy.verdict.Policy` that asks `inner` everywhere; who stands around it overrides the rest."""

    def __init__(self, inner: Policy) -> None:
        """Around `inner`."""
        self.inner = inner
        """The policy behind."""

    def behind(self, session: Session) -> Policy:
        """Who is asked about a session."""
        return self.inner

    @property
    def hears_unknown(self) -> bool:
        """As the policy behind."""
        return self.inner.hears_unknown

    def connect(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A client has connected."""
        return self.behind(session).connect(session)

    def helo(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """EHLO, HELO or LHLO."""
        return self.behind(session).helo(session)

    def auth(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A user has proved who it is."""
        return self.behind(session).auth(session)

    def mail(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """MAIL."""
        return self.behind(session).mail(session, envelope)

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """RCPT."""
        return self.behind(session).rcpt(session, envelope, recipient)

    def begin(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """DATA or the first BDAT."""
        return self.behind(session).begin(session, envelope)

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is complete."""
        return self.behind(session).data(session, envelope, message)

    def depart(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is about to leave."""
        return self.behind(session).depart(session, envelope, message)

    def retry(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> Advice | Awaitable[Advice]:
        """A try has failed for now."""
        return self.behind(session).retry(session, envelope, recipient, tried)

    def bounce(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> bool | Awaitable[bool]:
        """A report to the sender is due."""
        return self.behind(session).bounce(session, envelope, recipient, tried)

    def route(self, session: Session, envelope: Envelope, recipient: Recipient) -> NextHop | Reply:
        """Where an accepted recipient's copy goes."""
        return self.behind(session).route(session, envelope, recipient)

    def unknown(self, session: Session, line: bytes) -> Verdict | Awaitable[Verdict]:
        """A line that is no command."""
        return self.behind(session).unknown(session, line)

    def aborted(self, session: Session) -> None:
        """The transaction is over."""
        self.behind(session).aborted(session)

    def ended(self, session: Session) -> None:
        """The session is over."""
        self.behind(session).ended(session)
