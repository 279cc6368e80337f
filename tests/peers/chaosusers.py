"""Users with wishes: they log in or are trusted, name aliases and people, and want to hear what happens.

An `Order` is one message with all that its sender wants of it; a `User` sends one after the other, each until
it is answered for good. What ended without an answer is sent again only when whoever may have it has had the
time to say so, so that no copy is the fault of the user's haste.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.peers.chaos import MANNERS, send_content
from tests.peers.fickledns import FAR, GONE, NEAR
from tests.peers.load import Lost, Session
from tests.peers.meddlers import DENIED, WISHES
from tests.peers.site import ALICE, PASSWORD

LONGEST = 2.5
"""Seconds that a next hop stalls at most: for longer than our server waits for it."""
AGAIN = LONGEST + 2.0
"""Seconds until a message whose fate is not known is sent again."""
OPEN = 5
"""Messages of a user that wait to be sent again, at most."""
ALIASES = {
    "team": ("bob-1@example.test", "carol-2@example.test", "dave-3@other.test"),
    "mixed": ("bob-4@example.test", "nobody-5@example.test", f"carol-6@{NEAR}"),
    "staff": ("bob-7@example.test", "never-8@example.test", f"dave-9@{FAR}"),
    "hollow": ("nobody-10@example.test", "never-11@other.test"),
    "nested": ("bob-1@example.test", "carol-2@example.test", "dave-3@other.test", "bob-12@away.test"),
}
"""Aliases of example.test, and who gets their mail in the end."""
LISTS = {"staff": "dora@example.test"}
"""Those with an owner, and who that is."""
ALIAS_FILE = """
team: bob-1, carol-2, dave-3@other.test
mixed: bob-4, nobody-5, carol-6@near.test
staff: bob-7, never-8, dave-9@far.test
owner-staff: dora
hollow: nobody-10, never-11@other.test
nested: team, bob-12@away.test
"""
POLICY_WISHES = ("bcc", "add", "addteam", "hold", "journal")
"""What the policy does, as `WISHES` are what the milter does."""
AUDIT, COPY = "audit@other.test", f"copy@{NEAR}"
"""Who gets a copy by the wishes "bcc" and "add"."""
ARCHIVE = "archive@example.test"
"""Who gets a report of the message by the wish "journal"."""
_NOTIFY = ("", "", "", "", "NEVER", "SUCCESS", "FAILURE", "DELAY", "FAILURE,DELAY", "SUCCESS,FAILURE,DELAY")


@dataclass(frozen=True, slots=True)
class Order:
    """One message and what its sender wants."""

    name: str
    named: dict[str, str]
    """Recipients and their NOTIFY."""
    wish: str
    parameters: str
    """Of MAIL."""
    octets: bytes = field(repr=False)
    vouched: bool = True
    """The sender is alice, who logs in or is trusted, and not somebody from outside."""

    @property
    def sender(self) -> str:
        """Of the envelope."""
        return ALICE if self.vouched else "load@example.org"

    def behind(self, named: str) -> tuple[str, ...]:
        """Who gets the mail for a recipient that was named."""
        return ALIASES.get(named.partition("@")[0], (named,))


@dataclass(slots=True)
class Answered:
    """An order that was answered for good."""

    order: Order
    reply: str
    refused: dict[str, str]
    """Recipients that were refused at RCPT, with the reply."""
    tries: list[str] = field(default_factory=list)
    """What came of each try."""
    each: dict[str, str] = field(default_factory=dict)
    """With PRDR, the reply for each recipient."""


class User:
    """One of them."""

    def __init__(
        self, number: int, seed: int, ports: dict[str, int], trust: ssl.SSLContext, orders: dict[str, Order]
    ) -> None:
        """`ports` are those of the listeners "smtp", "submission" and "submissions"; `orders` gets all that
        is sent, by name."""
        self.results: Counter[str] = Counter()
        self.answers: dict[str, Answered] = {}
        self.stopping = False
        self._number = number
        self._chance = random.Random(seed)
        self._orders = orders
        self._sent: set[str] = set()
        self._ports = ports
        self._trust = trust
        self._again: list[tuple[float, Order]] = []
        self._tries: dict[str, list[str]] = {}
        self._refused: dict[str, dict[str, str]] = {}
        self._each: dict[str, dict[str, str]] = {}

    @property
    def open(self) -> list[str]:
        """Names of messages that have been sent and not been answered."""
        return [name for name in self._sent if name not in self.answers]

    async def live(self) -> None:
        """Send until told to stop, and then until all is answered."""
        for count in itertools.count():
            due = [one for one in self._again if one[0] <= time.monotonic()]
            if due:
                self._again.remove(due[0])
                await self._send(due[0][1])
            elif not self.stopping and len(self._again) < OPEN:
                await self._send(self._new(f"u{self._number}-{count}"))
            elif self.stopping and not self._again:
                return
            else:
                await asyncio.sleep(0.05)

    def _new(self, name: str) -> Order:
        chance = self._chance
        vouched = chance.random() < 0.75
        places = ("example.test", "other.test", *(("away.test", NEAR, FAR) if vouched else ()))
        people = ["bob", "carol", "dave"] * 5 + ["nobody", "never", DENIED]
        numbers = chance.sample(range(100, 1000), chance.choice((0, 1, 1, 2, 3)))
        named = [f"{chance.choice(people)}-{n}@{chance.choice(places)}" for n in numbers]
        if not named or chance.random() < 0.3:
            named.insert(0, f"{chance.choice(list(ALIASES))}@example.test")
        if vouched and chance.random() < 0.04:
            named.append(f"bob@{GONE}")
        wish = chance.choice((*WISHES, *POLICY_WISHES)) if chance.random() < 0.4 else ""
        parameters = f" ENVID={name}" + chance.choice(("", "", " RET=HDRS", " RET=FULL"))
        if vouched:
            parameters += chance.choice(("",) * 16 + (" BY=60;N", " BY=3;R", " HOLDFOR=2"))
        if wish != "without" and chance.random() < 0.25:
            parameters += " PRDR"
        size = chance.choice((300,) * 12 + (0, 5000, 70_000, 300_000, 1_300_000))
        head = (
            f"From: {ALICE}\r\nTo: {named[0]}\r\nSubject: chaos\r\nDate: Sun, 29 Nov 2026 12:00:00 +0000\r\n"
            f"Message-ID: <{name}@load>\r\nX-Load: {name}\r\nX-Wish: {wish}\r\n\r\n"
        )
        line = "..0123456789abcdef0123456789abcdef0123456789abcdef\r\n.x\r\n"
        octets = (head + line * (size // len(line))).encode()
        notify = {one: chance.choice(_NOTIFY) for one in named}
        return Order(name, notify, wish, parameters, octets, vouched)

    async def _send(self, order: Order) -> None:
        refused = self._refused.setdefault(order.name, {})
        each = self._each.setdefault(order.name, {})
        self._orders[order.name] = order
        self._sent.add(order.name)
        pause = 0.5
        try:
            reply = await self._attempt(order, refused, each)
        except Lost as problem:
            reply, where = "", f"lost: {problem.where}"
            if problem.where == "answer":
                pause = AGAIN
        else:
            where = reply
            if reply.startswith("4"):
                pause = AGAIN
        self.results[where[:12]] += 1
        self._tries.setdefault(order.name, []).append(where)
        if reply[:1] in ("2", "5"):
            self.answers[order.name] = Answered(order, reply, refused, self._tries[order.name], each)
        else:
            self._again.append((time.monotonic() + pause + self._chance.random(), order))

    async def _open(self, order: Order) -> Session:
        ways = ("submission", "submissions", "smtp")
        way = self._chance.choice(ways[:2] if "HOLDFOR" in order.parameters else ways)
        if not order.vouched:
            way = "smtp"
        session = Session(self._ports[way])
        if way == "submissions":
            try:
                session.reader, session.writer = await asyncio.open_connection(
                    "127.0.0.1", self._ports[way], ssl=self._trust, server_hostname="127.0.0.1"
                )
            except OSError as error:
                raise Lost("connect") from error
            await session.reply("greeting")
            await session.say("EHLO user.test", "commands")
        else:
            await session.open("127.0.0.2" if way == "smtp" and order.vouched else "127.0.0.1")
        if way == "smtp":
            return session
        try:
            if way == "submission":
                if not (await session.say("STARTTLS", "commands")).startswith("220"):
                    raise Lost("STARTTLS")
                try:
                    await session.writer.start_tls(self._trust, server_hostname="127.0.0.1")
                except OSError as error:
                    raise Lost("handshake") from error
                await session.say("EHLO user.test", "commands")
            login = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
            if not (await session.say(f"AUTH PLAIN {login}", "commands")).startswith("235"):
                raise Lost("AUTH")
        except BaseException:
            session.cut()
            raise
        return session

    async def _attempt(self, order: Order, refused: dict[str, str], each: dict[str, str]) -> str:
        """One try: the reply that ends it. Raises Lost."""
        left = [one for one in order.named if one not in each]
        chance = self._chance
        session = await self._open(order)
        is_read = False
        try:
            await self._envelope(session, order, left, refused)
            accepted = [one for one in left if one not in refused]
            if not accepted:
                return next(iter(refused.values()))
            octets = order.octets
            if chance.random() < 0.3:
                places = sorted({0, len(octets), *(chance.randrange(len(octets)) for _ in range(3))})
                parts = [octets[a:b] for a, b in itertools.pairwise(places)]
                data = b"".join(b"BDAT %d\r\n%b" % (len(part), part) for part in parts) + b"BDAT 0 LAST\r\n"
                replies = len(parts)
            else:
                if not (reply := await session.say("DATA", "commands")).startswith("354"):
                    return reply
                data, replies = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n", 0
            await self._content(session, data)
            is_read = True
            for _ in range(replies):
                if not (reply := await session.reply("answer")).startswith("250"):
                    return reply
            reply = await session.reply("answer")
            if " PRDR" not in order.parameters:
                return reply
            replies_each = [reply] * len(accepted)
            if reply.startswith("353"):
                replies_each = [await session.reply("answer") for _ in accepted]
                reply = await session.reply("answer")
            each |= {one: said for one, said in zip(accepted, replies_each, strict=True) if said[0] in "25"}
            return next((said for said in replies_each if said[0] == "4"), reply)
        finally:
            # Who has not read to the end resets; with TLS the kernel does not know of that.
            session.cut(reset=not is_read or chance.random() < 0.3)

    async def _envelope(
        self, session: Session, order: Order, left: list[str], refused: dict[str, str]
    ) -> None:
        """MAIL and RCPTs for those who are `left`. Raises Lost."""
        words = [f"MAIL FROM:<{order.sender}>{order.parameters}"]
        words += [
            f"RCPT TO:<{one}>{f' NOTIFY={notify}' if (notify := order.named[one]) else ''}" for one in left
        ]
        session.writer.write("".join(f"{word}\r\n" for word in words).encode())
        replies = [await session.reply("commands") for _ in words]
        for reply in replies:
            if reply.startswith("4"):
                raise Lost(f"refused: {reply}")
        if not replies[0].startswith("250"):
            raise AssertionError(f"{words[0]}: {replies[0]}")
        refused.update({
            one: reply for one, reply in zip(left, replies[1:], strict=True) if reply[0] == "5"
        })  # fmt: skip

    async def _content(self, session: Session, data: bytes) -> None:
        """Send it in one manner or other. Raises Lost for those that end without an answer."""
        chance = self._chance
        manner = "whole" if self.stopping else chance.choice(MANNERS)
        await send_content(session, data, manner, chance, unread=1.0)
