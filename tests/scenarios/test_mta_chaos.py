"""Everything goes wrong at the same time, by chance; in the end the books balance.

Clients of all manners send to recipients behind next hops that fail at any stage, while the server is
reloaded and its workers die. What was answered 250 is with each recipient, or reported; nobody has more
copies than there were answers that somebody may not have heard.

`TAMIS_CHAOS_SECONDS` and `TAMIS_CHAOS_SEED` make it longer, or another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.fickle import FINAL, PAUSE, Fickle, Ledger, refusal
from tests.peers.load import Lost, Session, message, run
from tests.peers.queuesite import QUICK, flush, queue_site, rows, waiting
from tests.peers.running import until
from tests.peers.site import Site
from tests.peers.smalldisk import fill, mounted, remount

pytestmark = pytest.mark.scenario

SECONDS = float(os.environ.get("TAMIS_CHAOS_SECONDS", "10"))
SEED = int(os.environ.get("TAMIS_CHAOS_SEED", "1"))
CLIENTS = 12
NOTED = 3.0
"""Seconds in which the queue has noted who has a message, also on a busy machine."""
DISK_SIZE = 64 * 1024 * 1024
_SINK = """backend = "sink"
[backends.sink]
addresses = ["127.0.0.1:{one}", "127.0.0.1:{two}"]
connect_timeout = "1s"
failure_delay = "0.2s"
"""
_REST = """
[queue_stores.small]
url = "file:{disk}/queue"
[delivery]
deadline = "2s"
[domains."other.test"]
recipients = "all"
backend = "other"
[backends.other]
addresses = ["127.0.0.1:{other}"]
connect_timeout = "1s"
failure_delay = "0.2s"
[relays.away]
host = "127.0.0.1"
port = {relay}
tls = "none"
connect_timeout = "1s"
failure_delay = "0.2s"
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """A message that was answered for good."""

    vouched: bool
    recipients: list[str]
    reply: str
    """The last one."""
    lost: int
    """Tries whose answer the client did not read."""


class Client:
    """One of them: message after message, each until it is answered for good."""

    def __init__(self, port: int, number: int, seed: int) -> None:
        self.port = port
        self.number = number
        self.chance = random.Random(seed)
        self.results: Counter[str] = Counter()
        self.answers: dict[str, Answered] = {}
        """By name of the message."""
        self.stopping = False

    async def live(self) -> None:
        count = 0
        while not self.stopping:
            count += 1
            await self.deliver(f"c{self.number}-{count}")

    async def deliver(self, name: str) -> None:
        chance = self.chance
        vouched = chance.random() < 0.5
        places = ("example.test", "other.test", "away.test") if vouched else ("example.test", "other.test")
        people = ["bob", "carol", "dave"] * 6 + ["nobody", "never"]
        number = chance.choice((1, 1, 1, 2, 4))
        recipients = [f"{chance.choice(people)}-{n}@{chance.choice(places)}" for n in range(number)]
        octets = message(name, chance.choice((2000,) * 14 + (1, 5000, 50_000, 400_000, 1_500_000)))
        lost = 0
        while True:
            try:
                reply = await self.attempt(octets, vouched, recipients)
            except Lost as problem:
                reply = ""
                self.results[f"lost: {problem.where}"[:20]] += 1
                lost += problem.where == "answer"
            else:
                self.results[reply[:9]] += 1
            if reply[:1] in ("2", "5"):
                self.answers[name] = Answered(vouched, recipients, reply, lost)
                return
            await asyncio.sleep(chance.random() * 0.2)

    async def attempt(self, octets: bytes, vouched: bool, recipients: list[str]) -> str:
        """One try: the reply that ends it. Raises Lost."""
        chance = self.chance
        session = Session(self.port, "load.test")
        local = "127.0.0.2" if vouched else "127.0.0.3"
        await session.open(local)
        try:
            sender = "alice@example.test" if vouched else "load@example.org"
            group = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients)]
            bdat = chance.random() < 0.3
            group += [] if bdat else ["DATA"]
            reply = await self.envelope(session, group, chance.random() < 0.7)
            if bdat:
                parts = self.parts(octets)
                data = b"".join(b"BDAT %d\r\n%b" % (len(part), part) for part in parts) + b"BDAT 0 LAST\r\n"
            else:
                if not reply.startswith("354"):
                    return reply
                data = octets + b".\r\n"
            manner = chance.choice(("whole", "whole", "whole", "pieces", "quit", "vanish", "unread", "half"))
            if self.stopping:
                manner = "whole"
            if manner == "half":
                session.writer.write(data[: chance.randrange(len(data) - 5)])
                raise Lost("data")
            if manner in ("vanish", "unread"):
                # An answer that comes meanwhile stays unread in the kernel, as when a program dies.
                session.writer.transport.pause_reading()  # type: ignore[attr-defined]
            try:
                if manner == "pieces":
                    for start in range(0, len(data), step := len(data) // 5 + 1):
                        session.writer.write(data[start : start + step])
                        await asyncio.sleep(0.01)
                else:
                    session.writer.write(data + (b"QUIT\r\n" if manner == "quit" else b""))
                await session.writer.drain()
            except (OSError, RuntimeError):  # uvloop's word for a connection that ended meanwhile
                raise Lost("answer") from None
            if manner in ("vanish", "unread"):
                await asyncio.sleep(chance.random() ** 2 * (1.5 if manner == "unread" else 0.05))
                raise Lost("answer")
            for _ in range(len(parts) if bdat else 0):
                reply = await session.reply("answer")
                if not reply.startswith("250"):
                    return reply
            return await session.reply("answer")
        finally:
            session.cut(reset=chance.random() < 0.3)

    async def envelope(self, session: Session, commands: list[str], grouped: bool) -> str:
        """The last reply, or the first that refuses for all."""
        reply = ""
        if grouped:
            session.writer.write("".join(f"{command}\r\n" for command in commands).encode())
        for command in commands:
            reply = await session.reply("commands") if grouped else await session.say(command, "commands")
            if reply[0] not in "23":
                raise Lost(f"refused: {reply}")
        return reply

    def parts(self, octets: bytes) -> list[bytes]:
        places = sorted({0, len(octets), *(self.chance.randrange(len(octets)) for _ in range(3))})
        return [octets[a:b] for a, b in itertools.pairwise(places)]


async def reload(server: Site, ledger: Ledger, disk: Path) -> None:
    """As an administrator does it."""
    await asyncio.to_thread(server.request, {"command": "reload"})


async def kill(server: Site, ledger: Ledger, disk: Path) -> None:
    """kill -9 of a worker."""
    processes = await asyncio.to_thread(server.workers)
    for pid in [pid for name, pid in processes.items() if name.startswith("worker")][:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ledger.forget(NOTED)


async def use_up(server: Site, ledger: Ledger, disk: Path) -> None:
    """The disk of the queue is full for a while."""
    filler = await asyncio.to_thread(fill, disk)
    await asyncio.sleep(1)
    filler.unlink()


async def protect(server: Site, ledger: Ledger, disk: Path) -> None:
    """The disk of the queue is read-only for a while."""
    with contextlib.suppress(subprocess.CalledProcessError):  # somebody writes just now
        await asyncio.to_thread(remount, disk, "ro")
    await asyncio.sleep(1)
    await asyncio.to_thread(remount, disk, "rw")


Trouble = Callable[[Site, Ledger, Path], Awaitable[None]]


async def disturb(
    server: Site, ledger: Ledger, disk: Path, chance: random.Random, troubles: Sequence[Trouble]
) -> None:
    """One trouble after the other, until the time is over."""
    end = time.monotonic() + SECONDS
    while (pause := 1 + 2 * chance.random()) < end - time.monotonic():
        await asyncio.sleep(pause)
        await chance.choice(troubles)(server, ledger, disk)


@pytest.mark.parametrize(
    "troubles",
    [[reload], [reload, kill], [reload, kill, use_up, protect]],
    ids=["reloads", "deaths", "disk"],
)
def test_the_books_balance(tmp_path: Path, troubles: Sequence[Trouble]) -> None:
    async def main() -> None:
        chance = random.Random(SEED)
        ledger = Ledger()
        async with (
            Fickle(ledger, chance) as one,
            Fickle(ledger, chance) as two,
            Fickle(ledger, chance, keywords=("CHUNKING",)) as other,
            Fickle(ledger, chance) as relay,
        ):
            with (
                mounted(tmp_path, DISK_SIZE) as disk,
                queue_site(
                    tmp_path,
                    queue=f'{QUICK}stores = ["small"]\n',
                    backend=_SINK.format(one=one.port, two=two.port),
                    recipients="all",
                    policy='relay = "away"\n',
                    trusted='["127.0.0.2/32"]',
                    more=_REST.format(other=other.port, relay=relay.port, disk=disk),
                ) as server,
            ):
                hops = (one, two, other, relay)
                clients = [Client(server.smtp, n, SEED * 1000 + n) for n in range(CLIENTS)]
                lives = [asyncio.create_task(client.live()) for client in clients]
                await disturb(server, ledger, disk, chance, troubles)
                for client in clients:
                    client.stopping = True
                await asyncio.gather(*lives)
                await settle(server, hops)
                answers = {name: one for client in clients for name, one in client.answers.items()}
                balance(ledger, answers)
                # It was not a quiet time.
                assert len(answers) > 5 * SECONDS
                kinds = {kind for hop in hops for kind in hop.faults}
                assert kinds >= {f"final {kind}" for kind in FINAL}
                lost = sum(client.results["lost: answer"] for client in clients)
                assert lost > SECONDS
                assert in_vain(ledger, answers) < lost / 5
                await asyncio.to_thread(server.stop)

    run(main, SECONDS + 240)


async def settle(server: Site, hops: Sequence[Fickle]) -> None:
    """Wait until nobody owes an answer and the queue is empty."""

    def empty() -> bool:
        flush(server)
        return waiting(server) == 0

    for hop in hops:
        hop.calm()
    # What a next hop has and has not answered yet is left to its answer: a flush would be an order.
    await asyncio.sleep(PAUSE)
    await asyncio.to_thread(until, empty, lambda: f"an empty queue: {rows(server)[:5]}")


def balance(ledger: Ledger, answers: Mapping[str, Answered]) -> None:
    """What each recipient must have, and must not."""
    faults = [
        f"{fault}: {one} of {name} {answered}, {ledger.has[name, one]} ({ledger.unsure[name, one]} unsure)"
        for name, answered in answers.items()
        for one in answered.recipients
        if (fault := fault_of(ledger, name, one, answered))
    ]
    assert not faults, "\n".join([*faults, *history(ledger, faults)])


def fault_of(ledger: Ledger, name: str, one: str, answered: Answered) -> str:
    """What is wrong with one recipient of a message, "" if nothing is."""
    copies, reply = ledger.has[name, one], answered.reply
    # A client that did not wait for the answer and comes again may meet its first try under way.
    if copies > 1 + ledger.unsure[name, one] + answered.lost:
        return "too many copies"
    if refusal(one):
        is_known = reply.startswith("5") or not answered.vouched or bool(ledger.reports[name, one])
        return "a copy that was refused" if copies else "" if is_known else "not reported"
    # A reply of refusal names those who do not have it.
    return "missing" if not copies and (reply.startswith("2") or one not in reply) else ""


def in_vain(ledger: Ledger, answers: Mapping[str, Answered]) -> int:
    """Copies that only the haste of a client explains: it came again before its first try had ended."""
    pairs = [(name, one) for name, answered in answers.items() for one in answered.recipients]
    return sum(max(0, ledger.has[pair] - 1 - ledger.unsure[pair]) for pair in pairs)


def history(ledger: Ledger, faults: Sequence[str]) -> list[str]:
    """What next hops did with the messages that faults are about."""
    names = {fault.split(" of ", 1)[1].split(" ", 1)[0] for fault in faults}
    return [line for line in ledger.history if line.split(" ", 3)[2] in names]
