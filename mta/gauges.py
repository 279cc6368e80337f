"""What is counted elsewhere, brought into the metrics when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mta.delivery.outcome import PooledTransport
from mta.metrics import Stats
from mta.net.listener import Listener
from mta.net.tls import ServerTls


def measure(
    stats: Stats,
    listeners: Iterable[Listener],
    noise: Mapping[str, int],
    transports: Iterable[PooledTransport],
    tls: Iterable[ServerTls],
) -> None:
    """Set the counters and gauges of connections, pools and certificates.

    `noise` counts what the event loop reported on its own (`mta.net.noise`).
    """
    for listener in listeners:
        for event, number in listener.counts.items():
            stats.connections[event, listener.settings.name] = number
    for event, number in noise.items():
        stats.connections[event, ""] = number
    for transport in transports:
        for peer, pool in transport.pools.items():
            stats.pool_open[peer] = pool.size
            stats.pool_idle[peer] = pool.idle
            stats.pool_waiting[peer] = pool.waiting
            stats.pool_connects["opened", peer] = pool.stats.opened
            stats.pool_connects["failed", peer] = pool.stats.failed
            stats.pool_reused[peer] = pool.stats.reused
            stats.pool_waits[peer] = pool.stats.waited
            stats.pool_refused[peer] = pool.stats.refused
    for server in tls:
        for name, end in server.expiry.items():
            stats.certificate_expiry_seconds[name] = end.timestamp()
