"""When a message that could not be delivered is tried again, and when that ends: pure functions.

Three ends are known: the policy's expiry; a deadline that the sender set by DELIVERBY (RFC 2852), whose mode
R returns the message then and whose mode N only wants a delay report; and before all, FUTURERELEASE (RFC
4865), which keeps the first try until a time and lets expiry count from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long. All in seconds. Raises ValueError for what makes no schedule."""

    delays: tuple[float, ...] = (300.0, 900.0, 3600.0, 14400.0)
    """After the first, second... failure. Greylisting lets through after five minutes; then load matters
    more."""
    growth: float = 1.0
    """After the list each delay is the one before times this; 1 repeats the last one."""
    most: float = 14400.0
    """The growth ends here. Entries of the list may be longer."""
    jitter: float = 0.1
    """The share by which each delay is lengthened or shortened at random, so that what failed together
    spreads."""
    expire: float = 432000.0
    """Time after which the message is returned. RFC 5321 4.5.4.1 asks for four to five days at least."""
    warn: float | None = 14400.0
    """Time after which the sender hears of the delay, once; None: never."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.delays or min(self.delays) <= 0:
            raise ValueError("a retry schedule needs at least one delay, and all above 0")
        if self.growth < 1 or self.most <= 0 or not 0 <= self.jitter < 1 or self.expire < 0:
            raise ValueError("growth is at least 1, jitter within 0 and 1, most above 0, expire not below 0")
        if self.warn is not None and self.warn < 0:
            raise ValueError("warn is not below 0")

    def delay(self, attempts: int) -> float:
        """Seconds from the `attempts`-th failure (from 1) to the next try, without jitter."""
        if attempts <= len(self.delays):
            return self.delays[max(attempts, 1) - 1]
        last = self.delays[-1]
        if self.growth == 1 or last >= self.most:
            return last
        exponent = min(attempts - len(self.delays), 1000)
        try:
            return min(last * self.growth**exponent, self.most)
        except OverflowError:
            return self.most

    def made_by(self, age: float, attempts: int) -> int:
        """How many of `attempts` tries this schedule itself can have made of a message that is `age` seconds
        old; at least 1. The rest was made by order."""
        return max(1, min(attempts, self.tries_by(age)))

    def tries_by(self, age: float) -> int:
        """How many tries this schedule can have made of a message that is `age` seconds old; at least 1."""
        due, number = 0.0, 1
        while True:
            delay = self.delay(number) * (1 - self.jitter)
            if number >= len(self.delays) and self.delay(number + 1) == self.delay(number):
                return number + max(
                    0, int((age + _MOMENT - due) / delay)
                )  # the delays are equal from here on
            due += delay
            if due > age + _MOMENT:
                return number
            number += 1


_MOMENT = 0.01
"""Seconds: what sums of delays may miss by, as they are added up."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """What is fixed for one message when it is accepted; times in seconds since the epoch."""

    created: float
    release: float | None = None
    """FUTURERELEASE: no try before."""
    deliver_by: float | None = None
    """DELIVERBY: the end of the given time."""
    by_mode: Literal["N", "R"] = "N"
    """R: return it then. N: report the delay and go on."""

    @property
    def start(self) -> float:
        """When the first try may be; expiry and warning count from there."""
        return self.created if self.release is None else max(self.created, self.release)


@dataclass(frozen=True, slots=True)
class Step:
    """What comes next for a recipient after a failure that may pass."""

    action: Literal["retry", "expire", "deliver_by"]
    """`retry` at `at`, or the end: of the policy's time, or of the sender's (RFC 2852, mode R: 5.4.7)."""
    at: float
    """Time of the next try; for an end the time it came."""


def expires_at(policy: RetryPolicy, deadlines: Deadlines) -> tuple[float, Literal["expire", "deliver_by"]]:
    """When a message is given up if nobody takes it, and for which of the two reasons."""
    end = deadlines.start + policy.expire
    if deadlines.deliver_by is not None and deadlines.by_mode == "R" and deadlines.deliver_by <= end:
        return deadlines.deliver_by, "deliver_by"
    return end, "expire"


def warns_at(policy: RetryPolicy, deadlines: Deadlines) -> float | None:
    """When the sender is to hear of the delay; None: not at all, or it is returned before.

    A DELIVERBY deadline of mode N moves it forward and asks for it even where the policy has none.
    """
    at = None if policy.warn is None else deadlines.start + policy.warn
    if deadlines.deliver_by is not None and deadlines.by_mode == "N":
        at = deadlines.deliver_by if at is None else min(at, deadlines.deliver_by)
    return None if at is None or at >= expires_at(policy, deadlines)[0] else at


def next_step(
    policy: RetryPolicy, deadlines: Deadlines, attempts: int, now: float, random: Callable[[], float]
) -> Step:
    """What follows the `attempts`-th try (0: none yet), which ended at `now`.

    `random` gives numbers from 0 to 1. A try that would come after the end is made at the end instead, so the
    last chance is used; once the end is reached there is no other. Tries that an administrator ordered do not
    make the delay longer.
    """
    end, reason = expires_at(policy, deadlines)
    if now >= end:
        return Step(reason, end)
    if attempts == 0:
        return Step("retry", min(max(now, deadlines.start), end))
    spread = 1 + policy.jitter * (2 * random() - 1)
    counted = policy.made_by(now - deadlines.start, attempts)
    return Step("retry", min(now + policy.delay(counted) * spread, end))
