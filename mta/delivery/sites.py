"""Sites: sets of hosts that serve many domains, and what their deliveries share.

All domains with the same MX set are one site. A site has one pool of connections (with the same source
addresses and HELO name), so they share connections and the limit on them; hosts that failed are remembered by
name, whatever site they are in. What nobody uses goes away: memory is bounded whatever the world sends us to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from mta.delivery.health import Health
from mta.net.connect import ConnectFailure
from mta.net.dial import Source
from mta.net.outbound import OutboundConnection
from mta.net.pool import Pool, PoolLimits, PoolStats
from mta.reply import Reply

IDLE_SITES = 5000
"""Sites without connections that are kept, for their counters of connections and nothing else."""
HOSTS = 20_000
"""Hosts that failed lately and are remembered; the one that failed first is forgotten."""
NAMES = 50_000
"""Domains whose site is remembered, about 200 octets each."""


@dataclass(slots=True, frozen=True)
class SiteKey:
    """What deliveries must have in common to share connections."""

    name: str
    """The hosts (`mta.delivery.mx.site_name`)."""
    port: int
    source: str
    """Name of the source addresses, "" for the default."""
    helo: str


class Site:
    """Connections to the hosts of one site."""

    __slots__ = ("helo", "key", "pool", "source", "users")

    def __init__(self, key: SiteKey, source: Source, helo: str, limits: PoolLimits) -> None:
        """`source` and `helo` are what the names in `key` mean."""
        self.key = key
        self.source = source
        self.helo = helo
        self.pool = Pool(_nobody, limits)
        self.users = 0
        """Deliveries under way."""

    @property
    def is_idle(self) -> bool:
        """True when it can be forgotten."""
        return not self.users and not self.pool.size and not self.pool.waiting


class Sites:
    """The sites of one process."""

    def __init__(self, make: Callable[[SiteKey], Site]) -> None:
        """`make` makes the site of a key."""
        self._make = make
        self._sites: OrderedDict[SiteKey, Site] = OrderedDict()
        self._gone = PoolStats()
        """Counters of sites that are forgotten."""

    def __len__(self) -> int:
        return len(self._sites)

    def enter(self, key: SiteKey) -> Site:
        """The site of a key; `leave` it when the delivery is over."""
        site = self._sites.get(key)
        if site is None:
            self._make_room()
            site = self._sites[key] = self._make(key)
        else:
            self._sites.move_to_end(key)
        site.users += 1
        return site

    def leave(self, site: Site) -> None:
        """A delivery is over."""
        site.users -= 1

    def all(self) -> list[Site]:
        """Every site there is."""
        return list(self._sites.values())

    def figures(self) -> SiteFigures:
        """Connections and counters of all sites together."""
        total = SiteFigures()
        total.add(self._gone)
        for site in self._sites.values():
            total.size += site.pool.size
            total.idle += site.pool.idle
            total.waiting += site.pool.waiting
            total.add(site.pool.stats)
        return total

    def _make_room(self) -> None:
        """Forget the sites that nobody has used for longest, some at a time."""
        if len(self._sites) < IDLE_SITES:
            return
        # Those in use stand anywhere; each look is paid by the site that is made.
        for key in list(islice(self._sites, 10)):
            site = self._sites[key]
            if site.is_idle:
                _add(self._gone, site.pool.stats)
                del self._sites[key]
            else:
                self._sites.move_to_end(key)


class SiteFigures:
    """The figures of many pools as those of one, for metrics."""

    __slots__ = ("idle", "size", "stats", "waiting")

    def __init__(self) -> None:
        """Nothing yet."""
        self.size = self.idle = self.waiting = 0
        self.stats = PoolStats()

    def add(self, stats: PoolStats) -> None:
        """Count the counters of a pool in."""
        _add(self.stats, stats)


def _add(total: PoolStats, more: PoolStats) -> None:
    total.opened += more.opened
    total.failed += more.failed
    total.reused += more.reused
    total.waited += more.waited
    total.refused += more.refused


class Hosts:
    """How the hosts of the world fare: those that failed are remembered."""

    def __init__(self) -> None:
        self._failed: OrderedDict[tuple[str, int], Health] = OrderedDict()

    def health(self, host: str, port: int) -> Health:
        """The state of a host; to be noted with `failed` when it has changed for the worse."""
        return self._failed.get((host, port)) or Health()

    def failed(self, host: str, port: int, health: Health) -> None:
        """It failed."""
        self._failed[host, port] = health
        self._failed.move_to_end((host, port))
        while len(self._failed) > HOSTS:
            self._failed.popitem(last=False)

    def worked(self, host: str, port: int) -> None:
        """It answered."""
        if self._failed:
            health = self._failed.pop((host, port), None)
            if health is not None:
                health.worked()


class SiteNames:
    """Which site the next hops of the queue belong to, as far as that is known."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()

    def learn(self, hop: str, site: str) -> None:
        """`hop` ("mx/example.org") is served by a site."""
        self._known[hop] = f"mx/({site})"
        self._known.move_to_end(hop)
        while len(self._known) > NAMES:
            self._known.popitem(last=False)

    def forget(self, hop: str) -> None:
        """It is served by none."""
        self._known.pop(hop, None)

    def __call__(self, hop: str) -> str:
        """The name under which the limits of a next hop are kept."""
        return self._known.get(hop, hop)


def is_shared(name: str) -> bool:
    """Whether a name of `SiteNames` is that of hosts, which other domains may have, too."""
    return name.startswith("mx/(")


async def _nobody(deadline: float) -> OutboundConnection:
    raise ConnectFailure(Reply(451, "4.4.1", "The next server cannot be reached at the moment", "no host"))
