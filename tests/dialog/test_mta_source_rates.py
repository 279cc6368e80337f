"""Rates of source addresses: over all destinations, for first tries and for the queue together."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

import pytest

from mta.net.resolver.fake import FakeResolver
from mta.spool.hops import source_of
from tests.dialog.queueing import QUEUED
from tests.dialog.server import run, serving
from tests.dialog.test_mta_outbound import OUTBOUND, dns, smtp
from tests.peers.ports import free_port
from tests.peers.scripted import ScriptedServer

__all__ = ["dns"]

SOURCES = """source = "slow"
[sources.slow]
addresses = ["127.0.0.1"]
rate = 30
[sources.free]
addresses = ["127.0.0.1"]
"""


@pytest.mark.parametrize(
    ("hop", "source"),
    [
        ("mx/far.test", "usual"),
        ("mx/far.test;source=bulk", "bulk"),
        ("mx/far.test;tls=verify;source=bulk;helo=x.test", "bulk"),
        ("smtp/[gw.test]:587;source=bulk", "bulk"),
        ("smtp/[gw.test]:587", "usual"),
        ("backend:store", ""),
        ("relay:far", ""),
    ],
)
def test_source_of_a_next_hop(hop: str, source: str) -> None:
    assert partial(source_of, "usual")(hop) == source


def test_what_is_more_than_the_rate_waits_in_the_queue(tmp_path: Path, dns: FakeResolver) -> None:
    async def main() -> None:
        port = free_port()
        for number in range(3):
            dns.add(f"far{number}.test", "MX", f"10 mx{number}.test")
            dns.add(f"mx{number}.test", "A", "127.0.2.1")
        more = OUTBOUND.format(port=port, more=SOURCES)
        async with (
            ScriptedServer(smtp(), host="127.0.2.1", port=port) as far,
            serving(tmp_path, more=more, queue='retry = ["1s"]\n') as server,
        ):
            client = await server.connect()
            await client.hello()
            begun = time.monotonic()
            assert (await client.send("b@far0.test")) == "250 2.0.0 saved\r\n"
            for number in (1, 2):
                assert QUEUED.match(await client.send(f"b@far{number}.test"))
            async with asyncio.timeout(60):
                while len(far.messages) < 3:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)
            assert time.monotonic() - begun > 3.5  # one in two seconds, and the first at once

    run(main)


def test_another_source_has_no_part_in_it(tmp_path: Path, dns: FakeResolver) -> None:
    async def main() -> None:
        port = free_port()
        dns.add("far.test", "MX", "10 mx.far.test")
        dns.add("mx.far.test", "A", "127.0.2.1")
        more = OUTBOUND.format(port=port, more=SOURCES.replace('source = "slow"', 'source = "free"'))
        async with (
            ScriptedServer(smtp(), host="127.0.2.1", port=port),
            serving(tmp_path, more=more, queue='retry = ["1s"]\n') as server,
        ):
            client = await server.connect()
            await client.hello()
            for _ in range(4):
                assert (await client.send("b@far.test")) == "250 2.0.0 saved\r\n"

    run(main)
