"""The stub resolver, SPF and DMARC over a real DNS: Unbound validates what nsd serves, signed or spoilt."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from mta.address import parse_address
from mta.authn.dmarc import DmarcResult
from mta.authn.dmarc import check as check_dmarc
from mta.authn.results import Result
from mta.authn.spf import SpfResult, check_sender
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.stub import Stub
from sieve_ext.message import HeaderIndex
from sieve_ext.message.header import Header
from tests.peers.dnsworld import DnsWorld, running_dnsworld
from tests.peers.needs import needs

pytestmark = pytest.mark.scenario

SECURE, INSECURE, BOGUS, FAIL = Status.SECURE, Status.INSECURE, Status.BOGUS, Status.FAIL
Found = TypeVar("Found")


@pytest.fixture(scope="module")
def world() -> Iterator[DnsWorld]:
    needs("nsd", "unbound")
    with running_dnsworld() as running:
        yield running


def with_stub(
    world: DnsWorld, act: Callable[[Stub, float], Awaitable[Found]], seconds: float = 10.0
) -> Found:
    async def run() -> Found:
        stub = Stub([world.resolver])
        try:
            return await act(stub, asyncio.get_running_loop().time() + seconds)
        finally:
            stub.close()

    return asyncio.run(run())


def ask(world: DnsWorld, name: str, rdtype: str, seconds: float = 10.0) -> Answer:
    return with_stub(world, lambda stub, deadline: stub.query(name, rdtype, deadline), seconds)


@pytest.mark.parametrize(
    ("name", "rdtype", "status", "records"),
    [
        ("good.test", "MX", SECURE, 1),
        ("mx.good.test", "A", SECURE, 1),
        ("_25._tcp.mx.good.test", "TLSA", SECURE, 1),
        ("anything.wild.good.test", "A", SECURE, 1),
        ("alias.good.test", "A", SECURE, 1),
        ("far.good.test", "A", INSECURE, 1),
        ("big.good.test", "TXT", SECURE, 40),
        ("good.test", "AAAA", SECURE, 0),
        ("unsigned.test", "MX", INSECURE, 1),
        ("unsigned.test", "AAAA", INSECURE, 0),
        ("nods.test", "MX", INSECURE, 1),
        ("bogus.test", "MX", BOGUS, 0),
        ("mx.bogus.test", "A", SECURE, 1),
        ("_25._tcp.mx.bogus.test", "TLSA", BOGUS, 0),
        ("expired.test", "MX", BOGUS, 0),
        ("stripped.test", "MX", BOGUS, 0),
    ],
)
def test_status(world: DnsWorld, name: str, rdtype: str, status: Status, records: int) -> None:
    answer = ask(world, name, rdtype)
    assert (answer.status, len(answer.records)) == (status, records), answer.reason
    assert answer.exists


@pytest.mark.parametrize(
    ("name", "status"),
    [("nowhere.good.test", SECURE), ("nowhere.unsigned.test", INSECURE), ("nowhere.test", SECURE)],
)
def test_names_that_do_not_exist(world: DnsWorld, name: str, status: Status) -> None:
    answer = ask(world, name, "A")
    assert (answer.status, answer.exists, answer.ttl > 0) == (status, False, True)


def test_reason_of_a_bogus_answer() -> None:
    """Unbound knows it when it has just validated; from its cache it says "bogus" only."""
    needs("nsd", "unbound")
    with running_dnsworld() as world:
        # Which of the two it finds first has changed between its versions.
        assert ask(world, "expired.test", "MX").reason.startswith(
            ("SERVFAIL (signature expired", "SERVFAIL (dnskey missing")
        )
        assert ask(world, "stripped.test", "MX").reason.startswith("SERVFAIL (dnskey missing")


def spf(world: DnsWorld, sender: str, client: str) -> SpfResult:
    return with_stub(
        world,
        lambda stub, deadline: check_sender(
            stub, client, parse_address(sender), "h.good.test", deadline=deadline
        ),
    )


@pytest.mark.parametrize(
    ("sender", "client", "result"),
    [
        ("a@good.test", "192.0.2.1", Result.PASS),
        ("a@good.test", "127.0.1.1", Result.PASS),
        ("a@good.test", "192.0.2.2", Result.FAIL),
        ("a@unsigned.test", "192.0.2.1", Result.FAIL),
        ("a@nods.test", "192.0.2.1", Result.NONE),
        ("a@nowhere.test", "192.0.2.1", Result.NONE),
        ("a@bogus.test", "192.0.2.1", Result.TEMPERROR),
        ("a@stripped.test", "192.0.2.1", Result.TEMPERROR),
    ],
)
def test_spf(world: DnsWorld, sender: str, client: str, result: Result) -> None:
    assert spf(world, sender, client).result.result is result


def test_explanation(world: DnsWorld) -> None:
    assert spf(world, "a@good.test", "192.0.2.2").explanation == "192.0.2.2 may not send for good.test"


@pytest.mark.parametrize(
    ("author", "client", "result", "disposition"),
    [
        ("a@good.test", "192.0.2.1", Result.PASS, "none"),
        ("a@mx.good.test", "192.0.2.1", Result.PASS, "none"),
        ("a@good.test", "192.0.2.2", Result.FAIL, "reject"),
        ("a@mx.good.test", "192.0.2.2", Result.FAIL, "reject"),
        ("a@ghost.good.test", "192.0.2.2", Result.FAIL, "quarantine"),
        ("a@unsigned.test", "192.0.2.1", Result.NONE, "none"),
        ("a@bogus.test", "192.0.2.1", Result.TEMPERROR, "none"),
        ("a@expired.test", "192.0.2.1", Result.TEMPERROR, "none"),
    ],
)
def test_dmarc(world: DnsWorld, author: str, client: str, result: Result, disposition: str) -> None:
    async def act(stub: Stub, deadline: float) -> DmarcResult:
        sender = parse_address("a@good.test")
        found = await check_sender(stub, client, sender, "h.good.test", deadline=deadline)
        header = Header(HeaderIndex(f"From: {author}\r\n\r\n".encode()))
        return await check_dmarc(stub, header, found, [], deadline=deadline)

    found = with_stub(world, act)
    assert (found.result.result, found.disposition) == (result, disposition), found.result.reason


def test_resolver_that_hangs_is_a_failure_in_time(world: DnsWorld) -> None:
    world.pause("unbound")
    try:
        answer = ask(world, "good.test", "MX", 0.3)
    finally:
        world.resume("unbound")
    assert (answer.status, answer.reason) == (FAIL, "no answer in time")
    assert ask(world, "good.test", "MX").secure


def test_resolver_that_is_gone_is_a_failure_at_once() -> None:
    needs("nsd", "unbound")
    with running_dnsworld() as world:
        assert ask(world, "good.test", "MX").secure
        process = world.processes["unbound"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        answer = ask(world, "good.test", "MX")
        assert (answer.status, answer.reason) == (FAIL, "connection refused")
