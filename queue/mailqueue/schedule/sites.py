"""The sites that mail goes to: who may open a session now, who must wait for what.

One table serves the first tries (while a client waits) and the deliveries from the queue. The queue uses at
most `QUEUE_SHARE` of a window and of all sessions, so that a backlog being drained does not push every new
message into the queue as well.

A dead site is left alone until its time; then one delivery probes it and all others wait for what it finds.
Any answer, even to a delivery begun before, makes it well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from mailqueue.schedule.concurrency import Window
from mailqueue.schedule.limits import Limits, Rate
from mailqueue.schedule.rates import Bucket
from mailqueue.schedule.values import ANSWERED, OVERLOADED, UNKNOWN, UNREACHABLE, Busy, Dead, Result, Token

QUEUE_SHARE = 0.8
"""Of a window, and of all sessions; never less than one."""
SITE_SHARE = 0.5
"""Of all sessions, for one site."""
IDLE_SITES = 10_000
"""Sites without any session that are remembered; the one longest idle goes first. About 400 octets each."""


class Site:
    """What is known about one site."""

    __slots__ = (
        "bucket",
        "dead_until",
        "deaths",
        "in_flight",
        "limits",
        "probing",
        "queued",
        "reason",
        "window",
    )

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.window = Window(limits)
        self.bucket = Bucket(limits.rate) if limits.rate else None
        self.in_flight = 0
        self.queued = 0
        """Those of them that the queue has."""
        self.dead_until: float | None = None
        self.deaths = 0
        """In a row."""
        self.probing = False
        self.reason = ""

    def die(self, now: float, reason: str) -> None:
        """Leave it alone, longer each time."""
        delay = self.limits.dead_first * 2 ** min(self.deaths, 30)
        self.deaths += 1
        self.dead_until = now + min(delay, self.limits.dead_most)
        self.reason = reason

    def revive(self) -> None:
        """It answered."""
        if self.dead_until is not None:
            self.window.reset()
            self.dead_until = None
        self.deaths = 0
        self.reason = ""


class Sites:
    """All sites and sources, and the sessions to them.

    `limits_for` gives the limits of a site by name, `rates` those of sources that have one; `connections` is
    the most sessions at once to all sites together.
    """

    def __init__(
        self, limits_for: Callable[[str], Limits], connections: int, rates: Mapping[str, Rate] | None = None
    ) -> None:
        if connections < 1:
            raise ValueError("at least one connection is needed")
        self._limits_for = limits_for
        self._connections = connections
        self._for_queue = max(1, int(connections * QUEUE_SHARE))
        self._for_site = max(1, int(connections * SITE_SHARE))
        self._sites: dict[str, Site] = {}
        self._idle: dict[str, None] = {}
        self._dead: set[str] = set()
        """Those that are dead or to be probed."""
        self._failing: set[str] = set()
        """Those with `Limits.recalled` that could not be reached."""
        self._returned: list[str] = []
        self._sources = {name: Bucket(rate) for name, rate in (rates or {}).items()}
        self._in_flight = 0
        self._queued = 0

    def any_dead(self) -> bool:
        """False when all sites answer, as far as is known."""
        return bool(self._dead)

    @property
    def failing(self) -> Collection[str]:
        """Sites with `Limits.recalled` that could not be reached, until they answer."""
        return self._failing

    def returned(self) -> list[str]:
        """Those that were `failing` and have answered since the last call."""
        given, self._returned = self._returned, []
        return given

    def suspect(self, name: str) -> None:
        """Take a site for `failing` that others could not reach, if it has `Limits.recalled`."""
        site = self._sites.get(name)
        if (self._limits_for(name) if site is None else site.limits).recalled:
            self._failing.add(name)

    @property
    def has_news(self) -> bool:
        """Whether some site is `failing`, or has `returned`."""
        return bool(self._failing or self._returned)

    def names(self) -> list[str]:
        """The sites that are known."""
        return list(self._sites)

    def get(self, name: str) -> Site:
        """The site of that name, made if it is new."""
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = Site(self._limits_for(name))
            self._rest(name)
        return site

    def source(self, name: str) -> Bucket | None:
        """The bucket of a source, None where it has no rate."""
        return self._sources.get(name)

    def full(self) -> bool:
        """Whether the queue has all the sessions that it may have."""
        return self._in_flight >= self._connections or self._queued >= self._for_queue

    def dead(self, name: str, now: float) -> Dead | None:
        """Whether a site is not to be tried yet."""
        site = self._sites.get(name)
        if site is None or site.dead_until is None or now >= site.dead_until:
            return None
        return Dead(site.dead_until, site.reason)

    def try_acquire(self, name: str, source: str, now: float, *, queued: bool) -> Token | Busy | Dead:
        """Ask for a session to a site. A `Token` must come back by `release`."""
        site = self._sites.get(name) or self.get(name)
        probe = site.dead_until is not None
        if site.dead_until is not None:
            if now < site.dead_until:
                return Dead(site.dead_until, site.reason)
            if site.probing:
                return Busy("probe")
        if self._in_flight >= self._connections or (queued and self._queued >= self._for_queue):
            return Busy("connections")
        if not probe:
            room = min(site.window.size, self._for_site)
            if site.in_flight >= room or (queued and site.queued >= max(1, math.ceil(room * QUEUE_SHARE))):
                return Busy("window")
        if site.bucket is not None and (at := site.bucket.ready_at()) > now:
            return Busy("rate", at)
        sender = self._sources.get(source)
        if sender is not None:
            if (at := sender.ready_at()) > now:
                return Busy("source", at)
            sender.take(now)
        if site.bucket is not None:
            site.bucket.take(now)
        if not site.in_flight:
            self._idle.pop(name, None)
        site.in_flight += 1
        self._in_flight += 1
        if queued:
            site.queued += 1
            self._queued += 1
        if probe:
            site.probing = True
        return Token(name, source, queued, probe)

    def release(self, token: Token, result: Result, now: float, reason: str = "") -> bool:
        """Give a token back and learn; True if the site has died by it. Raises ValueError the second time."""
        if not token.open:
            raise ValueError(f"a session to {token.site} was given back twice")
        token.open = False
        site = self._sites[token.site]
        died = self._learn(site, token, result, now, reason)
        site.in_flight -= 1
        self._in_flight -= 1
        if token.queued:
            site.queued -= 1
            self._queued -= 1
        if not site.in_flight:
            self._rest(token.site)
        return died

    def revive(self, name: str, now: float) -> None:
        """Let a dead site be probed at once, as an administrator wants who knows that it is back."""
        site = self._sites.get(name)
        if site is not None and site.dead_until is not None:
            site.dead_until = now

    def set_back(self, seconds: float) -> None:
        """The clock was set back."""
        for site in self._sites.values():
            if site.dead_until is not None:
                site.dead_until -= seconds
            if site.bucket is not None:
                site.bucket.set_back(seconds)
        for source in self._sources.values():
            source.set_back(seconds)

    def _learn(self, site: Site, token: Token, result: Result, now: float, reason: str) -> bool:
        """Feed back one result; True if the site has died."""
        if token.probe:
            site.probing = False
        if result is UNKNOWN:
            return False
        if result is ANSWERED:
            site.revive()
            self._dead.discard(token.site)
            site.window.answered(site.in_flight)
            if token.site in self._failing:
                self._failing.discard(token.site)
                self._returned.append(token.site)
            return False
        if site.limits.recalled and result is UNREACHABLE:
            self._failing.add(token.site)
        if token.probe and site.dead_until is not None:
            self._die(site, token.site, now, reason)
            return True
        if site.dead_until is not None:
            return False  # one more of those that were under way when it died
        died = site.window.overloaded() if result is OVERLOADED else site.window.unreachable()
        if died:
            self._die(site, token.site, now, reason)
        return died

    def _die(self, site: Site, name: str, now: float, reason: str) -> None:
        site.die(now, reason)
        self._dead.add(name)

    def _rest(self, name: str) -> None:
        """Put a site without sessions among the idle ones, and forget the one that is idle longest."""
        self._idle.pop(name, None)
        self._idle[name] = None
        while len(self._idle) > IDLE_SITES:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            del self._sites[oldest]
            self._dead.discard(oldest)
            self._failing.discard(oldest)
