"""The ways that mail takes from a worker: back ends, relays, content filters, and the world."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta import assembly, config
from mta.daemon_filters import filter_transports
from mta.delivery.fixed import FixedTransport
from mta.delivery.outcome import BACKEND, RELAY, PooledTransport

if TYPE_CHECKING:
    from mta.daemon_world import World
    from mta.net.resolver.stub import Stub


@dataclass(slots=True, frozen=True)
class Ways:
    """The transports of a worker."""

    fixed: dict[str, FixedTransport]
    """To configured servers: "backend:NAME", "relay:NAME", "filter:NAME"."""
    every: dict[str, PooledTransport]
    """These, and "mx" and "smtp" where mail may go into the world."""
    world: World | None


def build_transports(
    settings: config.Config,
    workers: int,
    resolver: Stub | None,
    parts: AsyncExitStack,
    read_secret: Callable[[str], str],
) -> Ways:
    """Make all transports; nothing is connected yet. They are closed with `parts`.

    What `read_secret` raises for a password file comes out.
    """
    hostname = settings.identity.hostname
    fixed: dict[str, FixedTransport] = {}
    for name, backend in settings.backends.items():
        fixed[f"{BACKEND}{name}"] = FixedTransport(assembly.backend(name, backend, hostname, workers))
    for name, relay in settings.relays.items():
        fixed[f"{RELAY}{name}"] = FixedTransport(assembly.relay(name, relay, hostname, workers, read_secret))
    fixed.update(filter_transports(settings, workers))
    for transport in fixed.values():
        parts.push_async_callback(transport.close)
    every: dict[str, PooledTransport] = dict(fixed)
    if not settings.outbound.enabled or resolver is None:
        return Ways(fixed, every, None)
    from mta.daemon_world import World  # only where it is needed: it takes time to import

    world = World(settings, workers, resolver, every, read_secret)
    parts.push_async_callback(world.close)
    every["mx"] = every["smtp"] = world.remote
    parts.push_async_callback(world.remote.close)
    return Ways(fixed, every, world)
