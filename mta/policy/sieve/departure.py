"""Stages route, sign and retry: what scripts say of a message that is about to leave, or could not.

Stage "route" runs for each recipient, with the envelope of that recipient alone. A permanent refusal there is
that recipient's; anything temporary, and a failing script, keeps the whole message with the client, because a
message that waits in the queue is not asked about again. Stage "sign" runs once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from mta.envelope import Envelope, Recipient
from mta.policy.sieve.decision import Decision
from mta.policy.verdict import CONTINUE, Advice, Orders, Verdict

AskRoute = Callable[[Recipient], Decision | Awaitable[Decision]]
"""Runs stage "route" for a recipient."""
AskSign = Callable[[], Decision | Awaitable[Decision]]
"""Runs stage "sign"."""


def depart(
    envelope: Envelope, ask_route: AskRoute | None, ask_sign: AskSign | None
) -> Verdict | Awaitable[Verdict]:
    """Ask what there is to ask; None where no file has the stage."""
    if ask_route is not None:
        recipients = envelope.recipients
        for position, recipient in enumerate(recipients):
            decision = ask_route(recipient)
            if not isinstance(decision, Decision):
                return _depart_later(decision, recipients[position:], ask_route, ask_sign)
            if (verdict := _routed(recipient, decision)) is not None:
                return verdict
    if ask_sign is None:
        return CONTINUE
    signed = ask_sign()
    return _signed(signed) if isinstance(signed, Decision) else _signed_later(signed)


async def _depart_later(
    asked: Awaitable[Decision],
    recipients: Sequence[Recipient],
    ask_route: AskRoute,
    ask_sign: AskSign | None,
) -> Verdict:
    """Go on with `recipients`, of whose first one the decision is `asked`."""
    for position, recipient in enumerate(recipients):
        decision = asked if position == 0 else ask_route(recipient)
        known = decision if isinstance(decision, Decision) else await decision
        if (verdict := _routed(recipient, known)) is not None:
            return verdict
    if ask_sign is None:
        return CONTINUE
    signed = ask_sign()
    return _signed(signed if isinstance(signed, Decision) else await signed)


def _routed(recipient: Recipient, decision: Decision) -> Verdict | None:
    """Note the route; a verdict when the whole message is refused."""
    reply = decision.reply
    if reply is not None and (reply.is_temporary or reply.close):
        return Verdict(reply)
    recipient.refusal = reply
    if decision.route:
        recipient.route = decision.route
    return None


def _signed(decision: Decision) -> Verdict:
    if decision.reply is not None:
        return Verdict(decision.reply)
    return Verdict(orders=Orders(signing=tuple(decision.signing))) if decision.signing else CONTINUE


async def _signed_later(asked: Awaitable[Decision]) -> Verdict:
    return _signed(await asked)


def advice_of(decision: Decision) -> Advice:
    """What stage "retry" came to; a script that failed has no advice."""
    reply = decision.reply
    return Advice(
        decision.retry_after,
        decision.lifetime,
        reply if reply is not None and reply.is_permanent else None,
        decision.held,
    )
