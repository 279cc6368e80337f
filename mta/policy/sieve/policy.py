"""`SievePolicy`: the scripts of a program are asked at each stage, and then the policy behind them.

A script can refuse, change and route; what the policy behind refuses stays refused, also for recipients that
a script has rewritten or added. A stage that no script has is the policy's behind alone. The site's scripts
stand before the base policy, that before the ground.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from mta.delivery.outcome import NextHop
from mta.delivery.way import hop_of_route
from mta.envelope import Envelope, OriginalRecipient, Recipient
from mta.policy.ground import Ground
from mta.policy.sieve.adding import TOO_MANY, Find, added_recipients, keeping, with_copies
from mta.policy.sieve.asking import Services, answer, asked, finish, finish_aside
from mta.policy.sieve.decision import PASSED, Decision, decide
from mta.policy.sieve.departure import advice_of, depart
from mta.policy.sieve.expand import Expansion
from mta.policy.sieve.facts import Facts, Surroundings
from mta.policy.sieve.orders import NO_ORDERS, with_orders
from mta.policy.sieve.outcome import NOTHING, Outcome
from mta.policy.sieve.program import Program
from mta.policy.sieve.verdicts import positions, refused, repeated, then, when
from mta.policy.verdict import NO_ADVICE, SCRIPT_FAILED, Advice, Indifferent, Orders, Policy, Tried, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext import Envelope as ScriptEnvelope
from sieve_ext import Event
from sieve_ext.message import Message

LARGE = 256 * 1024
"""Octets from which scripts that read the body run in a thread of their own."""

Complain = Callable[[str, str, str], None]
"""Told what scripts have to say: what it is (`SCRIPT_FAILED`, "note"...), the session, the text."""


Trace = Callable[[Session, str, str, Event], None]
"""Told what scripts do: the session, the stage, the name of the file, what happens."""


@dataclass(slots=True, frozen=True)
class Site:
    """What the policy knows of the server."""

    hostname: str
    ground: Ground | None = None
    """What the configuration says of domains and clients."""
    find: Find | None = None
    """Who is behind an alias that a script adds, where there may be aliases."""


class SievePolicy(Indifferent):
    """`mta.policy.verdict.Policy` with scripts."""

    def __init__(
        self,
        program: Program,
        inner: Policy,
        site: Site,
        complain: Complain,
        services: Services,
        trace: Trace | None = None,
    ) -> None:
        """`inner` decides about what the scripts let pass; `services` answer what scripts ask.

        `trace` is told what the scripts do, if the program was loaded with tracing.
        """
        self._program = program
        self.inner = inner
        """The policy behind."""
        self._site = site
        self._complain = complain
        self._services = services
        self._trace = trace
        for stage in ("connect", "helo", "auth"):
            if not program.has(stage):
                setattr(self, stage, getattr(inner, stage))
        if not program.has("route") and not program.has("sign"):
            setattr(self, "depart", inner.depart)  # noqa: B010 - a method of its own for this object

    def connect(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A client has connected."""
        return self._in_session("connect", session, self.inner.connect)

    def helo(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """EHLO, HELO or LHLO."""
        return self._in_session("helo", session, self.inner.helo)

    def auth(self, session: Session) -> Verdict | Awaitable[Verdict]:
        """A user has proved who it is."""
        return self._in_session("auth", session, self.inner.auth)

    def _in_session(
        self, stage: str, session: Session, behind: Callable[[Session], Verdict | Awaitable[Verdict]]
    ) -> Verdict | Awaitable[Verdict]:
        """A stage without an envelope."""
        return when(
            self._ask(stage, session), lambda decision: refused(decision) or then(decision, behind(session))
        )

    def mail(self, session: Session, envelope: Envelope) -> Verdict | Awaitable[Verdict]:
        """MAIL; the policy behind judges the sender that the client gave, then a script may change it."""
        decision = self._ask("mail", session, envelope)
        if decision is PASSED:
            return self.inner.mail(session, envelope)

        def conclude(decision: Decision) -> Verdict | Awaitable[Verdict]:
            refusal = refused(decision)
            if refusal is not None:
                return refusal
            sender = decision.sender

            def passed() -> None:
                if sender is not None and not envelope.sender.is_null:
                    envelope.sender = sender

            return then(decision, self.inner.mail(session, envelope), passed)

        return when(decision, conclude)

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """RCPT; the policy behind judges the recipient as rewritten."""
        decision = self._ask("rcpt", session, envelope, recipient)
        if decision is PASSED:
            return self.inner.rcpt(session, envelope, recipient)

        def conclude(decision: Decision) -> Verdict | Awaitable[Verdict]:
            refusal = refused(decision)
            if refusal is not None:
                return refusal
            if decision.rewritten is not None:
                if recipient.original is None:  # what reports are to name (RFC 3461 section 5.2.1)
                    recipient.original = OriginalRecipient.of(recipient.address)
                recipient.address = decision.rewritten
            recipient.route = decision.route or recipient.route
            keep = keeping(decision, envelope)
            if keep is None:
                return TOO_MANY
            if decision.expansion is None:
                return then(decision, self.inner.rcpt(session, envelope, recipient), keep)
            return then(decision, self._expanded(decision.expansion, session, envelope, recipient), keep)

        return when(decision, conclude)

    def _expanded(
        self, expansion: Expansion, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """The policy behind, asked about who is behind an alias."""
        from mta.policy.sieve.expanding import TOO_MANY, is_full, settle

        if expansion.found and is_full(envelope):
            return TOO_MANY
        site, address = self._site, recipient.address
        ground = site.ground
        ours = ground is not None and (
            expansion.is_proved
            or recipient.by_site
            or ground.is_local(session, address)
            or ground.may_relay(session)
        )
        facts = Facts("rcpt", session, site.hostname, envelope, recipient, ground=ground)
        return settle(
            recipient,
            expansion,
            lambda one: self.inner.rcpt(session, envelope, one),
            lambda request: answer(self._services, request, facts),
            lambda text: self._complain("aliases", session.id, text),
            by_site=ours,
            owned=not envelope.sender.is_null,
        )

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is complete."""
        decision = with_copies(self._ask("data", session, envelope, message=message), envelope)
        if decision is PASSED and repeated(envelope) is None:
            return self.inner.data(session, envelope, message)
        return when(decision, lambda decision: self._conclude(decision, session, envelope, message))

    def depart(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The message is about to leave: stages route and sign, then the policy behind."""
        has = self._program.has
        found = depart(
            envelope,
            (lambda recipient: self._ask("route", session, envelope, recipient, message))
            if has("route")
            else None,
            (lambda: self._ask("sign", session, envelope, message=message)) if has("sign") else None,
        )

        def conclude(verdict: Verdict) -> Verdict | Awaitable[Verdict]:
            if verdict.reply is not None:
                return verdict
            behind = self.inner.depart(session, envelope, message)
            return when(behind, partial(with_orders, verdict.orders))

        return when(found, conclude)

    def retry(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> Advice | Awaitable[Advice]:
        """A try has failed for now: the scripts, and if they have no advice the policy behind."""
        if not self._program.has("retry"):
            return self.inner.retry(session, envelope, recipient, tried)

        def conclude(decision: Decision) -> Advice | Awaitable[Advice]:
            advice = advice_of(decision)
            if advice != NO_ADVICE:
                return advice
            return self.inner.retry(session, envelope, recipient, tried)

        return when(self._ask("retry", session, envelope, recipient, Message(tried.header), tried), conclude)

    def bounce(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> bool | Awaitable[bool]:
        """A report is due: the scripts, and if they let it pass the policy behind."""
        if not self._program.has("bounce"):
            return self.inner.bounce(session, envelope, recipient, tried)
        return when(
            self._ask("bounce", session, envelope, recipient, Message(tried.header), tried),
            lambda decision: (
                not decision.discarded and self.inner.bounce(session, envelope, recipient, tried)
            ),
        )

    def route(self, session: Session, envelope: Envelope, recipient: Recipient) -> NextHop | Reply:
        """Where a script has said, else where the policy behind says."""
        if recipient.refusal is not None:
            return recipient.refusal
        if recipient.route:
            return hop_of_route(recipient.route, recipient.address.domain)
        return self.inner.route(session, envelope, recipient)

    # --- running -------------------------------------------------------------------------------------

    def _ask(
        self,
        stage: str,
        session: Session,
        envelope: Envelope | None = None,
        recipient: Recipient | None = None,
        message: Message | None = None,
        tried: Tried | None = None,
    ) -> Decision | Awaitable[Decision]:
        if not self._program.has(stage):
            return PASSED
        site = self._site
        facts = Facts(stage, session, site.hostname, envelope, recipient, message, tried, site.ground)
        seen = partial(script_envelope, session, envelope, recipient)
        around = Surroundings(facts)
        aside = message is not None and self._program.reads_body and message.original_size > LARGE
        outcome: Outcome | Awaitable[Outcome]
        if aside or self._trace is not None:
            trace = None if self._trace is None else partial(self._trace, session, stage)
            running = self._program.run(stage, around, seen, message, aside=aside, trace=trace)
            outcome = (finish_aside if aside else finish)(running, self._services, facts)
        else:
            outcome = asked(self._program, stage, around, seen, message, self._services, facts)
        if outcome is NOTHING:
            return PASSED
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
        refusal = refused(decision)
        if refusal is not None:
            return refusal
        if decision.expansion is not None and decision.expansion.found:
            return self._conclude_expanded(decision, decision.expansion, session, envelope, message)
        return self._ask_behind(decision, session, envelope, message)

    async def _conclude_expanded(
        self,
        decision: Decision,
        expansion: Expansion,
        session: Session,
        envelope: Envelope,
        message: Message,
    ) -> Verdict:
        """Put others in the place of aliases; a recipient that nobody is left of is refused."""
        for recipient in envelope.recipients:
            for one in recipient.behind:
                if one.refusal is not None or one.address.key not in expansion.found:
                    continue
                verdict = self._expanded(expansion, session, envelope, one)
                if not isinstance(verdict, Verdict):
                    verdict = await verdict
                if verdict.reply is not None and not verdict.reply.is_permanent:
                    return verdict
                one.refusal = verdict.reply
            recipient.members = [each for one in recipient.members for each in one.behind]
        verdict = self._ask_behind(decision, session, envelope, message)
        return verdict if isinstance(verdict, Verdict) else await verdict

    def _ask_behind(
        self, decision: Decision, session: Session, envelope: Envelope, message: Message
    ) -> Verdict | Awaitable[Verdict]:
        """What the policy behind says of the message, with the scripts' orders."""
        edited = message if decision.message is None else decision.message
        verdict = self.inner.data(session, envelope, edited)
        if isinstance(verdict, Verdict) and not decision.added and not decision.copies:
            if verdict.reply is not None or (decision is PASSED and repeated(envelope) is None):
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
        added = await added_recipients(
            session.id,
            decision,
            envelope,
            self._site.find,
            lambda one: self.inner.rcpt(session, envelope, one),
            lambda text: self._complain("recipient not added", session.id, text),
        )
        return added if isinstance(added, Verdict) else self._ordered(verdict, decision, envelope, added)

    def _ordered(
        self, verdict: Verdict, decision: Decision, envelope: Envelope, added: tuple[Recipient, ...]
    ) -> Verdict:
        if decision.route:
            for recipient in (*envelope.everyone, *added):
                recipient.route = decision.route
        if decision.notify is not None:
            from mta.policy.sieve.expanding import set_notify

            set_notify(envelope, decision.notify)
        orders = Orders(
            decision.message,
            decision.discarded,
            decision.held,
            None if envelope.sender.is_null else decision.sender,
            added,
            positions(envelope, decision.removed),
            repeated(envelope),
            decision.priority,
            decision.lifetime,
            decision.tags,
            journal=tuple(decision.journal),
            ret=decision.ret,
            envid=decision.envid,
            postponed=decision.postponed,
        )
        return with_orders(None if orders == NO_ORDERS else orders, verdict)


def script_envelope(
    session: Session, envelope: Envelope | None, recipient: Recipient | None
) -> ScriptEnvelope:
    """The envelope that a script sees: in stage rcpt with the recipient alone, at the end with all. Domains
    are in A-labels, so that a rule holds whatever the client has written."""
    if envelope is None:
        return ScriptEnvelope(None, user=session.user)
    recipients = envelope.everyone if recipient is None else [recipient]
    if not recipients:
        return ScriptEnvelope(envelope.sender.in_labels, user=session.user)
    addresses = tuple([one.address.in_labels for one in recipients])
    originals = addresses
    if any(one.original is not None for one in recipients):
        originals = tuple(
            [one.address.in_labels if one.original is None else one.original.address for one in recipients]
        )
    return ScriptEnvelope(
        envelope.sender.in_labels,
        addresses[0],
        user=session.user,
        extra={"to": addresses, "orig_to": originals},
    )
