"""Messages a second while everything is found out about their sender: iprev, SPF, DKIM, ARC and DMARC.

`authn_throughput`: 4 kB messages with an RSA-2048 signature and an ARC set, 20 sessions, answers of the DNS
in the cache; beside Postfix that is given the same messages and looks at nothing, without milters. The name
server runs in this process and is asked while warming up.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.peers.postfix import postfix
from bench.rounds import in_turns
from bench.side_by_side import wait_until_idle
from bench.sink import sink
from bench.system import RECIPIENT, Failure, System
from bench.tamis import tamis
from bench.workplace import program
from mta.authn.arc import Chain
from mta.authn.arcseal import seal
from mta.authn.dkimkeys import SigningKey, make_key
from mta.authn.results import Result
from mta.net.resolver.server import Address
from sieve_ext.message import Message
from tests.dialog.senders import Zone, signed
from tests.peers.nameserver import Nameserver

DOMAIN = "sender.test"
SESSIONS = 20
WARM_UP = 200
PATIENCE = 120.0
"""Seconds for a round."""
SETTINGS = """
[dns]
resolvers = ["{resolver}"]

[authentication]
own_mail = true
"""


def a_message(key: SigningKey) -> bytes:
    """A message of 4 kB before it is signed and sealed."""
    now = time.time()
    plain = (
        b"From: Alice <alice@sender.test>\r\nTo: bob@example.org\r\nSubject: weekly report\r\n"
        b"Date: Sat, 28 Nov 2026 00:00:00 +0000\r\nMessage-ID: <1@sender.test>\r\n\r\n"
        + (b"x" * 70 + b"\r\n")
        * 54
    )
    message = signed(plain, key, now=now)
    payload = "mx.other.test; dmarc=pass header.from=sender.test"
    return seal(Message(message), Chain(Result.NONE), payload, key, now=now) + message


@contextlib.contextmanager
def name_server(key: SigningKey) -> Iterator[Address]:
    """A DNS in which all of it passes."""
    zone = Zone()
    zone.publish(key)
    zone.add(DOMAIN, "TXT", '"v=spf1 ip4:127.0.0.1 -all"')
    zone.add(f"_dmarc.{DOMAIN}", "TXT", '"v=DMARC1; p=reject"')
    zone.add("1.0.0.127.in-addr.arpa", "PTR", f"mx.{DOMAIN}.")
    zone.add(f"mx.{DOMAIN}", "A", "127.0.0.1")
    found: list[Address] = []
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with Nameserver(zone.answer) as server:
            found.append(server.address)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        over.set()
        thread.join()


def rate(system: System, message: Path, count: int) -> float:
    """Messages that reach the sink a second. Raises Failure for a refusal."""
    before = system.sink.count()
    begin = time.perf_counter()
    done = subprocess.run(
        [
            program("smtp-source", "postfix"), "-m", str(count), "-s", str(SESSIONS), "-F", str(message),
            "-f", f"alice@{DOMAIN}", "-t", RECIPIENT, "-M", f"mx.{DOMAIN}", f"127.0.0.1:{system.port}",
        ],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    if done.returncode:
        raise Failure(f"{system.name}: {done.stderr.strip()}{system.last_words()}")
    return count / (system.sink.wait(before + count, PATIENCE) - begin)


def measure(options: Options) -> list[Figure]:
    """Measure both."""
    key = SigningKey(DOMAIN, "bench", make_key("rsa"))
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(options.folder))
        message = place / "message"
        message.write_bytes(a_message(key).replace(b"\r\n", b"\n"))
        resolver = stack.enter_context(name_server(key))
        theirs = stack.enter_context(sink(place, "postfix"))
        ours = stack.enter_context(sink(place, "tamis"))
        peer = stack.enter_context(postfix(place / "postfix", theirs))
        more = SETTINGS.format(resolver=resolver)
        system = stack.enter_context(tamis(place / "tamis", ours, more))

        def prepare(one: System) -> partial[float]:
            count = max(WARM_UP, round(rate(one, message, WARM_UP) * options.seconds))
            return partial(rate, one, message, count)

        for one in (system, peer):
            wait_until_idle(one)
        rounds = in_turns(prepare(system), prepare(peer), options.rounds)
    return [Figure.of_rounds("authn_throughput", rounds, "messages/s", rate=True)]


if __name__ == "__main__":
    run("authn", measure)
