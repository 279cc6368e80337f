"""A site with everything around it that can go wrong: mail stores, a relay, the world, milters, users.

`around` is a `Whole`: next hops by LMTP, by a relay and by MX records, over TLS; a DNS; a milter and a policy
server; users with wishes. All of them fail by chance until `settle`; `check` balances the books.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trustme

from mta.delivery.security.der import public_key_info
from tests.peers.chaos import BACKEND, NOTED, SEED
from tests.peers.chaosbooks import WishLedger, faults
from tests.peers.chaosdesk import Desk
from tests.peers.chaosusers import ALIAS_FILE, ARCHIVE, AUDIT, COPY, LONGEST, User
from tests.peers.fickle import Fickle, Tls
from tests.peers.fickledns import HOSTS, PINNED, SIGNED, FickleDns
from tests.peers.meddlers import Meddlers
from tests.peers.ports import free_port
from tests.peers.queuesite import QUICK, rows, waiting
from tests.peers.running import until
from tests.peers.site import Site

USERS = 10
POLICY = f"""
require ["vnd.tamis.stage", "vnd.tamis.envelope", "vnd.tamis.route", "vnd.tamis.queue",
    "vnd.tamis.policy_server", "envelope"];
stage "rcpt" {{
    policy_server "meddler";
    expand "table:aliases";
    if envelope :domain "to" "away.test" {{ route :to "relay:away"; }}
}}
stage "route" {{
    if envelope :domain "to" "away.test" {{ route :to "relay:away"; }}
}}
stage "data" {{
    if header "X-Wish" "bcc" {{ bcc "{AUDIT}"; }}
    if header "X-Wish" "add" {{ add_recipient "{COPY}"; }}
    if header "X-Wish" "addteam" {{ add_recipient "team@example.test"; }}
    if header "X-Wish" "journal" {{ journal "{ARCHIVE}"; }}
    if header "X-Wish" "hold" {{ hold "as you wish"; }}
}}
"""
_REST = """
[delivery]
deadline = "1.5s"
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
tls = "verify"
tls_ca = "{ca}"
connect_timeout = "1s"
failure_delay = "0.2s"
[tables.aliases]
type = "aliases"
file = "aliases"
[dns]
resolvers = ["127.0.0.1:{dns}"]
timeout = "0.5s"
[authentication]
checks = []
[outbound]
enabled = true
port = {port}
refused_networks = []
own_addresses = ["127.0.9.9"]
connect_timeout = "1s"
failure_delay = "0.2s"
[security]
mta_sts = false
capability_records = false
signed_names = ["{signed}"]
broken_names = []
[reports]
tls = false
dmarc = false
"""


class Whole:
    """All around one site."""

    def __init__(self, folder: Path) -> None:
        self.chance = random.Random(SEED)
        self.ledger = WishLedger()
        self.users: list[User] = []
        self._folder = folder
        self._lives: list[asyncio.Task[None]] = []
        self._authority = trustme.CA()
        self._port = free_port()

        def hop(host: str = "127.0.0.1", port: int = 0, tls: Tls | None = None, *keywords: str) -> Fickle:
            return Fickle(
                self.ledger, self.chance,
                host=host, port=port, tls=tls, keywords=keywords, longest=LONGEST,
            )  # fmt: skip

        leaf = self._authority.issue_cert("127.0.0.1", *HOSTS)
        other = trustme.CA().issue_cert("elsewhere.test")
        opportunistic, demanded = (Tls(_context(leaf), _context(other), demanded=d) for d in (False, True))
        mx = [(name, address) for name, address in HOSTS.items() if name != PINNED]
        self.one, self.two, self.other = hop(), hop(), hop("127.0.0.1", 0, None, "CHUNKING")
        self.relay = hop("127.0.0.1", 0, demanded)
        self.world = [
            *(hop(address, self._port, opportunistic, "CHUNKING") for _, address in mx),
            hop(HOSTS[PINNED], self._port, demanded, "DSN", "DELIVERBY", "CHUNKING"),
        ]
        self.hops = (self.one, self.two, self.other, self.relay, *self.world)
        self.meddlers = Meddlers(folder, self.chance)
        self.dns = FickleDns(self.chance, mail_port=self._port, key=_key(leaf))

    def roll(self) -> None:
        """Give all servers a new certificate, and the one with a TLSA record a new record."""
        leaf = self._authority.issue_cert("127.0.0.1", *HOSTS)
        for hop in self.hops:
            if hop.tls is not None:
                hop.tls = replace(hop.tls, right=_context(leaf))
        self.dns.publish(_key(leaf))

    def settings(self, queue: str = "", more: str = "") -> dict[str, str]:
        """Those of a site (`Site.set_up`) in the middle of it; `queue` and `more` are added."""
        (self._folder / "aliases").write_text(ALIAS_FILE)
        (self._folder / "policy.sieve").write_text(POLICY)
        ca = self._folder / "chaos-ca.pem"
        self._authority.cert_pem.write_to_path(ca)
        return {
            "backend": BACKEND.format(one=self.one.port, two=self.two.port),
            "recipients": "all",
            "policy": 'scripts = ["policy.sieve"]\n',
            "trusted": '["127.0.0.2/32"]',
            "queue": f'{QUICK}delay_warning = "3s"\n{queue}',
            "more": _REST.format(
                other=self.other.port,
                relay=self.relay.port,
                ca=ca,
                dns=self.dns.address.port,
                port=self._port,
                signed=SIGNED,
            )
            + self.meddlers.settings
            + more,
        }

    def populate(self, server: Site) -> Desk:
        """Let users begin; the administrator of the site."""
        ports = {"smtp": server.smtp, "submission": server.submission, "submissions": server.submissions}
        trust = server.trust()
        self.users = [User(n, SEED * 1000 + n, ports, trust, self.ledger.orders) for n in range(USERS)]
        self._lives = [asyncio.create_task(user.live()) for user in self.users]
        return Desk(server, self.ledger, self.chance, self._folder)

    def killed(self, seconds: float = NOTED + LONGEST) -> None:
        """A process was killed: what it did in the last seconds may not be noted."""
        self.ledger.killed(seconds, [name for user in self.users for name in user.open])

    async def settle(self, server: Site, desk: Desk) -> None:
        """Wait until all is answered, nobody owes an answer, and the queue is empty."""

        def empty() -> bool:
            desk.release(flush=True)
            return waiting(server) == 0

        for user in self.users:
            user.stopping = True
        self.dns.calm()
        self.meddlers.calm()
        for hop in self.hops:
            hop.calm()
        while not all(life.done() for life in self._lives):
            await asyncio.to_thread(desk.release)
            await asyncio.sleep(0.2)
        await asyncio.gather(*self._lives)
        # What a next hop has and has not answered yet is left to its answer: a flush would be an order.
        await asyncio.sleep(LONGEST)
        await asyncio.to_thread(until, empty, lambda: f"an empty queue: {rows(server)[:5]}")

    def check(self) -> None:
        """The books balance, and it was no quiet time."""
        answers = {name: one for user in self.users for name, one in user.answers.items()}
        wrong = faults(self.ledger, answers)
        names = {word for fault in wrong for word in fault.replace(";", " ").replace("'", " ").split()}
        history = [line for line in self.ledger.history if names & {line.split(" ", 3)[2]}]
        assert not wrong, "\n".join([*wrong, *history])
        assert len(answers) > 20, "it was a quiet time"

    def summary(self) -> str:
        """What happened, in numbers."""
        results = sum((user.results for user in self.users), Counter[str]())
        kinds = sum((hop.faults for hop in self.hops), Counter[str]())
        kinds += self.dns.faults + self.meddlers.faults
        copies = sum(self.ledger.has.values())
        return f"{time.strftime('%X')} {copies} copies, {dict(results)}, {dict(kinds)}"


def _key(leaf: trustme.LeafCert) -> str:
    """The SHA-256 of its public key."""
    pem = leaf.cert_chain_pems[0].bytes().decode()
    return hashlib.sha256(public_key_info(ssl.PEM_cert_to_DER_cert(pem))).hexdigest()


def _context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


@asynccontextmanager
async def whole(folder: Path) -> AsyncIterator[Whole]:
    """All of it, listening."""
    made = Whole(folder)
    async with AsyncExitStack() as stack:
        for hop in made.hops:
            await stack.enter_async_context(hop)
        await stack.enter_async_context(made.dns)
        await stack.enter_async_context(made.meddlers)
        yield made
