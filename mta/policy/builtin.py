"""The built-in policy: what a careful postmaster runs on day one.

* Mail for our domains is accepted for recipients that exist; `postmaster` and `abuse` always exist.
* Mail for other domains is accepted only from users who logged in and from trusted networks, and only if
  there is a way for it, a relay or the domains' own servers: never an open relay.
* A user sends only as its own addresses. The null sender is always welcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from mta.address import Address, parse_address, split_subaddress
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.policy.recipients import Existence, RecipientSource
from mta.policy.verdict import CONTINUE, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message

AUTHENTICATION_REQUIRED = Verdict(Reply(530, "5.7.0", "authentication required"))
NOT_YOUR_ADDRESS = Verdict(Reply(553, "5.7.1", "sender address does not belong to you"))
RELAYING_DENIED = Verdict(Reply(550, "5.7.1", "relaying denied"))
NO_ROUTE = Verdict(Reply(550, "5.4.4", "this server has no route to other domains"))
NO_DOMAIN = Verdict(Reply(550, "5.1.2", "a recipient needs a domain"))
UNKNOWN_SUBMITTER = "<>"
"""AUTH= of a message whose submitter we do not know (RFC 4954 section 5)."""


@dataclass(slots=True, frozen=True)
class DomainRule:
    """One of our domains."""

    next_hop: NextHop
    recipients: RecipientSource
    subaddress_delimiters: str = "+"
    catch_all: Address | None = None


@dataclass(slots=True, frozen=True)
class PolicySettings:
    """What the built-in policy knows."""

    domains: Mapping[str, DomainRule]
    """By `Address.domain`."""
    postmaster: Address
    """Gets what is sent to `postmaster` without a domain, and to an always accepted local part that does
    not exist."""
    is_trusted: Callable[[str], bool] = lambda address: False
    """Tells whether a client address may relay without logging in."""
    relay: NextHop | None = None
    world: bool = False
    """Mail for other domains goes to their own servers if there is no `relay`."""
    always_accept: frozenset[str] = frozenset({"postmaster", "abuse"})
    """Local parts, lower case."""
    auth_required: frozenset[str] = frozenset()
    """Names of listeners where MAIL needs a login."""
    sender_login: bool = True


Owns = Callable[[Session, Address], bool | Awaitable[bool]]


class BuiltinPolicy:
    """`mta.policy.verdict.Policy` without a script."""

    def __init__(self, settings: PolicySettings, owns: Owns) -> None:
        """`owns` tells whether the session's user may send as an address."""
        self._settings = settings
        self._owns = owns

    def connect(self, session: Session) -> Verdict:
        """Everybody may connect."""
        return CONTINUE

    def helo(self, session: Session) -> Verdict:
        """Any name will do: too many honest clients have bad ones."""
        return CONTINUE

    def auth(self, session: Session) -> Verdict:
        """Who has proved who it is may log in."""
        return CONTINUE

    def mail(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """Login where it is needed, and the sender must be the user's; may change `envelope.auth`."""
        settings = self._settings
        if envelope.auth is not None and not _is_submitter(session, envelope.auth):
            envelope.auth = UNKNOWN_SUBMITTER
        if not session.user:
            return AUTHENTICATION_REQUIRED if session.listener in settings.auth_required else CONTINUE
        if not settings.sender_login:
            return CONTINUE
        owns = self._owns(session, envelope.sender)
        if isinstance(owns, bool):
            return CONTINUE if owns else NOT_YOUR_ADDRESS
        return self._await_owns(owns)

    async def _await_owns(self, owns: Awaitable[bool]) -> Verdict:
        return CONTINUE if await owns else NOT_YOUR_ADDRESS

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """Local recipients must exist, others need the right to relay; may change `recipient.address`."""
        settings = self._settings
        address = recipient.address
        rule = settings.domains.get(address.domain)
        if rule is None:
            if address.local.lower() in settings.always_accept and (
                not address.domain or address.domain == _literal(session.server_address)
            ):
                recipient.address = settings.postmaster
                return CONTINUE
            return self._relay(session, address)
        base = address
        if rule.subaddress_delimiters:
            user, detail = split_subaddress(address.local, rule.subaddress_delimiters)
            if detail is not None:
                base = address.with_local(user)
        found = rule.recipients.find(base)
        if found is None:
            return CONTINUE
        if isinstance(found, Reply):
            return self._missing(rule, recipient, found)
        return self._await_recipient(rule, recipient, found)

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict:
        """The content is not looked at."""
        return CONTINUE

    def depart(self, session: Session, envelope: Envelope, message: Message) -> Verdict:
        """Nothing to say."""
        return CONTINUE

    def route(self, session: Session, envelope: Envelope, recipient: Recipient) -> NextHop | Reply:
        """Our domains to their back ends, all others to the relay, or else to their own servers."""
        settings = self._settings
        rule = settings.domains.get(recipient.address.domain)
        if rule is not None:
            return rule.next_hop
        if settings.relay is not None:
            return settings.relay
        if settings.world:
            return NextHop("mx", recipient.address.domain)
        reply = NO_ROUTE.reply
        assert reply is not None
        return reply

    def _relay(self, session: Session, address: Address) -> Verdict:
        settings = self._settings
        if not session.user and not settings.is_trusted(session.client_address):
            return RELAYING_DENIED
        if not address.domain:
            return NO_DOMAIN
        return CONTINUE if settings.relay is not None or settings.world else NO_ROUTE

    async def _await_recipient(
        self, rule: DomainRule, recipient: Recipient, found: Awaitable[Existence]
    ) -> Verdict:
        refusal = await found
        return CONTINUE if refusal is None else self._missing(rule, recipient, refusal)

    def _missing(self, rule: DomainRule, recipient: Recipient, refusal: Reply) -> Verdict:
        if refusal.is_permanent and not _is_full(refusal):
            if recipient.address.local.lower() in self._settings.always_accept:
                recipient.address = self._settings.postmaster
                return CONTINUE
            if rule.catch_all is not None:
                recipient.address = rule.catch_all
                return CONTINUE
        return Verdict(refusal)


def _is_submitter(session: Session, mailbox: str) -> bool:
    """True when AUTH= of MAIL names the session's own user (RFC 4954 section 5)."""
    if not session.user or mailbox == UNKNOWN_SUBMITTER:
        return False
    key = parse_address(mailbox).key
    return key == session.user or key in session.addresses


def _is_full(reply: Reply) -> bool:
    """The recipient exists, its mailbox is the problem (RFC 3463 section 3.3)."""
    return reply.enhanced.startswith(("5.2.", "4.2."))


def _literal(address: str) -> str:
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
