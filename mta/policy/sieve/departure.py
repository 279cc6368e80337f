"""Stages route, sign and retry: what scripts say of a message that is about to leave, or could not.

Stage "route" runs for each recipient, with the envelope of that recipient alone. A permanent refusal there is
that recipient's; anything temporary, and a failing script, keeps the whole message with the client, because a
message that waits in the queue is not asked about again. Stage "sign" runs once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator

from mta.envelope import Envelope, Recipient
from mta.policy.sieve.decision import Decision
from mta.policy.verdict import CONTINUE, Advice, Orders, Verdict

AskRoute = Callable[[Recipient], Decision | Awaitable[Decision]]
"""Runs stage "route" for a recipient."""
AskSign = Callable[[], Decision | Awaitable[Decision]]
"""Runs stage "sign"."""
Going = Generator[Decision | Awaitable[Decision], Decision, Verdict]


def depart(
    envelope: Envelope, ask_route: AskRoute | None, ask_sign: AskSign | None
) -> Verdict | Awaitable[Verdict]:
    """Ask what there is to ask; None where no file has the stage."""
    going = _going(envelope, ask_route, ask_sign)
    try:
        asked = next(going)
        while isinstance(asked, Decision):
            asked = going.send(asked)
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict
    return _go_on(going, asked)


def _going(envelope: Envelope, ask_route: AskRoute | None, ask_sign: AskSign | None) -> Going:
    """Yields what is asked, is sent the decisions, returns the verdict."""
    if ask_route is not None:
        for recipient in envelope.recipients:
            if recipient.refusal is not None:  # what one script has refused no other one lets pass
                continue
            verdict = _routed(recipient, (yield ask_route(recipient)))
            if verdict is not None:
                return verdict
    if ask_sign is None:
        return CONTINUE
    return _signed((yield ask_sign()))


async def _go_on(going: Going, asked: Decision | Awaitable[Decision]) -> Verdict:
    try:
        while True:
            asked = going.send(asked if isinstance(asked, Decision) else await asked)
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict


def _routed(recipient: Recipient, decision: Decision) -> Verdict | None:
    """Note the route; a verdict when the whole message is refused."""
    reply = decision.reply
    if reply is not None and (reply.is_temporary or reply.close):
        return Verdict(reply)
    if reply is not None:
        recipient.refusal = reply
    if decision.route:
        recipient.route = decision.route
    if decision.told is not None:
        recipient.sender = decision.told
    return None


def _signed(decision: Decision) -> Verdict:
    if decision.reply is not None:
        return Verdict(decision.reply)
    return Verdict(orders=Orders(signing=tuple(decision.signing))) if decision.signing else CONTINUE


def advice_of(decision: Decision) -> Advice:
    """What stage "retry" came to; a script that failed has no advice."""
    reply = decision.reply
    return Advice(
        decision.retry_after,
        decision.lifetime,
        reply if reply is not None and reply.is_permanent else None,
        decision.held,
    )
