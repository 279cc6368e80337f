"""The stub resolver beside dnspython's own: our processor time for a query that the resolver has cached.

Both ask the same Unbound on loopback, 64 questions at a time, under uvloop. `dns_query`, in microseconds, is
the processor time of this process for one question that neither has cached itself; what Unbound uses is not
in it. `dns_query_cached` is the same for a question that was answered before, dnspython with its cache on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

import dns.asyncresolver
import dns.flags
import dns.resolver
import uvloop

from bench.command import Options, run
from bench.figures import Figure
from bench.rounds import in_turns
from bench.system import Failure
from mta.net.resolver.cache import CacheSettings
from mta.net.resolver.server import Address
from mta.net.resolver.stub import Stub, StubSettings
from tests.peers.dnsworld import Zone, running_dnsworld

IN_FLIGHT = 64
QUESTIONS = 6000
QUICK_QUESTIONS = 1500
NAMES = [f"h{number}.many.test" for number in range(IN_FLIGHT)]
"""Each has an MX; different names, so that questions on their way are not the same one."""
SECONDS = 10.0
"""Deadline of one question."""

Ask = Callable[[str], Awaitable[bool]]
"""Asks for the MX of a name and tells whether there is one in an answer that validated."""
Client = Callable[[Address, bool, int], Coroutine[None, None, float]]


def measure(options: Options) -> list[Figure]:
    """Run both against one Unbound."""
    questions = QUICK_QUESTIONS if options.quick else QUESTIONS
    text = "".join(f"{name}. 3600 MX 10 mx.{name}.\n" for name in NAMES)
    figures: list[Figure] = []
    with running_dnsworld({"many.test": Zone(text)}) as world:
        for name, cached in (("dns_query", False), ("dns_query_cached", True)):
            ours = partial(_run, _with_stub, world.resolver, cached, questions)
            theirs = partial(_run, _with_dnspython, world.resolver, cached, questions)
            figures.append(Figure.of_rounds(name, in_turns(ours, theirs, options.rounds), "us"))
    return figures


def _run(client: Client, address: Address, cached: bool, questions: int) -> float:
    return uvloop.run(client(address, cached, questions))


async def _with_stub(address: Address, cached: bool, questions: int) -> float:
    stub = Stub([address], StubSettings() if cached else StubSettings(CacheSettings(entries=0)))
    loop = asyncio.get_running_loop()

    async def ask(name: str) -> bool:
        answer = await stub.query(name, "MX", loop.time() + SECONDS)
        return answer.secure and len(answer.records) == 1

    try:
        return await _microseconds(ask, questions)
    finally:
        stub.close()


async def _with_dnspython(address: Address, cached: bool, questions: int) -> float:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [address.host]
    resolver.port = address.port
    resolver.flags = dns.flags.RD | dns.flags.AD
    resolver.use_edns(0, 0, 1232)
    resolver.cache = dns.resolver.Cache() if cached else None

    async def ask(name: str) -> bool:
        answer = await resolver.resolve(name, "MX", lifetime=SECONDS)
        return bool(answer.response.flags & dns.flags.AD) and len(answer) == 1

    return await _microseconds(ask, questions)


async def _microseconds(ask: Ask, questions: int) -> float:
    """Processor time of one of `questions`, after all names were asked once."""

    async def some(names: list[str], count: int) -> None:
        for number in range(count):
            if not await ask(names[number % len(names)]):
                raise Failure("the resolver did not give a validated answer")

    await asyncio.gather(*(some([name], 1) for name in NAMES))
    began = time.process_time()
    await asyncio.gather(*(some([name], questions // IN_FLIGHT) for name in NAMES))
    return (time.process_time() - began) / (questions // IN_FLIGHT * IN_FLIGHT) * 1e6


measure.peer = "dnspython"  # type: ignore[attr-defined]

if __name__ == "__main__":
    run("dns", measure)
