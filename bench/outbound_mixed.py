"""Delivery to 10,000 destinations of which 30 % are bad: what the live ones notice of them.

One message goes to each domain, and messages come at a steady pace, as first tries do. The figure is the mean
time of a delivery to a live domain, with the bad ones over without them: 1 is not slowed at all. Of the bad
ones a quarter each refuse connections, do not answer at all, greet after seconds, and greylist. The servers
are a process of their own and answer after 20 ms (`bench.outbound_sink`); the DNS is a table in this process,
which collects garbage as a worker does. The same through the queue of the whole daemon, all at once, is in
`bench.outbound_daemon`.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable

import uvloop

from bench.command import Options
from bench.figures import Figure
from bench.outbound import deliver, message, transport
from bench.outbound_sink import KINDS, running_sink
from bench.workplace import free_port
from mta.delivery.security.requirement import Level, OpportunisticSecurity
from mta.net.connect import ClientTls
from mta.net.pool import PoolLimits
from mta.net.resolver.fake import FakeResolver
from mta.net.tls import client_context
from mta.worker import GC_ALLOCATIONS

DOMAINS = 10_000
BAD = 0.3
PACE = 300.0
"""Messages a second that come."""

Send = Callable[[str], Awaitable[float]]
"""Delivers to a domain: the seconds that it took."""


def kinds_of(count: int) -> dict[str, str]:
    """What so many domains are, by name; the same in each run."""
    rng = random.Random(3)
    bad = [kind for kind in KINDS if kind != "live"]
    return {f"d{n}.many.test": rng.choice(bad) if rng.random() < BAD else "live" for n in range(count)}


def measure_mixed(options: Options) -> list[Figure]:
    """Live domains with bad ones among them, over live ones alone."""
    port = free_port()
    kinds = kinds_of(DOMAINS // (10 if options.quick else 1))
    with running_sink(str(port)):
        alone = uvloop.run(_mixed({d: kind for d, kind in kinds.items() if kind == "live"}, port))
        beside = uvloop.run(_mixed(kinds, port))
    print(f"a delivery to a live domain: {alone * 1e3:.1f} ms, with bad ones {beside * 1e3:.1f} ms")
    return [Figure("outbound_mixed", beside / alone, "times")]


async def _mixed(kinds: dict[str, str], port: int) -> float:
    """The mean time of a delivery to a live domain."""
    loop = asyncio.get_running_loop()
    dns = FakeResolver()
    for domain, kind in kinds.items():
        dns.add(domain, "MX", f"10 mx.{domain}")
        dns.add(f"mx.{domain}", "A", KINDS[kind])
    may = OpportunisticSecurity({Level.MAY: ClientTls(client_context("may"), required=False)})
    to = transport(dns, may, port, PoolLimits(max_connections=20, idle_time=0))
    content = message()
    times: list[float] = []

    async def send(domain: str) -> None:
        begun = loop.time()
        outcome = await deliver(to, domain, content)
        if kinds[domain] == "live":
            assert outcome.reply.code == 250, outcome
            times.append(loop.time() - begun)

    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
    begun = loop.time()
    async with asyncio.TaskGroup() as group:
        for number, domain in enumerate(kinds):
            await asyncio.sleep(max(0.0, begun + number / PACE - loop.time()))
            group.create_task(send(domain))
    await to.close()
    gc.unfreeze()
    return sum(times) / len(times)
