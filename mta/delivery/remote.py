"""Delivery to any domain: `RemoteTransport` finds the hosts, connects to the best one, and sends.

It is the transport of the next hops "mx" and "smtp" (`mta.delivery.way`); where a recipient goes is read from
its route and its domain. Hosts are tried in the order of their preference, equals in random order, those that
failed lately last; within one host all addresses are tried. What goes wrong is one of three things:

* a proof that there is nobody: permanent (`mta.delivery.mx`);
* no host can be reached as securely as it must be: temporary, the text says what the last one said;
* a host answers: its words, unchanged.

A host that fails before the message was handed over is followed by the next one within the same deadline. The
line that is never crossed is that of `mta.delivery.job`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mta.content import Content
from mta.delivery.destination import LEVELS, Destination, DestinationKey, Destinations
from mta.delivery.hostline import HostLine
from mta.delivery.job import Job
from mta.delivery.lookup import Lookup
from mta.delivery.outcome import NextHop, Outcome, Passage, Told, Transport, placed
from mta.delivery.security.requirement import Level, Security, Wishes
from mta.delivery.security.tlsrequired import tls_optional
from mta.delivery.sites import Hosts, Site, SiteFigures, SiteKey, SiteNames, Sites
from mta.delivery.transact import transact
from mta.delivery.way import USUAL, Way, WayError, is_way, parse_way
from mta.envelope import Envelope, Recipient
from mta.net.dial import BadAddresses, Source
from mta.net.outbound import Timeouts
from mta.net.pool import PoolLimits
from mta.reply import Reply
from mta.smtp.relaying import CANNOT

MAX_HOSTS_TRIED = 5
"""Hosts that one delivery may reach and lose again: more would be a waste of everybody's time."""

WAY_UNKNOWN = "the route is not known any more"


@dataclass(slots=True, frozen=True)
class RemoteSettings:
    """How the world is served."""

    helo: str
    """Our name for EHLO where neither route nor source says another."""
    port: int = 25
    """Of the hosts that MX records name."""
    source: str = ""
    """Name of the source addresses that are used where a route names none."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    helos: Mapping[str, str] = field(default_factory=dict)
    """Our names by source."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    pool: PoolLimits = field(default_factory=PoolLimits)
    """For each site, in one process."""
    recipient_limit: int = 100
    """Recipients in one transaction (RFC 5321 section 4.5.3.1.8)."""
    failure_delay: float = 60.0
    """Seconds for which a host that failed is tried last, more after each further failure."""


class RemoteTransport:
    """A `Transport` to the hosts of the world."""

    introduces = False

    def __init__(
        self,
        settings: RemoteSettings,
        lookup: Lookup,
        security: Security,
        others: Mapping[str, Transport],
        *,
        rng: random.Random | None = None,
    ) -> None:
        """`others` are the configured transports, for fallbacks."""
        self.settings = settings
        self.security = security
        self.destinations = Destinations(lookup, security)
        self.sites = Sites(self._make_site)
        self.hosts = Hosts()
        self.bad = BadAddresses()
        self.names = SiteNames()
        self.rng = rng or random.Random()
        self._others = others

    @property
    def pools(self) -> Mapping[str, SiteFigures]:
        """Connections of all sites together, for metrics."""
        return {"mx": self.sites.figures()}

    async def prepare(self, hop: NextHop, deadline: float) -> None:
        """Find out which site a next hop belongs to, so that its limits are known."""
        target, semicolon, options = hop.host.partition(";")
        try:
            if hop.transport == "smtp":
                way, target = parse_way(f"smtp:{hop.host}"), ""
            else:
                way = parse_way(f"mx{semicolon}{options}")
        except WayError:
            return
        found = await self.destinations.find(self._key(way, target, Wishes()), deadline)
        if not isinstance(found, Reply):
            self.names.learn(f"{hop.transport}/{hop.host}", found.site)

    async def deliver(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        content: Content,
        deadline: float,
        client: Mapping[str, str] | None = None,
        told: Told | None = None,
    ) -> list[Outcome]:
        """See `Transport.deliver`."""
        groups: dict[tuple[str, str], list[int]] = {}
        for index, recipient in enumerate(recipients):
            groups.setdefault((recipient.route, recipient.address.domain), []).append(index)
        if len(groups) == 1:
            return await self._group(next(iter(groups)), envelope, recipients, content, deadline, told)
        # One after the other: the queue allows one session for all of them, and it is the same site's.
        outcomes: dict[int, Outcome] = {}
        for key, indices in groups.items():
            mine = placed(told, indices)
            some = await self._group(key, envelope, [recipients[i] for i in indices], content, deadline, mine)
            outcomes.update(zip(indices, some, strict=True))
            if told is not None and len(outcomes) < len(recipients):
                told(list(zip(indices, some, strict=True)))
        return [outcomes[index] for index in range(len(recipients))]

    async def close(self) -> None:
        """End idle connections politely, then all others."""
        async with asyncio.TaskGroup() as group:
            for site in self.sites.all():
                group.create_task(site.pool.close())

    # --- one destination -----------------------------------------------------------------------------

    async def _group(
        self,
        where: tuple[str, str],
        envelope: Envelope,
        recipients: Sequence[Recipient],
        content: Content,
        deadline: float,
        told: Told | None,
    ) -> list[Outcome]:
        route, domain = where
        try:
            way = parse_way(route) if is_way(route) else USUAL
        except WayError as error:
            reply = Reply(451, "4.3.5", WAY_UNKNOWN, f"{route}: {error}")
            return [Outcome(recipient, reply, "") for recipient in recipients]
        if way.source and way.source not in self.settings.sources:
            reply = Reply(451, "4.3.5", WAY_UNKNOWN, f"there is no source {way.source}")
            return [Outcome(recipient, reply, "") for recipient in recipients]
        wishes = Wishes(envelope.require_tls, tls_optional(content.head))
        key = self._key(way, domain, wishes)
        found = await self.destinations.find(key, deadline)
        hop = way.next_hop(domain)
        if isinstance(found, Reply):
            self.names.forget(f"{hop.transport}/{hop.host}")
            outcomes = [Outcome(recipient, found, "", passage=Passage("", "")) for recipient in recipients]
        else:
            self.names.learn(f"{hop.transport}/{hop.host}", found.site)
            outcomes = await self._serve(found, envelope, recipients, content, deadline, told)
        if way.fallback:
            outcomes = await self._fall_back(way, outcomes, envelope, content, deadline, told)
        return outcomes

    async def _serve(
        self,
        found: Destination,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        content: Content,
        deadline: float,
        told: Told | None,
    ) -> list[Outcome]:
        job = Job(envelope, recipients, content, deadline, None, asyncio.get_running_loop(), told)
        job.passage = Passage(found.site, "")
        if not job.read():
            return job.result()
        site = self.sites.enter(self._site_key(found))
        try:
            line = HostLine(self, found, site)
            await line.prepare(deadline)
            for _ in range(MAX_HOSTS_TRIED):
                await transact(line, job)
                if not job.pending or job.is_late or line.is_exhausted:
                    break
        finally:
            self.sites.leave(site)
        return job.result()

    async def _fall_back(
        self,
        way: Way,
        outcomes: list[Outcome],
        envelope: Envelope,
        content: Content,
        deadline: float,
        told: Told | None,
    ) -> list[Outcome]:
        """Try another way for those whose own could not be gone."""
        left = [index for index, outcome in enumerate(outcomes) if _is_unreached(outcome)]
        if not left:
            return outcomes
        if told is not None and len(left) < len(outcomes):
            told([(n, outcome) for n, outcome in enumerate(outcomes) if not _is_unreached(outcome)])
        recipients = [outcomes[index].recipient for index in left]
        told = placed(told, left)
        name = way.fallback
        if name.startswith("smtp:"):
            if LEVELS[way.tls] > Level.MAY:  # who keeps us from the host must not gain clear text by it
                name += f";tls={way.tls}"
            again = await self._group((name, ""), envelope, recipients, content, deadline, told)
        else:
            other = self._others.get(name)
            if other is None:
                return outcomes
            again = await other.deliver(envelope, recipients, content, deadline, told=told)
        for index, outcome in zip(left, again, strict=True):
            if not _is_our_refusal(outcome.reply):
                outcomes[index] = outcome
        return outcomes

    def _key(self, way: Way, domain: str, wishes: Wishes) -> DestinationKey:
        if way.tls:
            wishes = Wishes(wishes.require_tls, wishes.tls_optional, LEVELS[way.tls])
        return DestinationKey(way, "" if way.host else domain, wishes)

    def _site_key(self, found: Destination) -> SiteKey:
        way, settings = found.key.way, self.settings
        source = way.source or settings.source
        helo = way.helo or settings.helos.get(source) or settings.helo
        return SiteKey(found.site, way.port if way.kind == "smtp" else settings.port, source, helo)

    def _make_site(self, key: SiteKey) -> Site:
        source = self.settings.sources.get(key.source) or Source()
        return Site(key, source, key.helo, self.settings.pool)


def _is_unreached(outcome: Outcome) -> bool:
    """True when no server has said anything about a recipient, and none may have the message."""
    return outcome.reply.is_temporary and bool(outcome.reply.cause) and not outcome.sent


def _is_our_refusal(reply: Reply) -> bool:
    """True when it is we who say that a fallback will never do: mail waits for its own way then."""
    return reply.is_permanent and (bool(reply.cause) or reply in CANNOT)
