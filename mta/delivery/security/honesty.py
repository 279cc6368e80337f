"""Whether the resolver validates: asked at start and again whenever a proof goes missing.

Positive control: names that are known to be signed must come back SECURE. Negative control: names that are
known to be broken must come back BOGUS; a resolver that gives their records out validates nothing, whatever
it says of others. No answer proves nothing. Names are configured, for the well-known broken ones are not
ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mta.net.resolver.base import Resolver, Status


class Honesty(Enum):
    """What the controls say."""

    HONEST = "honest"
    """Signed names are SECURE, and no broken one was answered."""
    DEAF = "does not validate"
    """A signed name came back unsigned: nothing can be proven."""
    BLIND = "answers what it should refuse"
    """A broken name was answered: its SECURE means nothing."""
    UNKNOWN = "not found out"
    """Nobody answered."""


@dataclass(slots=True, frozen=True)
class Verdict:
    """The outcome of a probe."""

    honesty: Honesty
    text: str
    """Name and answer that decided, for log and administrator."""

    @property
    def validates(self) -> bool:
        """False when what the resolver calls SECURE must not be believed, or it never will be."""
        return self.honesty in (Honesty.HONEST, Honesty.UNKNOWN)


async def probe(resolver: Resolver, signed: Sequence[str], broken: Sequence[str], deadline: float) -> Verdict:
    """Ask the controls at once; `deadline` is loop time. Never raises."""
    good, bad = await asyncio.gather(
        asyncio.gather(*(resolver.query(name, "SOA", deadline) for name in signed)),
        asyncio.gather(*(resolver.query(name, "SOA", deadline) for name in broken)),
    )
    for name, answer in zip(broken, bad, strict=True):
        if answer.usable and answer.records:
            text = f"{name} is known to be broken, and was answered as {answer.status.value}"
            return Verdict(Honesty.BLIND, text)
    secure = [name for name, answer in zip(signed, good, strict=True) if answer.status is Status.SECURE]
    if secure:
        return Verdict(Honesty.HONEST, f"{secure[0]} is validated")
    for name, answer in zip(signed, good, strict=True):
        if answer.status is Status.INSECURE:
            return Verdict(Honesty.DEAF, f"{name} is signed, and came back unsigned")
    reasons = [f"{name}: {answer.reason}" for name, answer in zip(signed, good, strict=True)]
    return Verdict(Honesty.UNKNOWN, "; ".join(reasons) or "there are no names to ask for")
