"""What the policy says of a failed try, and of reports: asked recipient by recipient, applied to outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from msgspec.structs import replace

from mta.delivery.outcome import Outcome
from mta.dsn.values import Event
from mta.envelope import Envelope, Recipient
from mta.policy.verdict import NO_ADVICE, Advice, Tried
from mta.reply import Reply
from mta.session import Session

T = TypeVar("T", Advice, bool)

NO_REPLY = Reply(451, "4.4.7", "no reply")


class Advisor(Protocol):
    """Says how to go on (`mta.policy.verdict.Policy`)."""

    def retry(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> Advice | Awaitable[Advice]:
        """A try has failed for now."""

    def bounce(
        self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried
    ) -> bool | Awaitable[bool]:
        """A report is due; False: none is sent."""


@dataclass(slots=True, frozen=True)
class About:
    """The message that is asked about."""

    session: Session
    envelope: Envelope
    next_hop: str
    header: bytes
    age: float
    """Seconds."""
    queue_id: str = ""

    def tried(self, reply: Reply, attempts: int, report: str = "") -> Tried:
        """The same about one of its recipients."""
        return Tried(reply, attempts, self.age, self.next_hop, self.header, self.queue_id, report)


Before = Callable[[], Awaitable[None]]
"""Called once before an answer is waited for."""


async def advised(
    advisor: Advisor,
    about: About,
    outcomes: Sequence[tuple[int, Outcome, int]],
    before: Before | None = None,
) -> tuple[list[tuple[int, Outcome]], dict[int, Advice]]:
    """Ask about each temporary outcome; `outcomes` are position, outcome and tries so far.

    Returns the outcomes, refused where the policy gives up, and its advice by position.
    """
    asked = [
        advisor.retry(about.session, about.envelope, outcome.recipient, about.tried(outcome.reply, attempts))
        for _, outcome, attempts in outcomes
        if outcome.reply.is_temporary
    ]
    answers = iter(await _answers(asked, Advice, before))
    found: list[tuple[int, Outcome]] = []
    advice: dict[int, Advice] = {}
    for position, outcome, _ in outcomes:
        if outcome.reply.is_temporary:
            said = next(answers)
            if said.refusal is not None:
                outcome = replace(outcome, reply=said.refusal)
            elif said != NO_ADVICE:
                advice[position] = said
        found.append((position, outcome))
    return found, advice


async def reported(
    advisor: Advisor,
    about: About,
    events: Sequence[Event],
    attempts: Mapping[str, int],
    before: Before | None = None,
) -> list[Event]:
    """The events that the policy lets be reported; `attempts` are tries by the text of the address."""
    asked = []
    for event in events:
        tried = about.tried(
            event.reply or NO_REPLY, attempts.get(event.recipient.address.text, 1), event.result.value
        )
        asked.append(advisor.bounce(about.session, about.envelope, event.recipient, tried))
    answers = await _answers(asked, bool, before)
    return [event for event, wanted in zip(events, answers, strict=True) if wanted]


async def _answers(asked: Sequence[T | Awaitable[T]], kind: type[T], before: Before | None) -> list[T]:
    """All answers; those that are not there yet are waited for together."""
    ready: dict[int, T] = {}
    tasks: dict[int, asyncio.Future[T]] = {}
    for index, one in enumerate(asked):
        if isinstance(one, kind):
            ready[index] = one
        else:
            tasks[index] = asyncio.ensure_future(one)  # type: ignore[arg-type] # not one of T
    if tasks:
        try:
            if before is not None:
                await before()
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
    return [tasks[index].result() if index in tasks else ready[index] for index in range(len(asked))]
