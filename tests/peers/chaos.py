"""Clients of all manners, next hops that fail, and the books of both: what scenarios of chaos have in common.

A scenario has its server in trouble while the clients send; `balance` says in the end whether every recipient
has what was answered 250, and nobody more copies than somebody may not have heard of. `TAMIS_CHAOS_SECONDS`
and `TAMIS_CHAOS_SEED` make a scenario longer, or another one.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.peers.fickle import PAUSE, Fickle, Ledger, refusal
from tests.peers.load import Lost, Session, message
from tests.peers.queuesite import QUICK, flush, rows, waiting
from tests.peers.running import until
from tests.peers.site import Site

SECONDS = float(os.environ.get("TAMIS_CHAOS_SECONDS", "10"))
SEED = int(os.environ.get("TAMIS_CHAOS_SEED", "1"))
CLIENTS = 12
DOUBLE = "too many copies"
FEW = 3
"""Messages that may come twice without a reason that the books know, of hundreds."""
NOTED = 3.0
"""Seconds in which the queue has noted who has a message, also on a busy machine."""
MANNERS = ("whole", "whole", "whole", "pieces", "quit", "vanish", "unread", "half")
"""How clients send their content, the usual way more often."""
BACKEND = """backend = "sink"
[backends.sink]
addresses = ["127.0.0.1:{one}", "127.0.0.1:{two}"]
connect_timeout = "1s"
failure_delay = "0.2s"
"""
_REST = """
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


async def send_content(
    session: Session, data: bytes, manner: str, chance: random.Random, *, unread: float
) -> None:
    """Send content in one of `MANNERS`. Raises Lost for those that end without an answer.

    `unread` is the most seconds for which an answer is left unread.
    """
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
        await asyncio.sleep(chance.random() ** 2 * (unread if manner == "unread" else 0.05))
        raise Lost("answer")


class World:
    """The next hops of a scenario, its clients, and what they know."""

    def __init__(self) -> None:
        self.chance = random.Random(SEED)
        self.ledger = Ledger()
        self.one, self.two, self.relay = (Fickle(self.ledger, self.chance) for _ in range(3))
        self.other = Fickle(self.ledger, self.chance, keywords=("CHUNKING",))
        self.hops = (self.one, self.two, self.other, self.relay)
        self.clients: list[Client] = []
        self._lives: list[asyncio.Task[None]] = []

    def settings(self, queue: str, more: str) -> dict[str, str]:
        """Those of a site (`Site.set_up`) that sends to these next hops."""
        return {
            "backend": BACKEND.format(one=self.one.port, two=self.two.port),
            "recipients": "all",
            "policy": 'relay = "away"\n',
            "trusted": '["127.0.0.2/32"]',
            "queue": QUICK + queue,
            "more": _REST.format(other=self.other.port, relay=self.relay.port) + more,
        }

    def populate(self, servers: Sequence[Site]) -> None:
        """Let the clients begin, each at one of the servers."""
        places = itertools.islice(itertools.cycle(servers), CLIENTS)
        self.clients = [Client(server.smtp, n, SEED * 1000 + n) for n, server in enumerate(places)]
        self._lives = [asyncio.create_task(client.live()) for client in self.clients]

    async def settle(self, servers: Sequence[Site]) -> None:
        """Wait until all is answered, nobody owes an answer, and the queues are empty."""

        def empty() -> bool:
            for server in servers:
                flush(server)
            return all(waiting(server) == 0 for server in servers)

        for client in self.clients:
            client.stopping = True
        await asyncio.gather(*self._lives)
        for hop in self.hops:
            hop.calm()
        # What a next hop has and has not answered yet is left to its answer: a flush would be an order.
        await asyncio.sleep(PAUSE)
        await asyncio.to_thread(until, empty, lambda: f"empty queues: {[rows(s)[:5] for s in servers]}")

    def balance(self) -> None:
        """What each recipient must have, and must not; and whether it was no quiet time."""
        ledger = self.ledger
        answers = {name: one for client in self.clients for name, one in client.answers.items()}
        faults = [
            f"{fault}: {one} of {name} {answered}, {ledger.has[name, one]} copies"
            for name, answered in answers.items()
            for one in answered.recipients
            if (fault := _fault_of(ledger, name, one, answered))
        ]
        # That an answer was not heard is known but for what happens in the same moment.
        doubles = [fault for fault in faults if fault.startswith(DOUBLE)]
        if len(faults) > len(doubles) or len(doubles) > FEW:
            raise AssertionError("\n".join([*faults, *_history(ledger, faults)]))
        lost = sum(client.results["lost: answer"] for client in self.clients)
        assert _in_vain(ledger, answers) <= lost / 2
        kinds = {kind for hop in self.hops for kind in hop.faults if kind.startswith("final")}
        assert len(answers) > 20, "it was a quiet time"
        assert lost > 5, "it was a quiet time"
        assert len(kinds) > 2, "it was a quiet time"


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A world whose next hops listen."""
    made = World()
    async with made.one, made.two, made.other, made.relay:
        yield made


@dataclass(frozen=True, slots=True)
class Answered:
    """A message that was answered for good."""

    vouched: bool
    recipients: list[str]
    reply: str
    """The last one."""
    unclear: int
    """Tries whose answer the client did not read, or that said 4xx: a next hop may still be about to answer
    when the next one comes."""


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
        unclear = 0
        while True:
            try:
                reply = await self.attempt(octets, vouched, recipients)
            except Lost as problem:
                reply = ""
                self.results[f"lost: {problem.where}"[:20]] += 1
                unclear += problem.where == "answer"
            else:
                self.results[reply[:9]] += 1
                unclear += reply.startswith("4")
            if reply[:1] in ("2", "5"):
                self.answers[name] = Answered(vouched, recipients, reply, unclear)
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
            manner = chance.choice(MANNERS)
            if self.stopping:
                manner = "whole"
            await send_content(session, data, manner, chance, unread=1.5)
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


def _fault_of(ledger: Ledger, name: str, one: str, answered: Answered) -> str:
    """What is wrong with one recipient of a message, "" if nothing is."""
    copies, reply = ledger.has[name, one], answered.reply
    # A client that did not wait for the answer and comes again may meet its first try under way.
    if copies > 1 + ledger.unsure[name, one] + answered.unclear:
        return DOUBLE
    if refusal(one):
        is_known = reply.startswith("5") or not answered.vouched or bool(ledger.reports[name, one])
        return "a copy that was refused" if copies else "" if is_known else "not reported"
    # A reply of refusal names those who do not have it.
    return "missing" if not copies and (reply.startswith("2") or one not in reply) else ""


def _in_vain(ledger: Ledger, answers: Mapping[str, Answered]) -> int:
    """Copies that only the haste of a client explains: it came again before its first try had ended."""
    pairs = [(name, one) for name, answered in answers.items() for one in answered.recipients]
    return sum(max(0, ledger.has[pair] - 1 - ledger.unsure[pair]) for pair in pairs)


def _history(ledger: Ledger, faults: Sequence[str]) -> list[str]:
    """What next hops did with the messages that faults are about."""
    names = {fault.split(" of ", 1)[1].split(" ", 1)[0] for fault in faults}
    return [line for line in ledger.history if line.split(" ", 3)[2] in names]
