"""What a site is spared: numbers, their defaults and their reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in `seconds`, evenly spaced; after a rest up to `burst` at once.

    In any stretch of t seconds there are never more than `burst` + t * count / seconds. Raises ValueError.
    """

    count: float
    seconds: float
    burst: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.count <= 0 or self.seconds <= 0 or self.burst < 1:
            raise ValueError("a rate needs a count and seconds above 0 and a burst of at least 1")

    def share(self, workers: int) -> Rate:
        """This rate for one of several equal workers; the burst is one at least."""
        return Rate(self.count / workers, self.seconds, max(1, self.burst // workers))


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one site. Raises ValueError for numbers that make no sense."""

    concurrency: int = 20
    """Sessions at once, at most. Usual servers take that many from one client."""
    initial: int = 5
    """Sessions at once to a site not known yet: enough that one slow message does not stop the others."""
    positive: float = 1.0
    """What the window gains by as many answered deliveries as it is wide."""
    negative: float = 1.0
    """What one failed delivery takes from the window."""
    failed_cohorts: float = 1.0
    """How many windows full of failures in a row make a site dead."""
    failures: int = 3
    """But never fewer failures than that: two can happen in a restart, and a window of one is soon full."""
    dead_first: float = 60.0
    """Seconds until a dead site is probed for the first time; each further failure doubles them."""
    dead_most: float = 1800.0
    """The end of the doubling."""
    recipients: int = 50
    """Recipients in one transaction. RFC 5321 4.5.3.1.8 asks servers for 100; many grow slow or suspicious
    earlier."""
    rate: Rate | None = None
    """Deliveries over time."""
    recalled: bool = False
    """Whether `Dispatcher.failing` and `Dispatcher.returned` tell of it: a server of ours, whose mail is not
    to wait for its schedule when the server is back."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.concurrency < 1 or self.initial < 1 or self.recipients < 1 or self.failures < 1:
            raise ValueError("concurrency, initial, recipients and failures are at least 1")
        if not 0 < self.positive <= 1 or self.negative < 0 or self.failed_cohorts <= 0:
            raise ValueError("positive is within 0 and 1, negative not below 0, failed_cohorts above 0")
        if not 0 < self.dead_first <= self.dead_most:
            raise ValueError("dead_first is above 0 and not above dead_most")

    def share(self, workers: int) -> Limits:
        """These limits for one of several equal workers.

        Together they keep to the whole, except that each worker may always have one session: a concurrency
        below the number of workers is not kept exactly. Bursts are divided too, and are at least one each.
        """
        rate = None if self.rate is None else self.rate.share(workers)
        return replace(
            self,
            concurrency=max(1, self.concurrency // workers),
            initial=max(1, self.initial // workers),
            rate=rate,
        )
