"""Delivery to any domain, put together from the configuration: the part of `mta.daemon` about it.

Imported only where [outbound] is enabled: it brings the DNS library, SQLite and TLS contexts along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from mta import assembly_world, config
from mta.daemon_security import SecurityService
from mta.delivery.lookup import Lookup
from mta.delivery.outcome import Transport
from mta.delivery.remote import RemoteTransport
from mta.metrics import Stats
from mta.net.interfaces import own_addresses
from mta.net.resolver.base import Resolver
from mta.spool.hops import Naming, source_of
from mta.spool.reports import Route, Sign
from mta.spool.service import QueueService


class World:
    """The transport to the world of a worker, and what protects it."""

    def __init__(
        self,
        settings: config.Config,
        workers: int,
        resolver: Resolver,
        others: Mapping[str, Transport],
        read_secret: Callable[[str], str],
    ) -> None:
        """`others` are the configured transports, for fallbacks; it may grow later.

        Raises ValueError and OSError for what the administrator must mend.
        """
        lookup = Lookup(
            resolver,
            assembly_world.ourselves(settings, own_addresses),
            timeout=settings.dns.timeout,
            six=settings.outbound.ipv6,
        )
        self._service = SecurityService(settings, resolver)
        self.remote = RemoteTransport(
            assembly_world.remote(settings, workers, read_secret),
            lookup,
            self._service.security,
            others,
        )
        self.naming = Naming(
            self.remote.names, self.remote.prepare, partial(source_of, settings.outbound.source)
        )

    def begin(self, queue: QueueService | None, route: Route, sign: Sign | None) -> None:
        """Probe the resolver and send reports from here on; they go through the queue, if there is one."""
        self._service.start(
            lambda: None if queue is None else queue.queue,
            route,
            None if queue is None else queue.added,
            sign,
        )

    def measure(self, stats: Stats) -> None:
        """Set the counters of how securely mail goes."""
        for name, number in self._service.security.figures.items():
            stats.outbound_security[name] = number

    async def close(self) -> None:
        """Write what is to be kept. Connections are closed with the other transports."""
        await self._service.close()
