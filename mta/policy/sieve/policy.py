"""`SievePolicy`: the scripts of a program are asked at each stage, and then the policy behind them.

A script can refuse, change and route; what the policy behind refuses stays refused, also for recipients that
a script has rewritten or added. A stage that no script has is the policy's behind alone. The site's scripts
stand before the base policy, that before the ground.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from mta.address import Address
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, OriginalRecipient, Recipient
from mta.policy.ground import Ground
from mta.policy.sieve.asking import Services, finish, finish_aside
from mta.policy.sieve.decision import PASSED, Decision, decide
from mta.policy.sieve.departure import depart
from mta.policy.sieve.facts import Facts, Surroundings
from mta.policy.sieve.orders import NO_ORDERS, merged
from mta.policy.sieve.program import Outcome, Program
from mta.policy.verdict import SCRIPT_FAILED, Orders, Policy, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext import Envelope as ScriptEnvelope
from sieve_ext.message import Message

LARGE = 256 * 1024
"""Octets from which scripts that read the body run in a thread of their own."""
NO_REPORTS = frozenset(("NEVER",))
"""NOTIFY of added recipients: the sender does not know of them."""

Complain = Callable[[str, str, str], None]
"""Told what scripts have to say: what it is (`SCRIPT_FAILED`, "note"...), the session, the text."""


@dataclass(slots=True, frozen=True)
class Site:
    """What the policy knows of the server."""

    hostname: str
    is_trusted: Callable[[str], bool]
    """Tells whether a client address may relay without logging in."""
    ground: Ground | None = None
    """What the configuration says of domains and clients."""


class SievePolicy:
    """`mta.policy.verdict.Policy` with scripts."""

    def __init__(
        self, program: Program, inner: Policy, site: Site, complain: Complain, services: Services
    ) -> None:
        """`inner` decides about what the scripts let pass; `services` answer what scripts ask."""
        self._program = program
        self.inner = inner
        """The policy behind."""
        self._site = site
        self._complain = complain
        self._services = services

    def connect(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A client has connected."""
        if not self._program.has("connect"):
            return self.inner.connect(session)
        return _when(
            self._ask("connect", session),
            lambda decision: _refusal(decision) or _then(decision, self.inner.connect(session)),
        )

    def helo(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """EHLO, HELO or LHLO."""
        if not self._program.has("helo"):
            return self.inner.helo(session)
        return _when(
            self._ask("helo", session),
            lambda decision: _refusal(decision) or _then(decision, self.inner.helo(session)),
        )

    def auth(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A user has proved who it is."""
        if not self._program.has("auth"):
            return self.inner.auth(session)
        return _when(
            self._ask("auth", session),
            lambda decision: _refusal(decision) or _then(decision, self.inner.auth(session)),
        )

    def mail(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """MAIL; the policy behind judges the sender that the client gave, then a script may change it."""
        if not self._program.has("mail"):
            return self.inner.mail(session, envelope)

        def conclude(decision: Decision) -> Verdict | Awaitable[Verdict]:
            refusal = _refusal(decision)
            if refusal is not None:
                return refusal
            sender = decision.sender

            def passed() -> None:
                if sender is not None and not envelope.sender.is_null:
                    envelope.sender = sender

            return _then(decision, self.inner.mail(session, envelope), passed)

        return _when(self._ask("mail", session, envelope), conclude)

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """RCPT; the policy behind judges the recipient as rewritten."""
        if not self._program.has("rcpt"):
            return self.inner.rcpt(session, envelope, recipient)

        def conclude(decision: Decision) -> Verdict | Awaitable[Verdict]:
            refusal = _refusal(decision)
            if refusal is not None:
                return refusal
            if decision.rewritten is not None:
                if recipient.original is None:  # what reports are to name (RFC 3461 section 5.2.1)
                    recipient.original = OriginalRecipient("rfc822", recipient.address.text)
                recipient.address = decision.rewritten
            recipient.route = decision.route or recipient.route
            return _then(decision, self.inner.rcpt(session, envelope, recipient))

        return _when(self._ask("rcpt", session, envelope, recipient), conclude)

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is complete."""
        if not self._program.has("data"):
            if _repeated(envelope) is None:
                return self.inner.data(session, envelope, message)
            return self._conclude(PASSED, session, envelope, message)
        return _when(
            self._ask("data", session, envelope, message=message),
            lambda decision: self._conclude(decision, session, envelope, message),
        )

    def depart(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is about to leave: stages route and sign, then the policy behind."""
        has_route, has_sign = self._program.has("route"), self._program.has("sign")
        if not has_route and not has_sign:
            return self.inner.depart(session, envelope, message)
        found = depart(
            envelope,
            (lambda recipient: self._ask("route", session, envelope, recipient, message))
            if has_route
            else None,
            (lambda: self._ask("sign", session, envelope, message=message)) if has_sign else None,
        )
        if isinstance(found, Verdict):
            return self._departed(found, session, envelope, message)
        return self._depart_later(found, session, envelope, message)

    async def _depart_later(
        self, found: Awaitable[Verdict], session: Session, envelope: Envelope, message: Message
    ) -> Verdict:
        verdict = self._departed(await found, session, envelope, message)
        return verdict if isinstance(verdict, Verdict) else await verdict

    def _departed(
        self, verdict: Verdict, session: Session, envelope: Envelope, message: Message
    ) -> Verdict | Awaitable[Verdict]:
        if verdict.reply is not None or verdict.orders is not None:
            return verdict
        return self.inner.depart(session, envelope, message)

    def route(self, session: Session, envelope: Envelope, recipient: Recipient) -> NextHop | Reply:
        """Where a script has said, else where the policy behind says."""
        if recipient.refusal is not None:
            return recipient.refusal
        if recipient.route:
            return NextHop(recipient.route)
        return self.inner.route(session, envelope, recipient)

    # --- running -------------------------------------------------------------------------------------

    def _ask(
        self,
        stage: str,
        session: Session,
        envelope: Envelope | None = None,
        recipient: Recipient | None = None,
        message: Message | None = None,
    ) -> Decision | Awaitable[Decision]:
        facts = Facts(
            stage,
            session,
            self._site.hostname,
            self._site.is_trusted,
            envelope,
            recipient,
            message,
            self._site.ground,
        )
        seen = script_envelope(session, envelope, recipient)
        aside = message is not None and self._program.reads_body and message.original_size > LARGE
        running = self._program.run(stage, Surroundings(facts), seen, message, aside=aside)
        outcome = (finish_aside if aside else finish)(running, self._services, facts)
        if isinstance(outcome, Outcome):
            return self._heard(session, outcome)
        return self._heard_later(session, outcome)

    async def _heard_later(self, session: Session, outcome: Awaitable[Outcome]) -> Decision:
        return self._heard(session, await outcome)

    def _heard(self, session: Session, outcome: Outcome) -> Decision:
        if outcome.fault:
            self._complain(SCRIPT_FAILED, session.id, outcome.fault)
        for note in outcome.notes:
            self._complain("note", session.id, note)
        return decide(outcome)

    # --- the end of the data -------------------------------------------------------------------------

    def _conclude(
        self, decision: Decision, session: Session, envelope: Envelope, message: Message
    ) -> Verdict | Awaitable[Verdict]:
        refusal = _refusal(decision)
        if refusal is not None:
            return refusal
        edited = message if decision.message is None else decision.message
        verdict = self.inner.data(session, envelope, edited)
        if isinstance(verdict, Verdict) and not decision.added:
            if verdict.reply is not None or (decision is PASSED and _repeated(envelope) is None):
                return verdict
            return self._ordered(verdict, decision, envelope, ())
        return self._conclude_later(verdict, decision, session, envelope)

    async def _conclude_later(
        self,
        verdict: Verdict | Awaitable[Verdict],
        decision: Decision,
        session: Session,
        envelope: Envelope,
    ) -> Verdict:
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        if verdict.reply is not None:
            return verdict
        added = await self._added(decision, session, envelope)
        return self._ordered(verdict, decision, envelope, added)

    async def _added(self, decision: Decision, session: Session, envelope: Envelope) -> tuple[Recipient, ...]:
        """The recipients to be added that the policy behind does not refuse for good."""
        known = {recipient.address.key for recipient in envelope.recipients}
        added: list[Recipient] = []
        for place, address in decision.added:
            recipient = Recipient(address, NO_REPORTS)
            verdict = self.inner.rcpt(session, envelope, recipient)
            if not isinstance(verdict, Verdict):
                verdict = await verdict
            if verdict.reply is not None and verdict.reply.is_permanent:
                text = f"{place}: {address} is not added: {verdict.reply}"
                self._complain("recipient not added", session.id, text)
            elif recipient.address.key not in known:
                known.add(recipient.address.key)
                added.append(recipient)
        return tuple(added)

    def _ordered(
        self, verdict: Verdict, decision: Decision, envelope: Envelope, added: tuple[Recipient, ...]
    ) -> Verdict:
        if decision.route:
            for recipient in (*envelope.recipients, *added):
                recipient.route = decision.route
        orders = Orders(
            decision.message,
            decision.discarded,
            decision.held,
            None if envelope.sender.is_null else decision.sender,
            added,
            _positions(envelope, decision.removed),
            _repeated(envelope),
            decision.priority,
            decision.lifetime,
            decision.tags,
        )
        if orders == NO_ORDERS:
            return verdict
        return replace(verdict, orders=orders if verdict.orders is None else merged(orders, verdict.orders))


def _positions(envelope: Envelope, removed: list[tuple[str, Address]]) -> dict[int, str] | None:
    """Which recipients are removed, and by what; None when none is."""
    causes = {address.key: place for place, address in reversed(removed)}
    found = {
        position: causes[recipient.address.key]
        for position, recipient in enumerate(envelope.recipients)
        if recipient.address.key in causes
    }
    return found or None


def _repeated(envelope: Envelope) -> dict[int, int] | None:
    """Which recipients are the same as one before, None when none is: rewriting may have made them so."""
    recipients = envelope.recipients
    if len(recipients) < 2:
        return None
    first: dict[tuple[str, str], int] = {}
    found: dict[int, int] = {}
    for position, recipient in enumerate(recipients):
        known = first.setdefault((recipient.address.local, recipient.address.domain), position)
        if known != position:
            found[position] = known
    return found or None


def _refusal(decision: Decision) -> Verdict | None:
    return None if decision.reply is None else Verdict(decision.reply, decision.delay)


def _when(
    asked: Decision | Awaitable[Decision], conclude: Callable[[Decision], Verdict | Awaitable[Verdict]]
) -> Verdict | Awaitable[Verdict]:
    """`conclude` of what the scripts decided, as soon as that is known."""
    return conclude(asked) if isinstance(asked, Decision) else _when_later(asked, conclude)


async def _when_later(
    asked: Awaitable[Decision], conclude: Callable[[Decision], Verdict | Awaitable[Verdict]]
) -> Verdict:
    verdict = conclude(await asked)
    return verdict if isinstance(verdict, Verdict) else await verdict


def _then(
    decision: Decision,
    verdict: Verdict | Awaitable[Verdict],
    passed: Callable[[], None] = lambda: None,
) -> Verdict | Awaitable[Verdict]:
    """What the policy behind says, as late as the scripts want it; `passed` is called if it agrees."""
    if not isinstance(verdict, Verdict):
        return _then_later(decision, verdict, passed)
    if verdict.reply is None:
        passed()
    if not decision.delay:
        return verdict
    return replace(verdict, delay=max(verdict.delay, decision.delay))


async def _then_later(decision: Decision, awaited: Awaitable[Verdict], passed: Callable[[], None]) -> Verdict:
    verdict = _then(decision, await awaited, passed)
    assert isinstance(verdict, Verdict)
    return verdict


def script_envelope(
    session: Session, envelope: Envelope | None, recipient: Recipient | None
) -> ScriptEnvelope:
    """The envelope that a script sees: in stage rcpt with the recipient alone, at the end with all."""
    if envelope is None:
        return ScriptEnvelope(None, user=session.user)
    recipients = envelope.recipients if recipient is None else [recipient]
    if not recipients:
        return ScriptEnvelope(envelope.sender.text, user=session.user)
    addresses = tuple([one.address.text for one in recipients])
    originals = addresses
    if any(one.original is not None for one in recipients):
        originals = tuple(
            [one.address.text if one.original is None else one.original.address for one in recipients]
        )
    return ScriptEnvelope(
        envelope.sender.text,
        addresses[0],
        user=session.user,
        extra={"to": addresses, "orig_to": originals},
    )
