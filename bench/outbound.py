"""Delivery to any domain: verified DANE to 50 destinations, and 10,000 destinations of which many are bad.

`outbound_dane` sends messages of 4 kB over TLS with verified TLSA records to a sink on loopback, which is a
process of its own: over connections that are open (warm), and each over a new one (cold). Beside it Postfix
does the same from its queue (`bench.outbound_postfix`); ours has no queue before it here. The DNS is a signed
one of our own, nsd and Unbound (`tests.peers.dnsworld`). The transport runs alone, without a daemon before
it. Messages a second by the clock, microseconds of processor time by our own process.

`outbound_mixed` is told about in `bench.outbound_mixed`.
"""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections.abc import Awaitable, Callable, Iterable

import uvloop

from bench.command import Options, run
from bench.figures import Figure
from bench.outbound_sink import DESTINATIONS
from bench.outbound_world import dane_world
from bench.workplace import free_port
from mta.address import parse_address
from mta.content import MessageBuffer
from mta.delivery.lookup import Lookup, Ourselves
from mta.delivery.outcome import Outcome
from mta.delivery.remote import RemoteSettings, RemoteTransport
from mta.delivery.security.requirement import Security
from mta.envelope import Envelope, Recipient
from mta.net.outbound import Timeouts
from mta.net.pool import PoolLimits
from mta.net.resolver.base import Resolver

OCTETS = 4096
WARM, COLD = 4000, 400
"""Messages of one measurement."""


async def deliver(to: RemoteTransport, domain: str, content: MessageBuffer) -> Outcome:
    """One message to one recipient of a domain."""
    deadline = asyncio.get_running_loop().time() + 60
    envelope = Envelope(parse_address("a@us.test"))
    (outcome,) = await to.deliver(envelope, [Recipient(parse_address(f"b@{domain}"))], content, deadline)
    return outcome


async def _all(domains: Iterable[str], tasks: int, work: Callable[[str], Awaitable[None]]) -> None:
    """Work through domains with so many tasks."""
    left = iter(domains)

    async def worker() -> None:
        for domain in left:
            await work(domain)

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(worker())


def message() -> MessageBuffer:
    """A message of the usual size."""
    made = MessageBuffer()
    head = b"From: a@us.test\r\nTo: b@d.test\r\nSubject: bench\r\n\r\n"
    line = b"a line of text with some words in it, about seventy columns wide\r\n"
    made.append((head + line * (OCTETS // len(line) + 1))[: OCTETS - 2] + b"\r\n")
    return made


# DANE.


def measure_dane(options: Options) -> list[Figure]:
    """Warm and cold connections."""
    from bench.outbound_postfix import measure_postfix
    from mta.net.resolver.stub import Stub

    # Alone, before ours: it needs port 25 and a file of /etc for itself.
    postfix = None if options.quick else measure_postfix()
    port = free_port()
    with dane_world(port) as (dns, _):
        return uvloop.run(_dane(lambda: Stub([dns.resolver]), port, options, postfix))


async def _dane(
    resolver: Callable[[], Resolver], port: int, options: Options, postfix: tuple[float, float] | None
) -> list[Figure]:
    figures: list[Figure] = []
    for name, idle, count in (("", 60.0, WARM), ("_cold", 0.0, COLD)):
        rounds = [
            await _dane_round(resolver(), port, idle, count // (4 if options.quick else 1))
            for _ in range(1 if options.quick else 3)
        ]
        rate, cpu = sorted(rounds)[len(rounds) // 2]
        peer, peer_cpu = (None, None) if idle == 0 or postfix is None else postfix
        figures += [
            Figure(f"outbound_dane{name}", rate, "messages/s", peer, rate=True),
            Figure(f"outbound_dane{name}_cpu", cpu, "us", peer_cpu),
        ]
    return figures


class _Quiet:
    def warning(self, event: str, **fields: object) -> None:
        """Nobody reads it."""

    error = warning


async def _dane_round(resolver: Resolver, port: int, idle: float, count: int) -> tuple[float, float]:
    from mta.delivery.security.memory import Memory
    from mta.delivery.security.provider import OutboundSecurity, SecuritySettings

    settings = SecuritySettings(signed_names=("good.test",), broken_names=("expired.test",))
    security = OutboundSecurity(settings, resolver, Memory(None), _Quiet(), now=time.time)
    to = transport(
        resolver, security, port, PoolLimits(max_connections=20, idle_time=idle, messages_per_connection=0)
    )
    content = message()
    domains = [f"d{n % DESTINATIONS + 1}.bench.test" for n in range(count)]

    async def send(domain: str) -> None:
        outcome = await deliver(to, domain, content)
        assert outcome.reply.code == 250, outcome
        assert outcome.passage is not None
        assert outcome.passage.tls == "dane", outcome

    await security.probe(asyncio.get_running_loop().time() + 10)
    await _all(domains[: DESTINATIONS * 2], DESTINATIONS, send)  # the DNS is known then
    begun, cpu = time.perf_counter(), _cpu()
    await _all(domains, DESTINATIONS, send)
    seconds, spent = time.perf_counter() - begun, _cpu() - cpu
    await to.close()
    await security.close()
    resolver.close()  # type: ignore[attr-defined]
    return count / seconds, spent / count * 1e6


def transport(resolver: Resolver, security: Security, port: int, pool: PoolLimits) -> RemoteTransport:
    """What is measured."""
    timeouts = Timeouts(connect=8.0, greeting=20.0, command=20.0)
    settings = RemoteSettings("us.test", port=port, timeouts=timeouts, pool=pool)
    return RemoteTransport(
        settings, Lookup(resolver, Ourselves(), timeout=5.0), security, {}, rng=random.Random(1)
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(options: Options) -> list[Figure]:
    """Everything."""
    from bench.outbound_mixed import measure_mixed

    return measure_dane(options) + measure_mixed(options)


if __name__ == "__main__":
    run("outbound", measure)
