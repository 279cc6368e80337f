"""The values that the schedule takes and gives: jobs, assignments, permits and the reasons to wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import msgspec
from msgspec import Struct

BusyCause = Literal["connections", "window", "probe", "rate", "source"]
LaterCause = Literal["dead", "full", "site_full", "under_way"]


class Result(Enum):
    """What a delivery taught about the site; what became of each recipient is told elsewhere."""

    ANSWERED = "answered"
    """The site took the session and answered, be it 250, 450 or 550: it is well."""
    OVERLOADED = "overloaded"
    """It is there but wants fewer sessions from us (421 at the greeting, "too many connections")."""
    UNREACHABLE = "unreachable"
    """No answer: refused, timed out, no route, the TLS handshake failed."""
    CUT = "cut"
    """It had a whole message and did not answer for it: its fault, or that message's."""
    UNKNOWN = "unknown"
    """Nothing was learned: given up before the site was asked."""


ANSWERED, OVERLOADED, UNREACHABLE, CUT, UNKNOWN = Result  # an Enum's attributes are slow before Python 3.12


class Job(msgspec.Struct, frozen=True):
    """What is due of one message for one site."""

    handle: int
    """The message, as the index numbers it."""
    site: str
    """Where it goes: the name under which limits are kept, for instance the set of MX hosts."""
    recipients: Sequence[int]
    """Numbers of recipients within the message, at least one; a `range` costs no memory."""
    due: float
    """Since when it could be tried: its place in the order, and its age there."""
    priority: int = 0
    """-9 to 9, RFC 6710."""
    source: str = ""
    """The local address or pool that it leaves by, where such have rates of their own."""

    def __post_init__(self) -> None:
        """Raise ValueError for what can only be a caller's mistake."""
        if not self.recipients:
            raise ValueError(f"job {self.handle} for {self.site} has no recipients")
        if not -9 <= self.priority <= 9:
            raise ValueError(f"priority {self.priority} is not within -9 and 9")


class Token(Struct, eq=False):
    """The permit for one session to a site; to be given back exactly once."""

    site: str
    source: str
    queued: bool
    """Taken for a delivery from the queue, not for a first try."""
    probe: bool
    """It finds out whether a dead site is back; nobody else is let through meanwhile."""
    open: bool = True


@dataclass(frozen=True, slots=True)
class Busy:
    """Not now. `until` is the time at which a rate allows the next, None when a token must come back
    first."""

    cause: BusyCause
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """The site does not answer: nobody tries before `until`. `reason` is what the last one met."""

    until: float
    reason: str


@dataclass(eq=False, slots=True)
class Assignment:
    """One delivery to make now: these recipients of this job, in one transaction."""

    job: Job
    recipients: Sequence[int]
    token: Token
    entry: object = field(repr=False)
    """The dispatcher's own."""
    over: bool = False
    """Reported."""


@dataclass(frozen=True, slots=True)
class Later:
    """An offer that was not taken: offer it again at `until`. `reason` is for people."""

    until: float
    cause: LaterCause
    reason: str


@dataclass(frozen=True, slots=True)
class Postponed:
    """The part of a job that was still waiting when its site died, given back untried."""

    job: Job
    recipients: Sequence[int]
    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class SiteStats:
    """A site at a glance. Counts of what waits do not include what is being delivered."""

    site: str
    jobs: int
    recipients: int
    in_flight: int
    window: int
    dead_until: float | None
    reason: str
