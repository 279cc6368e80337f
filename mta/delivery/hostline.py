"""The hosts of one destination for one delivery: which one is tried next, and how it is connected to.

A `HostLine` is the `Line` of `mta.delivery.transact`: its connections are those of the site, of which only
those may be used that are as secure as this destination needs (`Requirement.is_met_by`). A new connection
goes to the best host that answers. Each handshake is reported to `mta.delivery.security`, good or bad.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mta.delivery.destination import Destination
from mta.delivery.health import Health, candidates
from mta.delivery.job import NO_SERVER, Job
from mta.delivery.mx import Addresses, in_turn, loop, nowhere
from mta.delivery.outcome import Passage
from mta.delivery.security.requirement import Requirement, Result
from mta.delivery.sites import Site
from mta.hostport import host_port
from mta.net.connect import ConnectFailure, Endpoint, connect, first_that_serves
from mta.net.dial import Dialer
from mta.net.outbound import OutboundConnection
from mta.reply import Reply
from mta.smtp.opening import ClientSettings
from mta.smtp.relaying import NEEDS_TLS

if TYPE_CHECKING:
    from mta.delivery.remote import RemoteTransport


@dataclass(slots=True, frozen=True)
class Note:
    """What is kept with a connection."""

    host: str
    requirement: Requirement
    tls: str
    """As in `Passage.tls`."""


class HostLine:
    """See the module."""

    def __init__(self, transport: RemoteTransport, found: Destination, site: Site) -> None:
        """For a delivery to `found` by the transport; `site` has the connections."""
        self._transport = transport
        self._found = found
        self._site = site
        self._names: list[str] = []
        self._ranks: dict[str, int] = {}
        for rank, names in enumerate(in_turn(found.mx.hosts, transport.rng)):
            self._names += names
            self._ranks.update(dict.fromkeys(names, rank))
        self._cut = len(self._names)
        """Ranks from here on are not used: one of them is ourselves."""
        self._tried: set[str] = set()
        self._refusals: dict[str, Reply] = {}
        """Why hosts have no address, or may not be used."""

    @property
    def recipient_limit(self) -> int:
        """See `Line`."""
        return self._transport.settings.recipient_limit

    @property
    def is_exhausted(self) -> bool:
        """True when every host was tried."""
        return len(self._tried) >= len(self._names)

    async def prepare(self, deadline: float) -> None:
        """Know what is demanded of the hosts that connections are open to."""
        for connection in self._site.pool.idle_connections:
            note = connection.note
            if isinstance(note, Note) and note.host not in self._found.requirements:
                await self._requirement(note.host, deadline)

    # --- Line ----------------------------------------------------------------------------------------

    def take(self) -> OutboundConnection | None:
        """See `Line`."""
        return self._site.pool.take(self._fits)

    async def acquire(self, deadline: float, *, fresh: bool) -> OutboundConnection:
        """See `Line`."""
        return await self._site.pool.acquire(deadline, fresh=fresh, fits=self._fits, connect=self._connect)

    def release(self, connection: OutboundConnection) -> None:
        """See `Line`."""
        self._site.pool.release(connection)

    def worked(self, connection: OutboundConnection) -> None:
        """See `Line`."""
        self._transport.hosts.worked(_note(connection).host, self._site.key.port)

    def failed(self, connection: OutboundConnection, reply: Reply) -> None:
        """See `Line`."""
        host = _note(connection).host
        self._tried.add(host)
        self._host_failed(host, self._health(host), reply)

    def describe(self, job: Job, connection: OutboundConnection) -> None:
        """See `Line`."""
        job.peer = connection.peer_name
        job.passage = Passage(self._found.site, _note(connection).tls)

    # --- connecting ----------------------------------------------------------------------------------

    def _fits(self, connection: OutboundConnection) -> bool:
        note = connection.note
        if not isinstance(note, Note) or note.host in self._tried:
            return False
        if self._ranks.get(note.host, self._cut) >= self._cut:
            return False
        needed = self._found.requirements.get(note.host)
        met = isinstance(needed, Requirement) and needed.is_met_by(note.requirement)
        return met and self._passes_on(connection)

    def _passes_on(self, connection: OutboundConnection) -> bool:
        """Whether the server offers REQUIRETLS if need be: else another one may (RFC 8689 section 4.2.1)."""
        return not self._found.key.wishes.require_tls or "REQUIRETLS" in connection.session.peer.offered

    async def _connect(self, deadline: float) -> OutboundConnection:
        """A connection to the best host that answers. Raises ConnectFailure."""
        now = asyncio.get_running_loop().time
        failure: ConnectFailure | None = None
        for host in self._order():
            if host in self._tried or self._ranks[host] >= self._cut:
                continue
            addresses = await self._usable(host, deadline)
            if addresses is None:
                continue
            self._tried.add(host)
            health = self._health(host)
            health.probing = health.failures > 0
            try:
                connection = await self._open(host, addresses, deadline)
                if self._passes_on(connection):
                    self._tried.discard(host)
                    return connection
                connection.quit()
                self._refusals[host] = replace(NEEDS_TLS, cause=f"{host} does not offer REQUIRETLS")
            except ConnectFailure as error:
                if failure is None or _says_more(error, failure):
                    failure = error
                if error.tls_failure is None:  # else this domain demands more than it has: others may not
                    self._host_failed(host, health, error.reply)
            finally:
                health.probing = False
            if now() >= deadline:
                break
        raise failure or ConnectFailure(self._nobody())

    def _order(self) -> Iterator[str]:
        """The hosts, best first; what happens meanwhile counts."""
        healths = [self._health(name) for name in self._names]
        now = asyncio.get_running_loop().time()
        for index in candidates(healths, now):
            yield self._names[index]

    def _nobody(self) -> Reply:
        """Why no host was tried; permanent only if that is so of each of them."""
        if self._cut == 0:
            return loop(self._found.mx.domain, self._names[0])
        left = [name for name in self._names if self._ranks[name] < self._cut and name not in self._refusals]
        everything = list(self._refusals.values())
        refusals = [one for one in everything if one.is_temporary]
        if not refusals and not left:
            refusals = everything
        if refusals:
            securely = [one for one in refusals if not one.enhanced.startswith(("4.4.", "5.4."))]
            return securely[0] if securely else nowhere(self._found.mx.domain, refusals)
        for name in left:
            last = self._health(name).last
            if last is not None and last.is_temporary:
                return last
        return NO_SERVER

    async def _usable(self, host: str, deadline: float) -> Addresses | None:
        """The addresses of a host that may be used; None, with the reason noted, for one that may not."""
        rank = self._ranks[host]
        if not await self._is_other(rank, deadline):
            self._cut = rank
            return None
        needed = await self._requirement(host, deadline)
        if isinstance(needed, Reply):
            self._refusals[host] = needed
            self._tried.add(host)
            return None
        found = self._found.addresses[host]
        return found if isinstance(found, Addresses) else None

    async def _is_other(self, rank: int, deadline: float) -> bool:
        """False when a host of a rank is ourselves: then no host of that rank is used, nor any after it."""
        lookup = self._transport.destinations.lookup
        names = [name for name in self._names if self._ranks[name] == rank]
        unknown = [name for name in names if name not in self._found.addresses]
        if len(unknown) == 1:
            await self._addresses(unknown[0], deadline)
        elif unknown:
            async with asyncio.TaskGroup() as group:
                for name in unknown:
                    group.create_task(self._addresses(name, deadline))
        if self._found.mx.routed:
            return True
        found = [self._found.addresses[name] for name in names]
        return not any(isinstance(one, Addresses) and lookup.is_us(one) for one in found)

    async def _addresses(self, host: str, deadline: float) -> Addresses | Reply:
        families = self._site.source.families()
        return await self._transport.destinations.addresses(self._found, host, families, deadline)

    async def _requirement(self, host: str, deadline: float) -> Requirement | Reply:
        found = await self._addresses(host, deadline)
        if isinstance(found, Reply):
            return found
        port = self._site.key.port
        return await self._transport.destinations.requirement(self._found, found, port, deadline)

    async def _open(self, host: str, addresses: Addresses, deadline: float) -> OutboundConnection:
        """A connection to one host, whichever of its addresses serves us. Raises ConnectFailure."""
        transport, site = self._transport, self._site
        needed = self._found.requirements[host]
        assert isinstance(needed, Requirement)
        dialer = Dialer(
            addresses.addresses,
            site.key.port,
            site.source,
            transport.bad,
            transport.settings.timeouts.connect,
        )
        endpoint = Endpoint(host, site.key.port)
        settings = ClientSettings(helo_name=site.helo)

        def reach() -> Awaitable[OutboundConnection]:
            tls = transport.security.client_tls(needed)
            return connect(endpoint, settings, tls, transport.settings.timeouts, deadline, dialer)

        def failed(failure: ConnectFailure) -> bool:
            if failure.tls_failure is not None:
                cause = failure.reply.cause
                self._found.security.report(Result(needed, dialer.address, failure.tls_failure, cause))
            return True

        connection = await first_that_serves(dialer, reach, failed, deadline)
        self._opened(connection, host, needed, dialer.address)
        return connection

    def _opened(self, connection: OutboundConnection, host: str, needed: Requirement, address: str) -> None:
        peer = connection.session.peer
        tls = needed.level.name.lower() if peer.encrypted else "clear"
        connection.note = Note(host, needed, tls)
        port = self._site.key.port
        connection.peer_name = host_port(host, port) if host == address else f"{host}[{address}]:{port}"
        local = connection.transport.get_extra_info("sockname") if connection.usable else None
        if peer.encrypted or connection.tls_failure is not None:
            self._found.security.report(
                Result(
                    needed,
                    address,
                    connection.tls_failure,
                    connection.tls_detail,
                    helo=peer.greeting.partition(" ")[0],
                    local=str(local[0]) if local else "",
                )
            )

    # --- what is remembered of hosts -----------------------------------------------------------------

    def _health(self, host: str) -> Health:
        return self._transport.hosts.health(host, self._site.key.port)

    def _host_failed(self, host: str, health: Health, reply: Reply) -> None:
        transport = self._transport
        health.failed(asyncio.get_running_loop().time(), reply, transport.settings.failure_delay)
        transport.hosts.failed(host, self._site.key.port, health)


def _says_more(error: ConnectFailure, known: ConnectFailure) -> bool:
    """Whether the failure of a later host is what is told.

    What is wrong with TLS says more than that a backup does not answer. As long as one host may only be away
    the mail is not returned, whatever the others say.
    """
    return known.tls_failure is None and not (known.reply.is_temporary and error.reply.is_permanent)


def _note(connection: OutboundConnection) -> Note:
    note = connection.note
    assert isinstance(note, Note)
    return note
