"""`TracedPolicy`: some sessions go through scripts that tell the log what they do (`policy.trace`).

Two policies of the same files: the usual one, which pays nothing, and one whose scripts are compiled with the
calls in place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence

from mta import log
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.net.limits import Networks
from mta.policy.verdict import Advice, Indifferent, Policy, Tried, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext import Event
from sieve_ext.message import Message


class TracedPolicy(Indifferent):
    """`mta.policy.verdict.Policy` of two."""

    def __init__(self, usual: Policy, traced: Policy, wants: Callable[[Session], bool]) -> None:
        """`wants` tells which sessions are traced; it may change its mind when a user logs in."""
        self._usual = usual
        self._traced = traced
        self._wants = wants

    def _of(self, session: Session) -> Policy:
        return self._traced if self._wants(session) else self._usual

    def connect(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A client has connected."""
        return self._of(session).connect(session)

    def helo(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """EHLO, HELO or LHLO."""
        return self._of(session).helo(session)

    def auth(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A user has proved who it is."""
        return self._of(session).auth(session)

    def mail(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """MAIL."""
        return self._of(session).mail(session, envelope)

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """RCPT."""
        return self._of(session).rcpt(session, envelope, recipient)

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is complete."""
        return self._of(session).data(session, envelope, message)

    def depart(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is about to leave."""
        return self._of(session).depart(session, envelope, message)

    def retry(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> Advice | Awaitable[Advice]:
        """A try has failed for now."""
        return self._of(session).retry(session, envelope, recipient, tried)

    def bounce(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> bool | Awaitable[bool]:
        """A report is due."""
        return self._of(session).bounce(session, envelope, recipient, tried)

    def route(self, session: Session, envelope: Envelope, recipient: Recipient) -> NextHop | Reply:
        """Where an accepted recipient's copy goes."""
        return self._of(session).route(session, envelope, recipient)


def chosen(entries: Sequence[str]) -> Callable[[Session], bool]:
    """Which sessions policy.trace names: clients of its networks, and its users."""
    networks = [entry for entry in entries if is_network(entry)]
    users = frozenset(entries) - frozenset(networks)
    clients = Networks(networks)

    def wants(session: Session) -> bool:
        return session.user in users or clients.contain_text(session.client_address)

    return wants


def is_network(entry: str) -> bool:
    """True for an address or a prefix, False for the name of a user."""
    try:
        ipaddress.ip_network(entry)
    except ValueError:
        return False
    return True


def tell_log(session: Session, stage: str, file: str, event: Event) -> None:
    """One line of the log for each thing that happens."""
    log.get("policy").info(
        "trace",
        session=session.id,
        stage=stage,
        place=f"{file}:{event.position.line}",
        what=describe(event),
    )


def describe(event: Event) -> str:
    """What happened, in one line for people."""
    if event.kind != "test":
        return f"{event.kind} {event.word}"
    result = "yes" if event.result else "no"
    if not event.keys:
        return f"test {event.word}: {result}"
    return f"test {event.word} {list(event.values)} against {list(event.keys)}: {result}"
