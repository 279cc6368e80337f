"""Delivery to any domain: verified DANE to 50 destinations, and 10,000 destinations of which many are bad.

`outbound_dane` sends messages of 4 kB over TLS with verified TLSA records to a sink on loopback, which is a
process of its own: over connections that are open (warm), and each over a new one (cold). Beside it Postfix
does the same from its queue (`bench.outbound_postfix`); ours has no queue before it here. The DNS is a signed
one of our own, nsd and Unbound (`tests.peers.dnsworld`). The transport runs alone, without a daemon before
it. Messages a second by the clock, microseconds of processor time by our own process.

`outbound_mixed` sends one message to each of 10,000 domains; 30 % of them are dead (refuse connections), slow
(greet after seconds) or greylisting. It runs in this process with scripted servers, which answer after
`DELAY`, and a DNS that is a table. Messages come at a steady pace, as first tries do. The figure is the mean
time of a delivery to a live domain, with the bad ones over without them: 1 is not slowed at all.
`outbound_mixed_burst` offers all of them at once, `TASKS` under way: the time until the last live domain has
its mail, with the bad ones over without them. There the processor is what is short, and the bad ones, the
servers and the DNS have their share of it in the same process.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path

import uvloop

from bench.command import Options, run
from bench.figures import Figure
from bench.workplace import free_port
from mta.address import parse_address
from mta.content import MessageBuffer
from mta.delivery.lookup import Lookup, Ourselves
from mta.delivery.outcome import Outcome
from mta.delivery.remote import RemoteSettings, RemoteTransport
from mta.delivery.security.requirement import Level, OpportunisticSecurity, Security
from mta.envelope import Envelope, Recipient
from mta.net.connect import ClientTls
from mta.net.outbound import Timeouts
from mta.net.pool import PoolLimits
from mta.net.resolver.base import Resolver
from mta.net.resolver.fake import FakeResolver
from mta.net.tls import client_context

DESTINATIONS = 50
OCTETS = 4096
WARM, COLD = 4000, 400
"""Messages of one measurement."""
DOMAINS = 10_000
BAD = 0.3
TASKS = 1000
"""Deliveries under way at once: what the queue's runner allows."""
PACE = 300.0
"""Messages a second that come."""
DELAY = 0.02
"""Seconds after which a server answers."""
GREETS_AFTER = 3.0
"""Seconds after which a slow server greets."""


class Sink(asyncio.Protocol):
    """An SMTP server that takes everything; `behaviour` is "live", "slow" or "grey"."""

    taken = 0
    """Messages of all connections."""

    def __init__(
        self, context: ssl.SSLContext | None = None, behaviour: str = "live", delay: float = 0.0
    ) -> None:
        self._context = context
        self._behaviour = behaviour
        self._delay = delay
        self._rest = b""
        self._content = False
        self._secure = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if self._secure:
            return
        if self._behaviour == "slow":
            asyncio.get_running_loop().call_later(GREETS_AFTER, self._say, b"220 sink\r\n")
        else:
            self._say(b"220 sink\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        out = b""
        while data:
            if self._content:
                end = data.find(b"\r\n.\r\n")
                if end < 0:
                    break
                data, self._content = data[end + 5 :], False
                Sink.taken += 1
                out += b"250 2.0.0 taken\r\n"
                continue
            line, found, data = data.partition(b"\r\n")
            if not found:
                data = line
                break
            verb = line[:4].upper()
            if verb == b"EHLO":
                tls = b"250-STARTTLS\r\n" if self._context is not None and not self._secure else b""
                out += b"250-sink\r\n" + tls + b"250 PIPELINING\r\n"
            elif verb == b"STAR":
                self._say(b"220 go\r\n")
                self._rest = b""
                asyncio.get_running_loop().create_task(self._start_tls())
                return
            elif verb == b"RCPT" and self._behaviour == "grey":
                out += b"450 4.7.1 later\r\n"
            elif verb == b"DATA":
                self._content = self._behaviour != "grey"
                out += b"354 go\r\n" if self._content else b"503 5.5.1 no recipient\r\n"
            elif verb == b"COUN":
                out += b"250 %d\r\n" % Sink.taken
            elif verb == b"QUIT":
                self._say(out + b"221 2.0.0 bye\r\n")
                if self.transport is not None:
                    self.transport.close()
                return
            else:
                out += b"250 2.0.0 ok\r\n"
        self._rest = data
        if out:
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._say, out)
            else:
                self._say(out)

    async def _start_tls(self) -> None:
        assert self.transport is not None
        assert self._context is not None
        self._secure = True
        try:
            made = await asyncio.get_running_loop().start_tls(
                self.transport, self, self._context, server_side=True
            )
        except (OSError, ssl.SSLError):
            return  # the client is gone
        self.transport = made

    def _say(self, octets: bytes) -> None:
        if self.transport is not None:
            self.transport.write(octets)


def serve(port: int, chain: str) -> None:
    """The sink's process: all addresses of the destinations, until it is ended."""

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        loop = asyncio.get_running_loop()
        for number in range(1, DESTINATIONS + 1):
            await loop.create_server(lambda: Sink(context), f"127.2.0.{number}", port, backlog=1024)
        print("ready", flush=True)
        await asyncio.Event().wait()

    uvloop.run(main())


async def _deliver(to: RemoteTransport, domain: str, content: MessageBuffer) -> Outcome:
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
    import trustme

    from bench.outbound_postfix import measure_postfix
    from mta.delivery.security.der import public_key_info
    from tests.peers.dnsworld import Zone, running_dnsworld

    # Alone, before ours: it needs port 25 and a file of /etc for itself.
    postfix = None if options.quick else measure_postfix()
    port = free_port()
    leaf = trustme.CA().issue_cert("sink.test")
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    key = hashlib.sha256(public_key_info(der)).hexdigest()
    text = "".join(
        f"d{n} 300 MX 10 mx{n}\nmx{n} 300 A 127.2.0.{n}\n_{port}._tcp.mx{n} 300 TLSA 3 1 1 {key}\n"
        for n in range(1, DESTINATIONS + 1)
    )
    with tempfile.TemporaryDirectory() as folder, running_dnsworld({"bench.test": Zone(text)}) as world:
        chain = Path(folder) / "chain.pem"
        chain.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        command = [sys.executable, "-m", "bench.outbound", "--sink", str(port), str(chain)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                process.stdout.readline()
                from mta.net.resolver.stub import Stub

                found = uvloop.run(_dane(lambda: Stub([world.resolver]), port, options, postfix))
            finally:
                process.terminate()
    return found


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
    to = _transport(
        resolver, security, port, PoolLimits(max_connections=20, idle_time=idle, messages_per_connection=0)
    )
    content = message()
    domains = [f"d{n % DESTINATIONS + 1}.bench.test" for n in range(count)]

    async def send(domain: str) -> None:
        outcome = await _deliver(to, domain, content)
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


def _transport(resolver: Resolver, security: Security, port: int, pool: PoolLimits) -> RemoteTransport:
    timeouts = Timeouts(connect=8.0, greeting=20.0, command=20.0)
    settings = RemoteSettings("us.test", port=port, timeouts=timeouts, pool=pool)
    return RemoteTransport(
        settings, Lookup(resolver, Ourselves(), timeout=5.0), security, {}, rng=random.Random(1)
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# Many, of which some are bad.


def measure_mixed(options: Options) -> list[Figure]:
    """Live domains with bad ones among them, over live ones alone."""
    domains = DOMAINS // (10 if options.quick else 1)
    figures = []
    for name, work in (("outbound_mixed", _steady), ("outbound_mixed_burst", _burst)):
        figures.append(
            Figure(
                name,
                uvloop.run(_mixed(domains, work, bad=True)) / uvloop.run(_mixed(domains, work, bad=False)),
                "times",
            )
        )
    return figures


Send = Callable[[str], Awaitable[float | None]]
"""Delivers to a domain: the seconds that it took, None for one that is not live."""


async def _steady(domains: list[str], send: Send) -> float:
    """The mean time of a delivery."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number, domain in enumerate(domains):
            await asyncio.sleep(max(0.0, begun + number / PACE - loop.time()))
            tasks.append(group.create_task(_seconds(send, domain)))
    times = [seconds for task in tasks if (seconds := task.result()) is not None]
    return sum(times) / len(times)


async def _seconds(send: Send, domain: str) -> float | None:
    return await send(domain)


async def _burst(domains: list[str], send: Send) -> float:
    """The time until the last live domain has its mail."""
    loop = asyncio.get_running_loop()
    begun = last = loop.time()

    async def one(domain: str) -> None:
        nonlocal last
        if await send(domain) is not None:
            last = loop.time()

    await _all(domains, TASKS, one)
    return last - begun


async def _mixed(count: int, work: Callable[[list[str], Send], Awaitable[float]], *, bad: bool) -> float:
    port = free_port()
    loop = asyncio.get_running_loop()
    addresses = {"live": "127.3.0.1", "slow": "127.3.0.2", "grey": "127.3.0.3", "dead": "127.3.0.4"}
    servers = [
        await loop.create_server(partial(Sink, None, kind, DELAY), address, port, backlog=4096)
        for kind, address in addresses.items()
        if kind != "dead"
    ]
    rng = random.Random(3)
    dns = FakeResolver()
    kinds: dict[str, str] = {}
    for number in range(count):
        kind = rng.choice(("dead", "slow", "grey")) if rng.random() < BAD else "live"
        if kind != "live" and not bad:
            continue
        domain = f"d{number}.test"
        kinds[domain] = kind
        dns.add(domain, "MX", f"10 mx.{domain}")
        dns.add(f"mx.{domain}", "A", addresses[kind])
    may = OpportunisticSecurity({Level.MAY: ClientTls(client_context("may"), required=False)})
    to = _transport(dns, may, port, PoolLimits(max_connections=20, idle_time=0))
    content = message()

    async def send(domain: str) -> float | None:
        begun = loop.time()
        outcome = await _deliver(to, domain, content)
        if kinds[domain] != "live":
            return None
        assert outcome.reply.code == 250, outcome
        return loop.time() - begun

    found = await work(list(kinds), send)
    await to.close()
    for server in servers:
        server.close()
    return found


def measure(options: Options) -> list[Figure]:
    """Everything."""
    return measure_dane(options) + measure_mixed(options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sink"]:
        serve(int(sys.argv[2]), sys.argv[3])
    else:
        run("outbound", measure)
