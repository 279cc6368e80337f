"""From decisions of scripts and verdicts of the policy behind to one verdict, at once or later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec.structs import replace

from mta.address import Address
from mta.envelope import Envelope
from mta.policy.sieve.decision import Decision
from mta.policy.verdict import Verdict

A = TypeVar("A", Decision, Verdict)
B = TypeVar("B")


def positions(envelope: Envelope, removed: list[tuple[str, Address]]) -> dict[int, str] | None:
    """Which recipients are removed, and by what; None when none is. Members of an alias are taken out of
    it."""
    causes = {address.key: place for place, address in reversed(removed)}
    if not causes:
        return None
    found: dict[int, str] = {}
    for position, recipient in enumerate(envelope.recipients):
        cause = causes.get(recipient.address.key)
        if recipient.members and cause is None:
            gone = [one for one in recipient.members if one.address.key in causes]
            if len(gone) == len(recipient.members):
                cause = causes[gone[0].address.key]
            elif gone:
                recipient.members = [one for one in recipient.members if one.address.key not in causes]
        if cause is not None:
            found[position] = cause
    return found or None


def repeated(envelope: Envelope) -> dict[int, int] | None:
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


def refused(decision: Decision) -> Verdict | None:
    """The refusal of the scripts, None when there is none."""
    return None if decision.reply is None else Verdict(decision.reply, decision.delay)


def when(asked: A | Awaitable[A], conclude: Callable[[A], B | Awaitable[B]]) -> B | Awaitable[B]:
    """`conclude` of what was asked, as soon as that is known."""
    return conclude(asked) if isinstance(asked, (Decision, Verdict)) else _when_later(asked, conclude)


async def _when_later(asked: Awaitable[A], conclude: Callable[[A], B | Awaitable[B]]) -> B:
    found = conclude(await asked)
    return await found if isinstance(found, Awaitable) else found


def then(
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
    verdict = then(decision, await awaited, passed)
    assert isinstance(verdict, Verdict)
    return verdict
