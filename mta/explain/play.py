"""The stages of a session that there is not, one after the other, and what the policy said at each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from mta.address import Address
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.explain.unasked import shown
from mta.ordering import ordered_envelope
from mta.policy.verdict import Orders, Policy, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext import Event
from sieve_ext.message import Message

BRANCHES = ("if", "elsif", "else")
"""Commands that say nothing beside their tests."""

Finding = Callable[[Sequence[Recipient]], Awaitable[None]]

Ask = Callable[[], Verdict | Awaitable[Verdict]]
"""Asks the policy at one stage."""


@dataclass(slots=True)
class Step:
    """One stage."""

    stage: str
    about: str
    """What it was asked about: a name, an address."""
    lines: list[tuple[str, str]] = field(default_factory=list)
    """Place and what the scripts did there."""
    reply: str = ""
    """The refusal, "" when the stage was passed."""
    cause: str = ""
    """The place that it comes from."""
    orders: list[str] = field(default_factory=list)
    """What is to be done with the message."""


@dataclass(slots=True, frozen=True)
class Route:
    """Where a recipient would go."""

    recipient: str
    where: str
    """The next hop, or what is answered for this recipient."""
    cause: str = ""
    """The place that a refusal comes from."""
    refused: bool = False
    """It is refused for good."""


@dataclass(slots=True)
class Explanation:
    """All of it."""

    programs: list[str] = field(default_factory=list)
    """What takes part without being asked here, in words."""
    steps: list[Step] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    is_open: bool = False
    """No message was given, so what is said of one may change the routes."""

    @property
    def refused(self) -> bool:
        """True when the message would not be accepted for anybody."""
        if self.routes:
            return all(route.refused for route in self.routes)
        return any(step.reply for step in self.steps)

    def tell(self, session: Session, stage: str, file: str, event: Event) -> None:
        """Take what a script does (`mta.policy.sieve.policy.Trace`)."""
        if self.steps and event.word not in BRANCHES:
            place = f"{file}:{event.position.line}"
            if self.steps[-1].stage != stage:  # within another stage, as recipients that data adds
                place = f"{place} ({stage})"
            self.steps[-1].lines.append((place, shown(event)))


NOTHING = Orders()


class Play:
    """Goes through the stages."""

    def __init__(
        self, policy: Policy, session: Session, explanation: Explanation, find: Finding | None = None
    ) -> None:
        """`policy` is one whose scripts tell `explanation` what they do.

        `find` learns what has to be known before recipients are routed, None where nothing has to.
        """
        self._find = find
        self._policy = policy
        self._session = session
        self._explanation = explanation

    async def run(
        self, helo: str, user: str, sender: Address | None, recipients: list[Address], message: Message | None
    ) -> None:
        """As far as what is given reaches, or the policy lets it."""
        session, policy = self._session, self._policy
        if not await self._stage("connect", session.client_address, lambda: policy.connect(session)):
            return
        session.helo, session.esmtp = helo, True
        if not await self._stage("helo", helo, lambda: policy.helo(session)):
            return
        if user:
            session.user = user
            if not await self._stage("auth", user, lambda: policy.auth(session)):
                return
        if sender is None:
            return
        envelope = Envelope(sender, smtputf8=any(one.is_utf8 for one in (sender, *recipients)))
        session.transactions = 1
        if session.authentication is not None:
            session.authentication.begin(envelope)
        if not await self._stage("mail", f"<{sender}>", lambda: policy.mail(session, envelope)):
            return
        for address in recipients:
            await self._recipient(envelope, Recipient(address))
        if not envelope.recipients:
            return
        if message is None:
            self._explanation.is_open = True
            await self._route(ordered_envelope(envelope, NOTHING))
        else:
            await self._message(envelope, message)

    async def _recipient(self, envelope: Envelope, recipient: Recipient) -> None:
        named = f"<{recipient.address}>"
        if await self._stage("rcpt", named, lambda: self._policy.rcpt(self._session, envelope, recipient)):
            envelope.recipients.append(recipient)
            now = f"<{recipient.address}>"
            if recipient.members:
                self._explanation.steps[-1].orders += [
                    f"<{one.address}> gets it" for one in recipient.members
                ]
            elif now != named:
                self._explanation.steps[-1].orders.append(f"the recipient is {now} now")

    async def _message(self, envelope: Envelope, message: Message) -> None:
        session, policy = self._session, self._policy
        if session.authentication is not None and session.authentication.transaction is not None:
            session.authentication.transaction.message = message
        size = f"{message.original_size} octets"
        verdict = await self._ask("data", size, lambda: policy.data(session, envelope, message))
        if verdict.reply is not None:
            return
        if verdict.orders is not None:
            self._explanation.steps[-1].orders += shown_orders(envelope, message, verdict.orders)
        orders = verdict.orders or NOTHING
        await self._leave(ordered_envelope(envelope, orders), orders.message or message)

    async def _leave(self, envelope: Envelope, message: Message) -> None:
        if not envelope.recipients:
            return
        session, policy = self._session, self._policy
        leaving = await self._ask("route and sign", "", lambda: policy.depart(session, envelope, message))
        self._explanation.steps[-1].orders += [
            f"<{one.address}> is refused" for one in envelope.recipients if one.refusal is not None
        ]
        if leaving.reply is None:
            if leaving.orders is not None:
                self._explanation.steps[-1].orders += [str(one) for one in leaving.orders.signing]
            await self._route(envelope)

    async def _route(self, envelope: Envelope) -> None:
        if self._find is not None:
            await self._find(envelope.recipients)
        for recipient in envelope.recipients:
            hop = self._policy.route(self._session, envelope, recipient)
            self._explanation.routes.append(_shown_route(recipient, hop))

    async def _stage(self, stage: str, about: str, ask: Ask) -> bool:
        return (await self._ask(stage, about, ask)).reply is None

    async def _ask(self, stage: str, about: str, ask: Ask) -> Verdict:
        step = Step(stage, about)
        self._explanation.steps.append(step)
        asked = ask()
        verdict = asked if isinstance(asked, Verdict) else await asked
        if verdict.delay:
            step.orders.append(f"the answer comes {verdict.delay:g} s later")
        if verdict.reply is not None:
            step.reply = str(replace(verdict.reply, cause=""))
            step.cause = verdict.reply.cause
        return verdict


def _shown_route(recipient: Recipient, hop: NextHop | Reply) -> Route:
    if isinstance(hop, Reply):
        return Route(str(recipient.address), str(replace(hop, cause="")), hop.cause, hop.is_permanent)
    where = "/".join(filter(None, (hop.transport, hop.host)))
    if recipient.sender is not None:
        where += f" from <{recipient.sender}>"
    return Route(str(recipient.address), where)


def shown_orders(envelope: Envelope, message: Message, orders: Orders) -> list[str]:
    """Orders in words."""
    found = []
    if orders.discarded:
        found.append(f"discarded: {orders.discarded}")
    if orders.held:
        found.append(f"held in the queue: {orders.held}")
    if orders.sender is not None:
        found.append(f"the sender is <{orders.sender}> now")
    found += [f"<{recipient.address}> is added" for recipient in orders.added]
    found += [
        f"<{envelope.recipients[position].address}> is removed: {cause}"
        for position, cause in (orders.removed or {}).items()
    ]
    found += [f"a report goes to <{archive}>" for archive in orders.journal]
    if orders.priority is not None:
        found.append(f"priority {orders.priority}")
    if orders.lifetime:
        found.append(f"given up after {orders.lifetime:g} s")
    if orders.postponed:
        found.append(f"tried after {orders.postponed:g} s")
    if orders.tags:
        found.append(f"tagged {', '.join(orders.tags)}")
    if orders.message is not None:
        found += header_changes(message.render_header(), orders.message.render_header())
    return found


def header_changes(before: bytes, after: bytes) -> list[str]:
    """Lines of the header that an edit has added and taken away, those away first."""
    old, new = (octets.decode("utf-8", "replace").splitlines() for octets in (before, after))
    gone, came = list(old), list(new)
    for line in new:
        if line in gone:
            gone.remove(line)
    for line in old:
        if line in came:
            came.remove(line)
    return [f"header - {line}" for line in gone] + [f"header + {line}" for line in came]
