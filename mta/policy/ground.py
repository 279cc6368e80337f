"""The ground that all policy stands on: what the configuration says, whatever the scripts say.

* Where mail goes: our domains to their back ends, all other mail to the relay, or to their own servers.
* A client that is neither logged in nor in a trusted network reaches our domains only, and where our own
  aliases lead: no script makes an open relay, and none can forget to refuse it.
* What is submitted names its domains in full (RFC 6409 section 4.2): what stands alone means something to its
  writer only.
* AUTH= of MAIL is believed of our own users about themselves alone (RFC 4954 section 5).

Everything else is said by the base policy (`conf/policy.sieve`) and by the scripts in front of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from mta.address import Address, AddressError, domain_key, parse_address, split_subaddress
from mta.delivery.outcome import NextHop
from mta.director.director import Director
from mta.envelope import Envelope, Recipient
from mta.policy.recipients import NO_SUCH_USER, AskBackend, Existence, RecipientSource
from mta.policy.verdict import CONTINUE, NO_ADVICE, Advice, Indifferent, Tried, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message

RELAYING_DENIED = Verdict(Reply(550, "5.7.1", "relaying denied"))
SENDER_NOT_QUALIFIED = Verdict(Reply(553, "5.1.8", "the sender's domain must be fully qualified"))
RECIPIENT_NOT_QUALIFIED = Verdict(Reply(550, "5.1.2", "the recipient's domain must be fully qualified"))
NO_ROUTE = Reply(550, "5.4.4", "this server has no route to other domains")
UNKNOWN_SUBMITTER = "<>"
"""AUTH= of a message whose submitter we do not know (RFC 4954 section 5)."""


@dataclass(slots=True, frozen=True)
class DomainRule:
    """One of our domains."""

    next_hop: NextHop
    recipients: RecipientSource
    subaddress_delimiters: str = "+"
    catch_all: Address | None = None
    director: Director | None = None
    """Chooses the next hop for each user in place of `next_hop`."""

    def hop(self, address: Address) -> NextHop | Reply:
        """Where mail for an address of the domain goes."""
        if self.director is None:
            return self.next_hop
        return self.director.hop(self.base(address).key)

    def base(self, address: Address) -> Address:
        """The address without its detail."""
        return without_detail(address, self.subaddress_delimiters)


def without_detail(address: Address, delimiters: str) -> Address:
    """An address without what follows one of the delimiters."""
    if delimiters:
        user, detail = split_subaddress(address.local, delimiters)
        if detail is not None:
            return address.with_local(user)
    return address


@dataclass(slots=True, frozen=True)
class PolicySettings:
    """What the configuration says of domains and clients."""

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


class Ground(Indifferent):
    """`mta.policy.verdict.Policy` under the scripts."""

    def __init__(self, settings: PolicySettings) -> None:
        """With what the configuration says."""
        self.settings = settings

    def connect(self, session: Session) -> Verdict:
        """Nothing to say."""
        return CONTINUE

    def helo(self, session: Session) -> Verdict:
        """Nothing to say."""
        return CONTINUE

    def auth(self, session: Session) -> Verdict:
        """Nothing to say."""
        return CONTINUE

    def mail(self, session: Session, envelope: Envelope) -> Verdict:
        """May change `envelope.auth`."""
        if envelope.auth is not None and not _is_submitter(session, envelope.auth):
            envelope.auth = UNKNOWN_SUBMITTER
        return CONTINUE if self._is_qualified(session, envelope.sender) else SENDER_NOT_QUALIFIED

    def rcpt(self, session: Session, envelope: Envelope, recipient: Recipient) -> Verdict:
        """Strangers reach our domains only."""
        if not self._is_qualified(session, recipient.address):
            return RECIPIENT_NOT_QUALIFIED
        if recipient.address.domain in self.settings.domains or recipient.by_site or self.may_relay(session):
            return CONTINUE
        return RELAYING_DENIED

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict:
        """Nothing to say."""
        return CONTINUE

    def depart(self, session: Session, envelope: Envelope, message: Message) -> Verdict:
        """Nothing to say."""
        return CONTINUE

    def retry(self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried) -> Advice:
        """Nothing to say."""
        return NO_ADVICE

    def bounce(self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried) -> bool:
        """The rules of RFC 3461 are kept elsewhere."""
        return True

    def route(self, session: Session, envelope: Envelope, recipient: Recipient) -> NextHop | Reply:
        """Our domains to their back ends, all others to the relay, or else to their own servers."""
        settings = self.settings
        rule = settings.domains.get(recipient.address.domain)
        if rule is not None:
            return rule.hop(recipient.address)
        if settings.relay is not None:
            return settings.relay
        return NextHop("mx", recipient.address.domain) if settings.world else NO_ROUTE

    # --- what scripts ask ----------------------------------------------------------------------------

    def _is_qualified(self, session: Session, address: Address) -> bool:
        """False for a domain of one label, such as "mailhost", in what a user submits; ours may be such."""
        domain = address.domain
        if session.protocol != "submission" or "." in domain or not domain or domain[0] == "[":
            return True
        return domain in self.settings.domains

    def is_local(self, session: Session, address: Address) -> bool:
        """One of our domains, or what every server has: `postmaster` without a domain or at its address."""
        settings = self.settings
        return address.domain in settings.domains or (
            address.local.lower() in settings.always_accept
            and (not address.domain or address.domain == _literal(session.server_address))
        )

    def may_relay(self, session: Session) -> bool:
        """The client may send to any domain: it has logged in, or is in a trusted network."""
        return bool(session.user) or self.settings.is_trusted(session.client_address)

    def has_route(self, address: Address) -> bool:
        """There is a way to the domain of `address`."""
        settings = self.settings
        return settings.relay is not None or settings.world or address.domain in settings.domains

    def delimiters(self, domain: str) -> str | None:
        """What begins a detail in a domain of ours, as it is written; None for other domains."""
        try:
            rule = self.settings.domains.get(domain_key(domain)) if domain else None
        except AddressError:
            return None
        return None if rule is None else rule.subaddress_delimiters

    def needs_login(self, session: Session) -> bool:
        """The listener of the session takes mail from users only."""
        return session.listener in self.settings.auth_required

    def find(self, address: Address) -> Existence | Awaitable[Existence]:
        """None when a local `address` exists, without its subaddress; else the refusal."""
        rule = self.settings.domains.get(address.domain)
        if rule is None:
            return NO_SUCH_USER
        return rule.recipients.find(rule.base(address))

    def can_wait(self, session: Session, address: Address, refusal: Reply) -> bool:
        """Mail for a local `address` may be taken although its mail store cannot say now whether it exists.

        From users and trusted networks, who can be told later: `sendmail` and mail programs do not come back
        after a refusal for now, as servers do. Not when the mailbox is full: that is better known at once.
        """
        rule = self.settings.domains.get(address.domain)
        return (
            rule is not None
            and isinstance(rule.recipients, AskBackend)
            and refusal.is_temporary
            and not refusal.enhanced.startswith("4.2.")
            and self.may_relay(session)
        )

    def stand_in(self, address: Address) -> Address | None:
        """Who gets the mail of a local `address` that does not exist: postmaster for those names that must be
        there (RFC 5321 section 4.5.1), else the domain's catch-all; None when nobody does."""
        if address.local.lower() in self.settings.always_accept:
            return self.settings.postmaster
        rule = self.settings.domains.get(address.domain)
        return None if rule is None else rule.catch_all


def _is_submitter(session: Session, mailbox: str) -> bool:
    """True when AUTH= of MAIL names the session's own user (RFC 4954 section 5)."""
    if not session.user or mailbox == UNKNOWN_SUBMITTER:
        return False
    key = parse_address(mailbox).key
    return key == session.user or key in session.addresses


def _literal(address: str) -> str:
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
