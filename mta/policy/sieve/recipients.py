"""`RecipientScripts`: scripts of domains and users, asked about each of their recipients.

They stand between the site's scripts and the rest of the policy: what the site has refused they do not see,
and what they let pass is judged as without them. A refusal is one recipient's; so is a discard, of which the
client does not hear. A script that fails says nothing, and the log tells why.

Who gets a message without having been named by the client is asked, too: who stands in for somebody who does
not exist, who is behind an alias, and, when the message leaves, everybody whom scripts, milters and policy
servers have added.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mta.address import Address
from mta.envelope import Envelope, Recipient
from mta.ordering import REMOVED
from mta.policy.forwarding import Forwarding
from mta.policy.ground import Ground
from mta.policy.sieve.asking import finish
from mta.policy.sieve.decision import PASSED, Decision, decide
from mta.policy.sieve.facts import Facts, Surroundings
from mta.policy.sieve.orders import with_orders
from mta.policy.sieve.outcome import Outcome
from mta.policy.sieve.policy import Complain, Trace, script_envelope
from mta.policy.sieve.program import Program
from mta.policy.sieve.turns import AT_ONCE, in_turns
from mta.policy.sieve.verdicts import when
from mta.policy.verdict import SCRIPT_FAILED, Orders, Policy, Verdict
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message

NO_REPORTS = frozenset(("NEVER",))
"""NOTIFY of who discards a message: nobody hears of it."""

OfUser = Callable[[Address], Program | None]
"""The script of a user, given its address without subaddress."""


class RecipientScripts(Forwarding):
    """`mta.policy.verdict.Policy` with scripts of domains and users."""

    def __init__(
        self,
        domains: Mapping[str, Program],
        of_user: OfUser,
        inner: Policy,
        hostname: str,
        ground: Ground,
        complain: Complain,
        trace: Trace | None = None,
    ) -> None:
        """`domains` are scripts by domain; `inner` decides about what they let pass."""
        super().__init__(inner)
        self._domains = domains
        self._of_user = of_user
        self._hostname = hostname
        self._ground = ground
        self._complain = complain
        self._trace = trace

    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Awaitable[Verdict]:
        """The scripts of this recipient, then the policy behind."""
        decision = self._decide("rcpt", session, envelope, recipient, None)
        if decision.reply is not None:
            return Verdict(decision.reply)
        named = recipient.address

        def conclude(verdict: Verdict) -> Verdict | Awaitable[Verdict]:
            if verdict.reply is not None or (recipient.address is named and not recipient.members):
                return verdict
            return in_turns(self._instead(session, envelope, recipient), lambda refusal: refusal or verdict)

        return when(self.inner.rcpt(session, envelope, recipient), conclude)

    def _instead(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Generator[None, None, Verdict | None]:
        """The refusal of those whom the policy behind has put in the place of a recipient, None without."""
        left: list[Recipient] = []
        refusal: Reply | None = None
        for number, one in enumerate(recipient.behind, 1):
            if not number % AT_ONCE:
                yield
            said = self._decide("rcpt", session, envelope, one, None).reply
            if said is None:
                left.append(one)
            elif said.is_temporary:
                return Verdict(said)
            else:
                refusal = refusal or said
        if not left and refusal is not None:
            return Verdict(refusal)
        if refusal is not None:
            recipient.members = left
        return None

    def data(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The scripts of each recipient, then the policy behind."""

        def conclude(removed: dict[int, str]) -> Verdict | Awaitable[Verdict]:
            verdict = self.inner.data(session, envelope, message)
            if not removed:
                return verdict
            return when(verdict, partial(with_orders, Orders(removed=removed)))

        return in_turns(self._heard(session, envelope, message), conclude)

    def _heard(
        self, session: Session, envelope: Envelope, message: Message
    ) -> Generator[None, None, dict[int, str]]:
        """Which recipients discard the message, and by what; refusals are set."""
        removed: dict[int, str] = {}
        asked = 0
        for position, recipient in enumerate(envelope.recipients):
            discarded = ""
            left: list[Recipient] = []
            for one in recipient.behind:
                asked += 1
                if not asked % AT_ONCE:
                    yield
                one.heard = one.address
                decision = self._decide("data", session, envelope, one, message)
                if decision.reply is not None:
                    one.refusal = decision.reply
                if decision.reply is None and decision.discarded:
                    discarded = discarded or decision.discarded
                else:
                    left.append(one)
            if not left:
                removed[position] = discarded
            elif discarded:
                recipient.members = left
        return removed

    def depart(self, session: Session, envelope: Envelope, message: Message) -> Verdict | Awaitable[Verdict]:
        """The scripts of recipients that others have put there, then the policy behind.

        What such a script refuses for now is not refused: the client knows nothing of the recipient.
        """
        return in_turns(
            self._hear(session, envelope, message), lambda _: self.inner.depart(session, envelope, message)
        )

    def _hear(self, session: Session, envelope: Envelope, message: Message) -> Generator[None, None, None]:
        """Ask for those who have not been asked for."""
        asked = 0
        for recipient in envelope.recipients:
            if recipient.heard is recipient.address or recipient.refusal is not None:
                continue
            recipient.heard = recipient.address
            asked += 1
            if not asked % AT_ONCE:
                yield
            for stage, what in (("rcpt", None), ("data", message)):
                decision = self._decide(stage, session, envelope, recipient, what)
                if decision.reply is not None and decision.reply.is_permanent:
                    recipient.refusal = decision.reply
                    break
                if decision.discarded:
                    recipient.refusal = replace(REMOVED, cause=f"removed: {decision.discarded}")
                    recipient.notify = NO_REPORTS

    # --- running -------------------------------------------------------------------------------------

    def _programs(self, address: Address) -> Sequence[Program]:
        rule = self._ground.settings.domains.get(address.domain)
        if rule is None:
            return ()
        found = (self._domains.get(address.domain), self._of_user(rule.base(address)))
        return [program for program in found if program is not None]

    def _decide(
        self,
        stage: str,
        session: Session,
        envelope: Envelope,
        recipient: Recipient,
        message: Message | None,
    ) -> Decision:
        """What the scripts of one recipient say: the first one that does not let it pass."""
        for program in self._programs(recipient.address):
            if not program.has(stage):
                continue
            facts = Facts(stage, session, self._hostname, envelope, recipient, message, ground=self._ground)
            trace = None if self._trace is None else partial(self._trace, session, stage)
            seen = partial(script_envelope, session, envelope, recipient)
            running = program.run(stage, Surroundings(facts), seen, message, trace=trace)
            outcome = finish(running, {}, facts)
            assert isinstance(outcome, Outcome)  # there is nobody whom such a script could ask
            if outcome.fault:
                self._complain(SCRIPT_FAILED, session.id, outcome.fault)
                continue
            decision = decide(outcome)
            if decision.reply is not None or decision.discarded:
                return decision
        return PASSED
